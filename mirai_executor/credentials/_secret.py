"""Makes the secret that an executor shares with its daemons, and carries it to them."""

import contextlib
import hmac
import itertools
import os
import re
import secrets
import struct
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from ._tls import TlsVersion

_SIZE = 32
_U64, _U32 = struct.Struct("<Q"), struct.Struct("<I")
_SECRET = "MIRAI_EXECUTOR_SECRET"  # noqa: S105 - the name of a variable
_ENV_START, _ENV_END = 47, 48  # fields of /proc/self/stat, behind the name of the program: proc(5)
_CERTIFICATE = "MIRAI_EXECUTOR_CERTIFICATE"
_SERVER_NAME = "MIRAI_EXECUTOR_SERVER_NAME"
# Characters of a variable: Linux takes up to 128 KiB in one, and authorities come in bundles.
_PIECE = 100_000
_TLS_MINIMUM = "MIRAI_EXECUTOR_TLS_MINIMUM"


@dataclass(frozen=True)
class Secret:
    """What host and daemons know and nobody else: whoever holds it runs code as its owner.

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

    def token(self, launch: int = 0, member: int = 0) -> "Token":
        """Return the token of a launch, or of one of its daemons."""
        key = hmac.digest(self.key, b"mirai-executor launch " + _U64.pack(launch), "sha256")
        of_launch = Token(key, TokenId(launch, 0))
        return of_launch.member(member) if member else of_launch

    def new_token(self) -> "Token":
        """Return a token for daemons that are asked for now."""
        return self.token(launch=secrets.randbits(64) or 1)


class TokenId(NamedTuple):
    """Which token of an executor it is.

    Args:
        launch: A random number for all daemons that were asked for at once; 0 for whoever has the
            secret itself.
        member: A random number for one of them; 0 for a token that several may have.
    """

    launch: int
    member: int


@dataclass(frozen=True)
class Token:
    """What daemons of one launch, or one of them, have in place of the secret.

    The host derives it again from its number. Whoever has one can neither derive the secret nor
    another launch's token from it, and so cannot pose as the host to daemons that have another.
    """

    key: bytes = field(repr=False)
    id: TokenId

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the token that :attr:`text` was made from.

        Raises:
            ValueError: It is not such a text. The message does not quote it.
        """
        found = re.fullmatch(rf"([0-9a-f]{{16}})-([0-9a-f]{{8}})-([0-9a-f]{{{2 * _SIZE}}})", text)
        if found is None:
            raise ValueError(
                f"{_SECRET} must be {2 * _SIZE} hexadecimal digits, in lower case, or what "
                f"launch_remote() returned (got {len(text)} characters)"
            )
        return cls(bytes.fromhex(found[3]), TokenId(int(found[1], 16), int(found[2], 16)))

    @property
    def text(self) -> str:
        """Return the token in digits, letters and dashes, for the environment or a file."""
        return f"{self.id.launch:016x}-{self.id.member:08x}-{self.key.hex()}"

    def new_member(self) -> Self:
        """Return a token for one daemon of this launch."""
        return self.member(secrets.randbits(32) or 1)

    def member(self, number: int) -> Self:
        """Return the token of one daemon of this launch, by its number."""
        key = hmac.digest(self.key, b"mirai-executor daemon " + _U32.pack(number), "sha256")
        return type(self)(key, TokenId(self.id.launch, number))


def new_secret() -> Secret:
    """Return a fresh secret of 32 random bytes."""
    return Secret(secrets.token_bytes(_SIZE))


def given_secret(environment: MutableMapping[str, str]) -> Secret | None:
    """Take the secret that an environment has for a host out of it; None if there is none.

    Raises:
        ValueError: It is not a secret, or one that can be guessed. The message does not quote it.
    """
    text = _take(environment)
    if not text:
        return None
    secret = Secret.from_text(text)
    if _is_guessable(secret.key):
        raise ValueError(
            f"{_SECRET} is no random number, so others could guess it; make one by "
            'python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return secret


def _is_guessable(key: bytes) -> bool:
    """Tell whether bytes repeat themselves, or count, as no random ones in 10**14 do."""
    steps = {(after - before) % 256 for before, after in itertools.pairwise(key)}
    return min(len(set(key)), len(steps)) < _SIZE // 2


def _take(environment: MutableMapping[str, str]) -> str:
    """Remove the secret, also where the kernel shows what this process was started with."""
    text = environment.pop(_SECRET, "")
    if text and environment is os.environ:
        _wipe(_SECRET)
    return text


def _nth_certificate(number: int) -> str:
    return _CERTIFICATE if number == 1 else f"{_CERTIFICATE}_{number}"


def _wipe(name: str) -> None:
    """Overwrite the value of a variable where the kernel shows the environment of this process.

    What it was started with stays in /proc/PID/environ, which every task of this user can read.
    Where the system has no such files, do nothing.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        start, end = _place_of_environment()
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            at = start
            # Nothing else may change: other variables are read from there, too.
            for line in os.pread(memory, end - start, start).split(b"\0"):
                found, is_set, value = line.partition(b"=")
                if is_set and found == name.encode():
                    os.pwrite(memory, b"*" * len(value), at + len(found) + 1)
                at += len(line) + 1
        finally:
            os.close(memory)


def _place_of_environment() -> tuple[int, int]:
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123 - a keeper does without pathlib
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[_ENV_START]), int(fields[_ENV_END])


@dataclass(frozen=True)
class DaemonCredentials:
    """What a daemon needs to prove itself, and to recognise its host; it travels as environment.

    Args:
        secret: The token that daemons have in place of the executor's secret; or that itself.
        certificate: The PEM text that it trusts, where the address is one of TLS.
        server_name: The name that the host's certificate bears.
        tls_minimum: The oldest version of TLS that it speaks.
    """

    secret: Secret | Token
    certificate: str = field(default="", repr=False)
    server_name: str = ""
    tls_minimum: TlsVersion = TlsVersion.TLS_1_3

    @classmethod
    def take_from(cls, environment: MutableMapping[str, str]) -> Self:
        """Take them out of an environment, so that what the daemon starts does not get them.

        Raises:
            ValueError: There is no secret, or a value is invalid.
        """
        secret = _take(environment)
        names = (_SERVER_NAME, _TLS_MINIMUM)
        server_name, minimum = (environment.pop(name, "") for name in names)
        variables = map(_nth_certificate, itertools.count(1))
        pieces = (environment.pop(name, "") for name in variables)
        certificate = "".join(itertools.takewhile(bool, pieces))
        if not secret:
            raise ValueError(
                f"the environment variable {_SECRET} is not set: start the daemon with a "
                "launcher, or with the whole command that launch_remote() returned"
            )
        oldest = TlsVersion(minimum) if minimum else TlsVersion.TLS_1_3
        known = Token.from_text(secret) if "-" in secret else Secret.from_text(secret)
        return cls(known, certificate, server_name, oldest)

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
