"""Decides how many bytes of calls may be queued at a host, and whose call waits for room.

::

    there is room: it is queued, and counts ──► it leaves: it counts no more
    there is none: it waits, first in first out ──► queued, as others leave

A call that is larger than all the room is queued by itself, when nothing else is. Nothing here is
ever changed: each step has a new value, so that who is interrupted leaves none half done.
"""

from __future__ import annotations

from collections.abc import Collection

from mirai_executor._typing import NamedTuple

from .messages import TaskId


class WaitingCall(NamedTuple):
    """A call that waits for room.

    Args:
        task: Its id.
        size: Its bytes.
        stays: Whether it counts from then on; False only asks for the moment at which it may.
    """

    task: TaskId
    size: int
    stays: bool = True


class Admission(NamedTuple):
    """The bytes of one host's queued calls.

    Args:
        capacity: How many there may be.
        used: How many there are.
        peak: The most that there have been.
        waiting: Whose calls wait, in this order.
        is_closed: Whether nobody waits any more, whether there is room or not.
    """

    capacity: int
    used: int = 0
    peak: int = 0
    waiting: tuple[WaitingCall, ...] = ()
    is_closed: bool = False

    def fits(self, size: int) -> bool:
        """Tell whether a call of so many bytes may be queued now, as nobody waits."""
        return self.is_closed or (not self.waiting and self.has_room(size))

    def has_room(self, size: int) -> bool:
        """Tell whether there is room for so many bytes, whoever waits."""
        return not self.used or self.used + size <= self.capacity

    def with_call(self, size: int) -> Admission:
        """Queue a call, whether it fits or not."""
        capacity, used, peak, waiting, is_closed = self
        used += size
        fields = capacity, used, used if used > peak else peak, waiting, is_closed
        return tuple.__new__(Admission, fields)  # at half the cost of Admission(...)

    def with_waiting(self, call: WaitingCall) -> Admission:
        """Have a call wait."""
        return _with(self, self.used, (*self.waiting, call))

    def without(
        self, size: int, tasks: Collection[TaskId] = ()
    ) -> tuple[Admission, tuple[WaitingCall, ...]]:
        """Note that calls have been sent, have ended, or were given up.

        Args:
            size: The bytes of those that were queued.
            tasks: Those that wait no longer.

        Returns:
            What follows, and who need wait no longer; all, if it is closed.
        """
        waiting = self.waiting
        if tasks and waiting:
            waiting = tuple(call for call in waiting if call.task not in tasks)
        now = _with(self, self.used - size, waiting)
        if self.is_closed:
            return _with(now, now.used, ()), waiting
        admitted = 0
        for call in waiting:
            if not now.has_room(call.size):
                break
            admitted += 1
            if call.stays:
                now = now.with_call(call.size)
        return _with(now, now.used, waiting[admitted:]), waiting[:admitted]

    def closed(self) -> Admission:
        """Have everybody go on from now on; who waits already does until others leave."""
        return Admission(self.capacity, self.used, self.peak, self.waiting, True)


def _with(now: Admission, used: int, waiting: tuple[WaitingCall, ...]) -> Admission:
    return Admission(now.capacity, used, now.peak, waiting, now.is_closed)
