"""Remembers how long tasks of each kind take, so that short ones can share a frame."""

from collections import OrderedDict

_PROOF = (
    3  # tasks of a kind that must have ended before its next ones are expected to be like them
)
_MEMORY = 1024  # kinds; the one that was not heard of for longest is forgotten
_WEIGHT = 0.2  # of the last task in the average


class Durations:
    """What is known about each kind of task.

    An average that follows the last tasks (exponentially weighted), but jumps up at once: to take
    a short task for a long one costs a little time, the reverse holds others up.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[int, float]] = OrderedDict()  # how many, the average

    def expected(self, kind: int | None) -> float | None:
        """Return how many seconds a task will take; None if there is no telling."""
        if kind is None:
            return None
        count, seconds = self._known.get(kind, (0, 0.0))
        return seconds if count >= _PROOF else None

    def note(self, kind: int | None, seconds: float | None) -> None:
        """Learn from a task that has ended."""
        if kind is None or seconds is None:
            return
        count, average = self._known.get(kind, (0, seconds))
        average = max(seconds, average + _WEIGHT * (seconds - average))
        self._known[kind] = (min(count + 1, _PROOF), average)
        self._known.move_to_end(kind)
        if len(self._known) > _MEMORY:
            self._known.popitem(last=False)

    def distrust(self, kind: int | None) -> None:
        """Forget what was known: a task of this kind takes much longer."""
        if kind is not None:
            self._known.pop(kind, None)
