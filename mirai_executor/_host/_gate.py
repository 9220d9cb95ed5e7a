"""Has threads and coroutines wait until there is room for their calls in the queue of a host."""

from __future__ import annotations

import collections
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from mirai_executor._core import Admission
from mirai_executor._waiting import OneShotEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from mirai_executor._core import TaskId

__all__ = ["Gate", "NoRoomError"]

T = TypeVar("T")

_waits: ContextVar[bool] = ContextVar("mirai submit waits", default=True)
# How large the call was that was turned away last, and by which gate: to wait for room for it.
_turned_away: ContextVar[tuple[int, int]] = ContextVar("mirai call without room", default=(0, 0))


class NoRoomError(Exception):
    """A call was turned away. Never seen by users."""


class Gate:
    """Lets calls into the queue of one host. Any thread.

    Args:
        capacity: How many bytes of calls the queue has room for.

    Attributes:
        is_closed: Whether the host takes no more calls.
    """

    def __init__(self, capacity: int) -> None:
        self._admission = Admission(capacity)
        # Guards the admission. To ask the host thread, by its inbox, would take each call as long
        # as a task takes. Held for a few steps at a time. Reentrant: the handler of a signal may
        # submit, too, and strikes anywhere. The host thread never waits for it: an interrupt could
        # strike another thread that has just taken it.
        self._lock = threading.RLock()
        self._left: collections.deque[TaskId] = collections.deque()  # not noted yet
        self._told: dict[TaskId, Callable[[], object]] = {}  # by those who wait: what tells them
        self.is_closed: bool = False

    def picture(self) -> tuple[int, int, int]:
        """Return how many bytes are queued, how many ever were, and how many may be."""
        admission = self._admission
        return admission.used, admission.peak, admission.capacity

    # For who submits

    def try_to(self, submit: Callable[[], T]) -> T | None:
        """Submit something; None if there is no room for it now."""
        if not self._admission.fits(1):  # then nothing needs to be pickled
            self._turn_away(1)
            return None
        token = _waits.set(False)
        try:
            return submit()
        except NoRoomError:
            return None
        finally:
            _waits.reset(token)

    def enter(
        self, task: TaskId, size: int, timeout: float | None, may_wait: Callable[[], bool]
    ) -> bool:
        """Let a call in as soon as there is room.

        Args:
            task: Its id.
            size: Its bytes.
            timeout: Seconds to wait; None for as long as it takes.
            may_wait: Whether this thread may; else it is let in at once. Asked only if need be.

        Returns:
            False if there was no room in time, or until the gate was closed.

        Raises:
            NoRoomError: There is none now, and it is not to wait.
        """
        event = None
        with self._lock:
            has_room = self.is_closed or self._admission.fits(size)
            if not has_room and not _waits.get():
                self._turn_away(size)
                raise NoRoomError
            if has_room or not may_wait():
                self._admission.force(task, size)
            else:
                event = OneShotEvent()
                self._told[task] = event.come
                self._admission.ask(task, size)
        self._settle()
        if event is None:
            return True
        event.wait(timeout)
        return self._admission.is_queued(task)

    def when_room(self, task: TaskId, call: Callable[[], object]) -> None:
        """Call something once there is room for what this context was turned away with last.

        Args:
            task: A new id, for :meth:`give_up`.
            call: Is called on any thread, also if the gate is closed.
        """
        gate, size = _turned_away.get()
        with self._lock:
            waits = not self.is_closed and not self._admission.ask(
                task, size if gate == id(self) else 1, stays=False
            )
            if waits:
                self._told[task] = call
        self._settle()
        if not waits:
            call()

    def give_up(self, task: TaskId) -> None:
        """Forget a call that was let in, or waits, but will not be queued."""
        with self._lock:
            self._told.pop(task, None)
            admitted = self._admission.give_up(task)
        self._tell(admitted)
        self._settle()

    def _turn_away(self, size: int) -> None:
        _turned_away.set((id(self), size))

    # For the host

    def leave(self, tasks: Collection[TaskId]) -> None:
        """Note that tasks have been sent to a daemon, or have ended."""
        self._left.extend(tasks)
        self._settle()

    def _settle(self) -> None:
        """Note what has left, unless another thread has the lock: it does so then, afterwards."""
        while self._is_due() and self._lock.acquire(blocking=False):
            try:
                admitted = self._admission.turn_away() if self.is_closed else []
                left = [self._left.popleft() for _ in range(len(self._left))]
                admitted += self._admission.leave(left)
            finally:
                self._lock.release()
            self._tell(admitted)

    def _is_due(self) -> bool:
        return bool(self._left) or (self.is_closed and self._admission.has_waiting)

    def _tell(self, admitted: Iterable[TaskId]) -> None:
        for task in admitted:
            if (call := self._told.pop(task, None)) is not None:
                call()

    def close(self) -> None:
        """Have nobody wait any more."""
        self.is_closed = True
        self._settle()

    def forget(self) -> None:
        """In a forked child: another thread may have held the lock, and is not there to let go."""
        self._lock = threading.RLock()
        self._told.clear()
        self.is_closed = True
