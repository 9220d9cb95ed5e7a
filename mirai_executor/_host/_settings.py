"""What a host is told: before its first task, with each task, and where daemons connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mirai_executor._record import Record, made_by

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mirai_executor._core import Policy
    from mirai_executor._payload.host import Mode
    from mirai_executor._transport import Listener
    from mirai_executor.credentials import Certificate, Secret
    from mirai_executor.launchers import LocalLauncher

__all__ = ["Entrance", "Limits", "Settings"]


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


class Settings(Record):
    """What a host is to know before its first task."""

    policy: Policy
    launcher: LocalLauncher
    cleanup: bool = True
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    name: str | None = None
    entrance: Entrance | None = None  # where daemons come in by themselves
    heartbeat: float = 5.0  # seconds between their signs of life
    main: Mode = "auto"  # whether daemons import the main module


class Limits(Record):
    """What a task may take.

    Args:
        timeout: Seconds from its submission.
        run_timeout: Seconds from the start of its execution.
        retries: How often it may run again after its daemon was lost.
        cancel_running: Whether ``cancel()`` also stops it while it runs.
    """

    timeout: float | None = None
    run_timeout: float | None = None
    retries: int = 0
    cancel_running: bool = True
