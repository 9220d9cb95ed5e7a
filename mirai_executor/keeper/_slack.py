"""Drops what tasks say beside their outcomes where the line is too slow for it.

Results would come behind it, and this process would keep whatever a task logs.
"""

from collections.abc import Callable

from mirai_executor import _wire
from mirai_executor._transport import FarLink

__all__ = ["Slack"]

_BEHIND = 256  # frames that wait for a slow line until reports and log records are dropped

Data = bytes | bytearray | memoryview


class Slack:
    """What may wait for the line to the host.

    Args:
        link: Leads there.
        say: Sends the host a frame.
    """

    def __init__(self, link: FarLink, say: Callable[[_wire.Frame], None]) -> None:
        self._link = link
        self._say = say
        # Of log records, which are dropped as a whole.
        self._begins, self._drops = True, False
        self._lost = self._told = 0
        self._last = _wire.LogPiece(0, 0, more=False, piece=b"")

    def keep(self, data: Data) -> Data | None:
        """Return what the host is to get of a daemon's frame; None if that is to be dropped."""
        if _wire.is_log(data):
            return self._keep_log(data)
        if _wire.is_report(data):
            return None if self._is_behind else data
        if self._lost > self._told and _wire.ended_tasks(data):
            self._told = self._lost
            self._say(self._with_lost(b""))
        return data

    @property
    def _is_behind(self) -> bool:
        return self._link.backlog > _BEHIND

    def _keep_log(self, data: Data) -> Data | None:
        piece = _wire.decode(data)
        assert isinstance(piece, _wire.LogPiece)  # noqa: S101 - for the type checker
        self._last = piece
        if self._begins:
            self._drops = self._is_behind
            self._lost += self._drops
        self._begins = not piece.more
        if self._drops:
            return None
        self._told = self._lost
        return _wire.encode(self._with_lost(piece.piece)) if self._lost else data

    def _with_lost(self, data: _wire.Bytes) -> _wire.LogPiece:
        last = self._last
        more = last.more and bool(data)
        return _wire.LogPiece(last.number, last.lost + self._lost, more, data)
