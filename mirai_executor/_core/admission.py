"""Decides how many bytes of calls may be queued at a host, and whose call waits for room.

::

    ask ──► there is room: it is queued, and counts ──► leave: it counts no more
       └──► there is none: it waits, first in first out ──► queued, as others leave

A call that is larger than all the room is queued by itself, when nothing else is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from .messages import TaskId

__all__ = ["Admission"]


class Admission:
    """The bytes of one host's queued calls. Not thread-safe.

    Args:
        capacity: How many there may be.

    Attributes:
        used: How many there are.
        peak: The most that there have been.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.used = self.peak = 0
        self._queued: dict[TaskId, int] = {}
        self._waiting: OrderedDict[TaskId, tuple[int, bool]] = OrderedDict()

    @property
    def has_waiting(self) -> bool:
        """Whether a call waits."""
        return bool(self._waiting)

    def fits(self, size: int) -> bool:
        """Tell whether a call of so many bytes may be queued now, as nobody waits."""
        return not self._waiting and self._has_room(size)

    def _has_room(self, size: int) -> bool:
        return not self.used or self.used + size <= self.capacity

    def ask(self, task: TaskId, size: int, *, stays: bool = True) -> bool:
        """Queue a call if it fits; else it waits.

        Args:
            task: Its id.
            size: Its bytes.
            stays: Whether it counts from then on; False only asks for the moment at which it may.

        Returns:
            False if it waits.
        """
        if not self.fits(size):
            self._waiting[task] = size, stays
            return False
        if stays:
            self.force(task, size)
        return True

    def force(self, task: TaskId, size: int) -> None:
        """Queue a call whether it fits or not."""
        self._queued[task] = size
        self.used += size
        self.peak = max(self.peak, self.used)

    def is_queued(self, task: TaskId) -> bool:
        """Tell whether a call counts."""
        return task in self._queued

    def leave(self, tasks: Iterable[TaskId]) -> list[TaskId]:
        """Note that calls have been sent, or have ended; return those that need wait no longer."""
        for task in tasks:
            self.used -= self._queued.pop(task, 0)
        return self._admit()

    def give_up(self, task: TaskId) -> list[TaskId]:
        """Forget a call, however far it has come; what it may have left half done is put right."""
        self._waiting.pop(task, None)
        self._queued.pop(task, None)
        self.used = sum(self._queued.values())
        return self._admit()

    def turn_away(self) -> list[TaskId]:
        """Have nobody wait any more; return who did."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def _admit(self) -> list[TaskId]:
        admitted = []
        while self._waiting:
            task, (size, stays) = next(iter(self._waiting.items()))
            if not self._has_room(size):
                break
            del self._waiting[task]
            if stays:
                self.force(task, size)
            admitted.append(task)
        return admitted
