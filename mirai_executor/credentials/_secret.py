"""Makes the secret that an executor shares with its daemons, and carries it to them."""

import itertools
import re
import secrets
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Self

from ._tls import TlsVersion

__all__ = ["DaemonCredentials", "Secret", "given_secret", "new_secret"]

_SIZE = 32
_SECRET = "MIRAI_EXECUTOR_SECRET"  # noqa: S105 - the name of a variable
_CERTIFICATE = "MIRAI_EXECUTOR_CERTIFICATE"
_SERVER_NAME = "MIRAI_EXECUTOR_SERVER_NAME"
# Characters of a variable: Linux takes up to 128 KiB in one, and authorities come in bundles.
_PIECE = 100_000
_TLS_MINIMUM = "MIRAI_EXECUTOR_TLS_MINIMUM"


@dataclass(frozen=True)
class Secret:
    """What host and daemons know and nobody else: who holds it runs code as its owner.

    Its ``repr`` does not show it.
    """

    key: bytes = field(repr=False)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the secret that :attr:`text` was made from.

        Raises:
            ValueError: It is not such a text. The message does not quote it.
        """
        if not re.fullmatch(f"[0-9a-f]{{{2 * _SIZE}}}", text):
            raise ValueError(
                f"{_SECRET} must be {2 * _SIZE} hexadecimal digits, in lower case "
                f"(got {len(text)} characters)"
            )
        return cls(bytes.fromhex(text))

    @property
    def text(self) -> str:
        """Return the secret in letters and digits, for an environment variable or a file."""
        return self.key.hex()


def new_secret() -> Secret:
    """Return a fresh secret of 32 random bytes."""
    return Secret(secrets.token_bytes(_SIZE))


def given_secret(environment: Mapping[str, str]) -> Secret | None:
    """Return the secret that the environment has for a host; None if there is none.

    Raises:
        ValueError: It is not a secret. The message does not quote it.
    """
    text = environment.get(_SECRET, "")
    return Secret.from_text(text) if text else None


def _nth_certificate(number: int) -> str:
    return _CERTIFICATE if number == 1 else f"{_CERTIFICATE}_{number}"


@dataclass(frozen=True)
class DaemonCredentials:
    """What a daemon needs to prove itself, and to recognise its host; it travels as environment.

    Args:
        secret: The secret of the executor.
        certificate: The PEM text that it trusts, where the address is one of TLS.
        server_name: The name that the host's certificate bears.
        tls_minimum: The oldest version of TLS that it speaks.
    """

    secret: Secret
    certificate: str = field(default="", repr=False)
    server_name: str = ""
    tls_minimum: TlsVersion = TlsVersion.TLS_1_3

    @classmethod
    def take_from(cls, environment: MutableMapping[str, str]) -> Self:
        """Take them out of an environment, so that what the daemon starts does not get them.

        Raises:
            ValueError: There is no secret, or a value is invalid.
        """
        names = (_SECRET, _SERVER_NAME, _TLS_MINIMUM)
        secret, server_name, minimum = (environment.pop(name, "") for name in names)
        variables = map(_nth_certificate, itertools.count(1))
        pieces = (environment.pop(name, "") for name in variables)
        certificate = "".join(itertools.takewhile(bool, pieces))
        if not secret:
            raise ValueError(
                f"the environment variable {_SECRET} is not set: start the daemon with a "
                "launcher, or with the whole command that launch_remote() returned"
            )
        oldest = TlsVersion(minimum) if minimum else TlsVersion.TLS_1_3
        return cls(Secret.from_text(secret), certificate, server_name, oldest)

    @property
    def environment(self) -> dict[str, str]:
        """Return them as variables of an environment."""
        text = self.certificate
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        variables = {
            _SECRET: self.secret.text,
            **{_nth_certificate(number): piece for number, piece in enumerate(pieces, 1)},
            _SERVER_NAME: self.server_name,
            _TLS_MINIMUM: "" if self.tls_minimum is TlsVersion.TLS_1_3 else self.tls_minimum.value,
        }
        return {name: value for name, value in variables.items() if value}
