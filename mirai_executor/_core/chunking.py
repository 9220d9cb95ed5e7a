"""Decides how many elements of a map make a chunk: one task, which costs what one task costs."""

from __future__ import annotations

from collections import OrderedDict

# Seconds that the elements of a chunk may take together, as those tasks that share a frame: they
# wait for each other, and a daemon that dies takes the results of a chunk with it.
_WORK = 2.5e-3
_MOST = 256  # elements: beyond, they cost more than their share of a task
_CHUNKS = 4  # for each daemon, at least: they will not all take equally long
_SHARES = 2  # for each daemon, of what is left: the last chunks become shorter and shorter
_LEAST = 0.5e-3  # seconds of work in a chunk, as far as there is enough: it costs about a third

_MEMORY = 1024  # kinds
_WEIGHT = 0.1  # of a slower one in what is expected
_OUTLIER = 4.0  # times what was expected: what takes longer counts as so much


def chunk_size(seconds: float | None, count: int, daemons: int, left: int | None = None) -> int:
    """Return how many elements are to make the next chunk; 1 if it is to be a task of its own.

    Args:
        seconds: How long one is expected to take; None if there is no telling.
        count: How many there are.
        daemons: How many daemons share them.
        left: How many of them are not in a chunk yet; None for all.
    """
    left = count if left is None else left
    if seconds is None or left < 2:
        return 1
    by_work = _MOST if seconds * _MOST <= _WORK else int(_WORK / seconds)
    daemons = max(1, daemons)
    most = max(1, min(by_work, _MOST, count // (_CHUNKS * daemons)))
    least = min(most, _MOST if seconds * _MOST <= _LEAST else 1 + int(_LEAST / seconds))
    return min(left, max(least, min(most, left // (_SHARES * daemons))))


class Paces:
    """How long the elements of each kind take, where nothing gets in their way.

    What is expected falls at once to what has been measured, and rises slowly, the reverse of
    ``Durations``: a chunk that takes too long is cut off, and a process that had to wait for its
    processor says little about the next one.
    """

    def __init__(self) -> None:
        self._seconds: OrderedDict[int, float] = OrderedDict()

    def expected(self, kind: int | None) -> float | None:
        """Return how many seconds an element will take; None if there is no telling."""
        return None if kind is None else self._seconds.get(kind)

    def note(self, kind: int | None, seconds: float) -> None:
        """Learn from elements that took so many seconds each."""
        if kind is None:
            return
        before = self._seconds.get(kind)
        if before is not None and seconds > before:
            seconds = before + _WEIGHT * (min(seconds, _OUTLIER * before) - before)
        self._seconds[kind] = seconds
        if len(self._seconds) > _MEMORY:
            self._seconds.popitem(last=False)
