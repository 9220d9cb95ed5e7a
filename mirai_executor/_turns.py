"""Lets one thread at a time do something, in a way that a KeyboardInterrupt cannot break.

One that strikes between the moment at which a lock is taken and the block of its ``with`` leaves
it locked (since Python 3.14, it may strike there). Here a turn is over when what was given for it
has gone, and that is so with the stack that held it, whatever has ended that.
"""

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any


class _Turn:
    """One thread's, behind the turn of another.

    Attributes:
        thread: The thread's identifier.
        is_over: Set at its regular end.
    """

    __slots__ = ("_behind", "_ends", "_holder", "is_over", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        self.is_over = False
        self._behind: dict[None, _Turn] = {}
        self._ends: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._holder: Callable[[], object | None] = lambda: None  # none yet

    def hold(self, holder: "_Holder") -> None:
        # The queue is told in C: nothing can strike there.
        self._holder = weakref.ref(holder, self._ends.put)

    @property
    def has_ended(self) -> bool:
        return self.is_over or self._holder() is None

    def followed_by(self, turn: "_Turn") -> "_Turn":
        """Return the turn behind this one: that one, or what another thread has put there."""
        return self._behind.setdefault(None, turn)

    def end(self) -> None:
        self.is_over = True
        self._ends.put(None)

    def wait(self) -> None:
        """Wait for its end."""
        try:
            self._ends.get()
        finally:
            if self.has_ended:
                self._ends.put(None)  # for others who wait


class _Holder(str):
    """Has a turn, for as long as it lives: on the stack of a ``with``, and nowhere else.

    Its methods do nothing, in C: where a function of Python begins, an interrupt may strike, whose
    traceback would keep this. And they are methods, as a ``with`` keeps no more than those.
    """

    __enter__ = str.format
    __exit__ = str.format


class Turns:
    """The turns of all threads, one after the other.

    Any thread may take one, and again while it has one.

    Example:
        >>> turns = Turns()
        >>> with turns.take():
        ...     pass
    """

    def __init__(self) -> None:
        self._last = _Turn(0)  # that has begun, or one before it

    def take(self) -> _Holder:
        """Wait for a turn of this thread; to be entered as a context manager at once."""
        turn = _Turn(threading.get_ident())
        holders = [_Holder()]
        turn.hold(holders[0])
        try:
            while True:
                last = self._last
                if not last.has_ended:
                    if last.thread == turn.thread:
                        return _Holder()
                    last.wait()
                    continue
                self._last = following = last.followed_by(turn)
                if following is turn:
                    return holders.pop()  # an error that holds this frame, holds it no more
        except BaseException:
            turn.end()
            raise
