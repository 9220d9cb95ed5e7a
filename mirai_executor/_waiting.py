"""Lets threads wait for each other in ways that a KeyboardInterrupt cannot break.

The standard library's ``Event``, ``Condition`` and ``Future`` take their lock in Python code: a
KeyboardInterrupt that strikes there leaves it locked, and the host thread waits for it for ever.
Here no two threads share a lock, and each step is whole or has not happened.
"""

import collections
import contextlib
import os
import threading
import time
from typing import Generic, TypeVar

LONGEST = 86400.0  # seconds that a selector waits in one go: epoll takes 24 days at most

T = TypeVar("T")


class Deadline:
    """The end of a time that is granted once, for however many waits.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self._when = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """How many seconds of it are left; 0 once it is over."""
        return max(0.0, self._when - time.monotonic())


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
        from mirai_executor import _nowait  # not before the first task

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
                os.write(self._fds[1], b"x")
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
