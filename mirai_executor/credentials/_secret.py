"""Makes the secret that an executor shares with its daemons, and reads it back from text."""

import re
import secrets
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Secret", "new_secret"]

_SIZE = 32


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
            ValueError: It is no such text. The message does not quote it.
        """
        if not re.fullmatch(f"[0-9a-f]{{{2 * _SIZE}}}", text):
            raise ValueError(
                f"the secret is {2 * _SIZE} hexadecimal digits; what was given has "
                f"{len(text)} characters, or others"
            )
        return cls(bytes.fromhex(text))

    @property
    def text(self) -> str:
        """Return the secret in letters and digits, for an environment variable or a file."""
        return self.key.hex()


def new_secret() -> Secret:
    """Return a fresh secret of 32 random bytes."""
    return Secret(secrets.token_bytes(_SIZE))
