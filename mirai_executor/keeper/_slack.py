"""Drops what need not be sent where the line is too slow for it.

That is what tasks say beside their outcomes, behind which results would come, and of which this
process would keep whatever a task logs; and the outcomes of tasks that the host has stopped.
"""

from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from mirai_executor import _wire
from mirai_executor._transport import FarLink, PendingFrame

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
        self._outcomes: WeakValueDictionary[int, PendingFrame] = WeakValueDictionary()  # by task
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

    def note(self, ended: Sequence[int]) -> None:
        """Note that the frame that was sent last says how these tasks have ended."""
        if len(ended) == 1 and (waits := self._link.last) is not None:
            self._outcomes[ended[0]] = waits

    def answer(self, task: int, *, ended: bool, leaving: bool) -> _wire.Outcomes:
        """Return what the host gets at once for a task that it has stopped.

        Args:
            task: The task. No more of its outcome is sent; if that has left, the host drops one.
            ended: It has run, to its end; else it never will.
            leaving: The daemon has said that it has to leave; perhaps in that outcome.
        """
        if (waits := self._outcomes.pop(task, None)) is not None:
            self._link.drop(waits)
        skipped = _wire.WireOutcome(
            *(task, _wire.OutcomeStatus.SKIPPED),
            leaving=ended and leaving,
            payload=b"",
            nanoseconds=int(ended),  # then it counts for the limits of the daemon
        )
        return _wire.Outcomes((skipped,))

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
