"""How threads wait: for each other, and one of them for descriptors, time and all the others.

The standard library's ``Event``, ``Condition`` and ``Future`` take their lock in Python code: a
KeyboardInterrupt that strikes there leaves it locked, and the host thread waits for it for ever.
Here no two threads share a lock, and each step is whole or has not happened.

A :class:`Reactor` waits for whatever concerns its thread, and calls what is to be done for that::

    a descriptor is ready ───────┐
    other threads: put, wake ────┼──► turn ──► callbacks, one at a time
    time passes: call_at ────────┘

A host, a keeper, the relay of standard error and the pump of WebSockets each run one.
"""

import collections
import contextlib
import heapq
import itertools
import math
import os
import posix
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from mirai_executor import _nowait

LONGEST = 86400.0  # seconds that a selector waits in one go: epoll takes 24 days at most

T = TypeVar("T")


class Deadline:
    """The end of a time that is granted once, for however many waits.

    Args:
        seconds: From now on.
        clock: Tells the time, in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._when = clock() + seconds

    @property
    def left(self) -> float:
        """How many seconds of it are left; 0 once it is over."""
        return max(0.0, self._when - self._clock())

    def wait_for(self, fd: int, events: int) -> bool:
        """Wait until a descriptor is ready, for ``selectors.EVENT_READ`` or ``EVENT_WRITE``.

        Returns False if the deadline passes first. With -1 for the descriptor, there is only that.
        """
        with selectors.DefaultSelector() as selector:
            if fd >= 0:
                selector.register(fd, events)
            while not selector.select(min(self.left, LONGEST)):
                if not self.left:
                    return False
        return True


class OneShotEvent:
    """Something that comes once, and that any thread can wait for."""

    def __init__(self) -> None:
        self.has_come = False
        self._waiting: collections.deque[threading.Lock] = collections.deque()  # one per thread

    def come(self) -> None:
        """Let go of all who wait, now or later."""
        self.has_come = True  # before the last look at who waits: who comes later does not
        try:
            while True:
                self._waiting.popleft().release()
        except IndexError:
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds; True if the moment has come."""
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock)
        try:
            if not self.has_come:
                lock.acquire(timeout=_limit(timeout))
        finally:
            if not self.has_come:  # else nobody looks there again
                with contextlib.suppress(ValueError):
                    self._waiting.remove(lock)
        return self.has_come


class Reply(Generic[T]):
    """What one thread asks another for; that one sets it, once."""

    def __init__(self) -> None:
        self.given = OneShotEvent()
        self._value: T
        self._error: BaseException | None = None

    def set_result(self, value: T) -> None:
        self._value = value
        self.given.come()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self.given.come()

    def get(self) -> T:
        """Wait for the answer; return it, or raise it."""
        self.given.wait()
        try:
            if self._error is not None:
                raise self._error
            return self._value
        finally:
            del self  # an error that holds this frame must not hold itself through it


class Waker:
    """Two ends of a pipe: one thread sleeps until it is readable, the others write to it.

    Its descriptors are closed with its last reference, and not before: nobody can ever write to
    a number that is another file by then, and that takes no lock.

    Attributes:
        calls: Not empty if somebody has called since the other thread last heard: then it gets
            a new list.
    """

    def __init__(self) -> None:
        self._read = _nowait.read
        self._fds = os.pipe()
        for fd in self._fds:
            os.set_blocking(fd, False)
        self.calls: list[None] = []

    def fileno(self) -> int:
        return self._fds[0]

    def wake(self) -> None:
        """Have the other thread look. Safe from any thread, and from a finalizer."""
        calls = self.calls
        if not calls:
            try:  # noqa: SIM105 - to suppress takes longer than the rest
                posix.write(self._fds[1], b"x")
            except BlockingIOError:  # it is full: the other will look anyway
                pass
            # Only now: a KeyboardInterrupt before this costs a byte. And not in a list that is
            # new by now: the other thread may have heard, looked, and be asleep again.
            calls.append(None)

    def hear(self) -> None:
        """Take note, before looking."""
        try:  # noqa: SIM105 - to suppress takes longer than the rest
            self._read(self._fds[0], 4096)
        except BlockingIOError:
            pass
        self.calls = []  # who comes before this, comes before the look

    def __del__(self) -> None:
        for fd in getattr(self, "_fds", ()):  # there are none if the pipe could not be made
            os.close(fd)


def _limit(timeout: float | None) -> float:
    return -1 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)


_SOME = 16  # sleeps, after which this is no short script

_Call: TypeAlias = Callable[[], object]


class Timer:
    """A call at a moment to come, as :meth:`Reactor.call_at` makes them.

    Attributes:
        when: That moment, on the reactor's clock.
    """

    __slots__ = ("_call", "when")

    def __init__(self, when: float, call: _Call) -> None:
        self.when = when
        self._call: _Call | None = call

    @property
    def is_over(self) -> bool:
        """Whether it has been made, or given up."""
        return self._call is None

    def cancel(self) -> None:
        """Give it up, unless it has been made."""
        self._call = None

    def fire(self) -> None:
        """Make the call, once."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Reactor:
    """One thread's.

    Args:
        inbox: Where other threads put items, with :meth:`put` or by themselves; then they wake the
            reactor if it ``needs_waking``.
        take_in: Takes items of the inbox, once there are some; by default, it calls them all.
        keeps_gil: Whether to look at a burst with the GIL in hand, as ``_nowait`` can.
        clock: Tells the time, in seconds.

    Attributes:
        now: That clock.
        has_stopped: Nothing is called any more.
    """

    def __init__(
        self,
        inbox: collections.deque[Any] | None = None,
        take_in: _Call | None = None,
        *,
        keeps_gil: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asleep = False
        self._inbox = collections.deque() if inbox is None else inbox
        self._take_in: _Call | None = take_in
        self._keeps_gil = keeps_gil
        self.now = clock
        self._selector = selectors.DefaultSelector()
        self._waker: Waker | None = Waker()
        self._selector.register(self._waker.fileno(), selectors.EVENT_READ, self._waker.hear)
        self._dropped: set[int] = set()  # descriptors, since the last look
        self._timers: list[tuple[float, int, Timer]] = []  # a heap
        self._numbers = itertools.count()  # of timers: those of one moment are called in order
        self._sleeps = 0
        self.has_stopped = False

    # For any thread

    def put(self, call: _Call) -> None:
        """Have something called soon."""
        self._inbox.append(call)
        if self._asleep:
            self.wake()

    @property
    def needs_waking(self) -> bool:
        """Whether it sleeps, and nobody has woken it: until it has the GIL, it looks asleep."""
        return self._asleep and (waker := self._waker) is not None and not waker.calls

    def wake(self) -> None:
        """Have it look. Wakes nobody once all is closed."""
        if (waker := self._waker) is not None:
            waker.wake()

    # Descriptors: as with a selector, whose data are called

    def register(self, fd: int, events: int, call: _Call) -> None:
        """Call something whenever a descriptor is ready."""
        self._selector.register(fd, events, call)

    def modify(self, fd: int, events: int, call: _Call) -> None:
        """Wait for other events, or call something else."""
        self._selector.modify(fd, events, call)

    def unregister(self, fd: int) -> None:
        """Wait for a descriptor no more; from now on, nothing is called for it.

        Raises:
            KeyError: Nobody waits for it.
        """
        self._selector.unregister(fd)
        self._dropped.add(fd)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what is waited for, by descriptor."""
        return self._selector.get_map()

    # Time

    def call_at(self, when: float, call: _Call) -> Timer:
        """Call something once a moment has come."""
        timer = Timer(when, call)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_in(self, seconds: float, call: _Call) -> Timer:
        """Call something so many seconds from now."""
        return self.call_at(self.now() + seconds, call)

    def move(self, timer: Timer, when: float) -> None:
        """Make a call at another moment than was planned; to put it off takes no time."""
        if when < timer.when:
            heapq.heappush(self._timers, (when, next(self._numbers), timer))
        timer.when = when

    def next_deadline(self) -> float:
        """Return when the next timer is due; infinite for never."""
        timers = self._timers
        while timers:
            when, _, timer = timers[0]
            if timer.is_over:
                heapq.heappop(timers)
            elif timer.when > when:  # it was put off since
                heapq.heapreplace(timers, (timer.when, next(self._numbers), timer))
            else:
                return when
        return math.inf

    # The thread

    def run(self) -> None:
        """Turn until :meth:`stop`."""
        while not self.has_stopped:
            self.turn()

    def stop(self) -> None:
        """Call nothing any more."""
        self.has_stopped = True

    def turn(self, until: float = math.inf, *, is_burst: bool = False) -> bool:
        """Wait for what comes first, and do what there is to do for it.

        Args:
            until: A moment to return at, in any case.
            is_burst: Much is on its way: what is there already is looked for before the wait.

        Returns:
            Whether that moment has passed.
        """
        # The host's hot way: it often has no timer, and nothing that was let go.
        deadline = min(until, self.next_deadline()) if self._timers else until
        if keys := self._wait(deadline, is_burst):
            self._call(keys)
        if self._inbox:
            self._take_in_all() if self._take_in is None else self._take_in()
        # At every turn: a full inbox must not put deadlines off.
        if deadline == math.inf or deadline > self.now():
            return False
        # This thread may have waited for the GIL: what has come in the meantime is not late.
        self._call([key for key, _ in self._selector.select(0)])
        now = self.now()
        while self.next_deadline() <= now and not self.has_stopped:
            heapq.heappop(self._timers)[2].fire()
        return until <= now

    def _wait(self, deadline: float, is_burst: bool) -> list[selectors.SelectorKey]:
        """Wait until something is ready, or put into the inbox; return what is ready."""
        if self._keeps_gil:
            # What is there already is taken with the GIL in hand: to have it back takes longer.
            # But the result of a single task, sent a moment ago, is not there yet.
            is_burst = is_burst or len(self._inbox) > 1
            if is_burst or self._sleeps == _SOME:
                _nowait.load()
            if is_burst:
                ready = _nowait.ready(self._selector)
                if ready or (self._inbox and ready is not None):
                    return ready
        timeout = None
        if deadline != math.inf:
            timeout = min(max(0.0, deadline - self.now()), LONGEST)
        self._sleeps += 1
        self._asleep = True  # before the last look at the inbox: who comes after it, wakes us
        if self._inbox:
            timeout = 0.0
        keys = self._selector.select(timeout)
        self._asleep = False
        return [key for key, _ in keys]

    def _call(self, ready: list[selectors.SelectorKey]) -> None:
        # No name holds what was called: an error that is decoded in here holds this frame, for as
        # long as a user keeps it, and would keep the waker's descriptors open.
        if self._dropped:
            self._dropped.clear()
        while ready and not self.has_stopped:
            if ready[0].fd in self._dropped:
                del ready[0]
            else:
                ready.pop(0).data()

    def _take_in_all(self) -> None:
        while self._inbox and not self.has_stopped:
            self._inbox.popleft()()

    def close(self) -> None:
        """Forget all that was to be called. Whoever still has the waker, wakes nobody."""
        self._selector.close()
        # Nothing refers to itself any more: see `_call`.
        self._waker = self._take_in = None
        for _, _, timer in self._timers:
            timer.cancel()
        self._timers.clear()
