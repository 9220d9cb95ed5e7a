"""Where daemons connect, as data: listening sockets, and the secret to prove there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirai_executor._record import Record, made_by

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mirai_executor._transport import Listener
    from mirai_executor.credentials import Certificate, Secret

__all__ = ["Entrance"]


class Entrance(Record):
    """Where daemons come in, and what they have to prove.

    Args:
        listeners: The sockets, open.
        secret: What daemons know and nobody else.
        certificate: What is shown at addresses with TLS.
        files: What lies elsewhere for daemons to read, until nobody comes any more.
    """

    listeners: Sequence[Listener]
    secret: Secret
    certificate: Certificate | None = None
    files: set[Path] = made_by(factory=set)

    def close(self) -> None:
        """Stop listening, and leave no file behind."""
        for listener in self.listeners:
            listener.close()
        while self.files:
            self.files.pop().unlink(missing_ok=True)
