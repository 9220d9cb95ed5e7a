"""What one daemon has to do for ``everywhere``, as its future knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirai_executor._core import BroadcastId, DaemonId, TaskId

    from ._host import Host


class Share:
    """What one daemon has to do for ``everywhere``, to be cancelled."""

    def __init__(self, host: Host, daemon: DaemonId, broadcast: BroadcastId) -> None:
        self._host, self._daemon, self._broadcast = host, daemon, broadcast
        self.owns_this_thread, self.call_soon = host.owns_this_thread, host.call_soon

    def cancel(self, _: TaskId, *, running: bool) -> None:
        """Stop it; with ``running`` also if it runs. Safe from any thread."""
        self._host.cancel_share(self._daemon, self._broadcast, running=running)
