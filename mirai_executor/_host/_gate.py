"""Has threads and coroutines wait until there is room for their calls in the queue of a host.

::

    any thread: room? ──► yes: the next step of the chain, in one go ──► queued
                    └───► no: the next step says that it waits ──► its event
    the host thread: what has left ──► the next step ──► those who may go on are told

A lock would stay locked if a KeyboardInterrupt struck its holder. So there is none: the bytes
that are queued are an immutable value, and of two threads that would replace it only one does; the
other looks again. What has to follow a step is for the host thread, which nothing interrupts.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from mirai_executor._core import Admission, WaitingCall
from mirai_executor._waiting import OneShotEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mirai_executor._core import TaskId

T = TypeVar("T")

_waits: ContextVar[bool] = ContextVar("mirai submit waits", default=True)
# How large the call was that was turned away last, and by which gate: to wait for room for it.
_turned_away: ContextVar[tuple[int, int]] = ContextVar("mirai call without room", default=(0, 0))


class NoRoomError(Exception):
    """A call was turned away. Never seen by users.

    Args:
        size: Its bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _Step:
    """One value after another: a chain of which each link gets one successor, and keeps it.

    Args:
        value: What holds from here on.
        task: The call that was queued by that, if one was.
        size: Its bytes.
    """

    __slots__ = ("_behind", "size", "task", "value")

    def __init__(self, value: Admission, task: TaskId | None = None, size: int = 0) -> None:
        self.value = value
        self.task = task
        self.size = size
        self._behind: dict[None, _Step] = {}

    @property
    def next(self) -> _Step | None:
        return self._behind.get(None)

    def is_followed_by(self, step: _Step) -> bool:
        """Put a step behind this one, unless another thread was faster; True if that is done."""
        return self._behind.setdefault(None, step) is step


class Gate:
    """Lets calls into the queue of one host. Any thread, unless something else is said.

    Args:
        capacity: How many bytes of calls the queue has room for.
    """

    def __init__(self, capacity: int) -> None:
        self._last = self._noted = _Step(Admission(capacity))  # or some that are behind these
        self._left: collections.deque[TaskId] = collections.deque()  # not noted yet
        self._sizes: dict[TaskId, int] = {}  # of calls that count, as far as noted
        self._told: dict[TaskId, Callable[[], object]] = {}  # by those who wait: what tells them

    def _newest(self) -> _Step:
        step = self._last
        while (later := step.next) is not None:
            self._last = step = later
        return step

    @property
    def is_closed(self) -> bool:
        """Whether the host takes no more calls."""
        return self._newest().value.is_closed

    def picture(self) -> tuple[int, int, int]:
        """Return how many bytes are queued, how many ever were, and how many may be."""
        now = self._newest().value
        return now.used, now.peak, now.capacity

    # For whoever submits

    def try_to(self, submit: Callable[[], T]) -> T | None:
        """Submit something; None if there is no room for it now."""
        if not self._newest().value.fits(1):  # then nothing needs to be pickled
            self._turn_away(1)
            return None
        context = contextvars.copy_context()  # which ends with this, wherever that is struck
        context.run(_waits.set, False)
        try:
            return context.run(submit)
        except NoRoomError as error:
            self._turn_away(error.size)
            return None

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
        while True:
            last = self._newest()
            has_room = last.value.fits(size)
            if not has_room and not _waits.get():
                raise NoRoomError(size)
            if not has_room and may_wait():
                event = OneShotEvent()
                if self._waits_behind(last, WaitingCall(task, size), event.come):
                    event.wait(timeout)
                    return task in self._sizes
            elif last.is_followed_by(_Step(last.value.with_call(size), task, size)):
                return True

    def when_room(self, task: TaskId, call: Callable[[], object]) -> None:
        """Call something once there is room for what this context was turned away with last.

        Args:
            task: A new id, for :meth:`give_up`.
            call: Is called on any thread, also if the gate is closed.
        """
        gate, size = _turned_away.get()
        waiting = WaitingCall(task, size if gate == id(self) else 1, stays=False)
        while not (last := self._newest()).value.fits(waiting.size):
            if self._waits_behind(last, waiting, call):
                return
        call()

    def _waits_behind(self, last: _Step, call: WaitingCall, tell: Callable[[], object]) -> bool:
        self._told[call.task] = tell  # first: from the step on, it may be called
        if last.is_followed_by(_Step(last.value.with_waiting(call))):
            return True
        del self._told[call.task]
        return False

    def give_up(self, task: TaskId) -> None:
        """Forget a call that was let in, or waits, but will not be queued; then admit others."""
        self._told.pop(task, None)
        self._left.append(task)

    def _turn_away(self, size: int) -> None:
        _turned_away.set((id(self), size))

    def close(self) -> None:
        """Have nobody wait from now on; whoever does already hears of it at the next admit()."""
        while not (last := self._newest()).value.is_closed:
            last.is_followed_by(_Step(last.value.closed()))

    # For the host thread

    def leave(self, tasks: Iterable[TaskId]) -> None:
        """Note that tasks have been sent to a daemon, or have ended."""
        self._left.extend(tasks)
        self.admit()

    def admit(self) -> None:
        """Note what has left, and tell those who need wait no longer."""
        gone: set[TaskId] = set()
        with contextlib.suppress(IndexError):  # a finalizer may add some meanwhile
            while True:
                gone.add(self._left.popleft())
        self._note_entered()
        size = sum(self._sizes.pop(task, 0) for task in gone)
        while True:
            last = self._newest()
            value, admitted = last.value.without(size, gone)
            if last.is_followed_by(_Step(value)):
                break
        for call in admitted:
            if call.stays and not value.is_closed:
                self._sizes[call.task] = call.size
            if (tell := self._told.pop(call.task, None)) is not None:
                tell()

    def _note_entered(self) -> None:
        """Note the sizes of calls that have been queued, by threads that may be interrupted."""
        step = self._noted
        while (later := step.next) is not None:
            self._noted = step = later
            if step.task is not None:
                self._sizes[step.task] = step.size

    def forget(self) -> None:
        """In a forked child: whom the parent's threads would have told is not there."""
        self._told.clear()
        self.close()
