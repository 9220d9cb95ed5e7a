"""Remembers how long tasks of each kind take, so that short ones can share a frame."""

from __future__ import annotations

from collections import OrderedDict

from mirai_executor._record import Mutable

_PROOF = (
    3  # tasks of a kind that must have ended before its next ones are expected to be like them
)
_MEMORY = 1024  # kinds; the one that was not heard of for longest is forgotten
_WEIGHT = 0.2  # of the last task in the average
_FALL = 0.5  # of the average: so far it falls at once where a task is shorter still
_STIR = 32  # tasks after which a kind counts as heard of


class _Known(Mutable):
    count: int  # tasks that have ended
    seconds: float  # on average


class Durations:
    """What is known about each kind of task.

    An average that follows the last tasks (exponentially weighted), but jumps up at once: to take
    a short task for a long one costs a little time, the reverse holds others up. After one task of
    a second among those of a millisecond, ten of these are needed to believe in them again.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Known] = OrderedDict()

    def expected(self, kind: int | None) -> float | None:
        """Return how many seconds a task will take; None if there is no telling."""
        if kind is None:
            return None
        known = self._known.get(kind)
        return known.seconds if known is not None and known.count >= _PROOF else None

    def note(self, kind: int | None, seconds: float | None) -> None:
        """Learn from a task that has ended."""
        if kind is None or seconds is None:
            return
        known = self._known.get(kind)
        if known is None:
            self._known[kind] = _Known(1, seconds)
            if len(self._known) > _MEMORY:
                self._known.popitem(last=False)
            return
        known.count += 1
        if seconds > known.seconds:
            known.seconds = seconds
        elif seconds < _FALL * known.seconds:
            known.seconds *= _FALL
        else:
            known.seconds += _WEIGHT * (seconds - known.seconds)
        if known.count % _STIR == 0:
            self._known.move_to_end(kind)

    def distrust(self, kind: int | None) -> None:
        """Forget what was known: a task of this kind takes much longer."""
        if kind is not None:
            self._known.pop(kind, None)
