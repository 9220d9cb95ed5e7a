"""Where daemons connect, as data: listening sockets, and the secret to prove there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._transport import Listener
    from mirai_executor.credentials import Certificate, Secret

__all__ = ["Entrance"]


@dataclass(frozen=True)
class Entrance:
    """Where daemons come in, and what they have to prove.

    Args:
        listeners: The sockets, open.
        secret: What daemons know and nobody else.
        certificate: What is shown at addresses with TLS.
        files: What lies elsewhere for daemons to read, until nobody comes any more.
    """

    listeners: "Sequence[Listener]"
    secret: "Secret"
    certificate: "Certificate | None" = None
    files: set[Path] = field(default_factory=set)

    def close(self) -> None:
        """Stop listening, and leave no file behind."""
        for listener in self.listeners:
            listener.close()
        while self.files:
            self.files.pop().unlink(missing_ok=True)
