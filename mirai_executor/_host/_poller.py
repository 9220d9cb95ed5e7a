"""Waits for whatever concerns the host thread: readable descriptors, items in its inbox, time."""

import math
import selectors
import time
from collections.abc import Callable, Sized
from typing import TypeAlias

from mirai_executor import _nowait
from mirai_executor._waiting import LONGEST, Waker

__all__ = ["Poller"]

_SOME = 16  # sleeps, after which this is no short script

_Ready: TypeAlias = list[Callable[[], None]]


class Poller:
    """The host thread's; other threads may look at its attributes, and wake it.

    Args:
        inbox: Where other threads put items; if ``asleep``, they call the ``waker`` afterwards.

    Attributes:
        selector: Knows the descriptors, each with what to call once it is ready.
        asleep: Whether the host thread has to be woken.
        waker: Wakes it; None once all is closed.
    """

    def __init__(self, inbox: Sized) -> None:
        self.selector = selectors.DefaultSelector()
        self.asleep = False
        self.waker: Waker | None = Waker()
        self.selector.register(self.waker.fileno(), selectors.EVENT_READ, self.waker.hear)
        self._inbox = inbox
        self._sleeps = 0

    def wake(self) -> None:
        """Have the host thread look. Safe from any thread."""
        if (waker := self.waker) is not None:
            waker.wake()

    def wait(self, open_tasks: int, deadline: float) -> _Ready:
        """Wait until there is something to do; return what is to be called for it.

        Args:
            open_tasks: How many are on their way.
            deadline: When to wake up at the latest; infinite if there is no such moment.
        """
        # What is there already is taken with the GIL in hand: to have it back takes longer. But
        # the result of a single task, sent a moment ago, is not there yet.
        is_burst = open_tasks > 1 or len(self._inbox) > 1
        if is_burst or self._sleeps == _SOME:
            _nowait.load()
        if is_burst:
            ready = _nowait.ready(self.selector)
            if ready or (self._inbox and ready is not None):
                return [key.data for key in ready]
        timeout = None
        if deadline != math.inf:
            timeout = min(max(0.0, deadline - time.monotonic()), LONGEST)
        self._sleeps += 1
        self.asleep = True  # before the last look at the inbox: who comes after it, wakes us
        if self._inbox:
            timeout = 0.0
        keys = self.selector.select(timeout)
        self.asleep = False
        return [key.data for key, _ in keys]

    def look(self) -> _Ready:
        """Return what is to be called for what has come. The GIL is handed over."""
        return [key.data for key, _ in self.selector.select(0)]

    def close(self) -> None:
        """Forget all descriptors. Who still has the waker, wakes nobody."""
        self.selector.close()
        self.waker = None
