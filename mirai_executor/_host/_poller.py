"""Waits for whatever concerns the host thread: readable descriptors, items in its inbox, time."""

import selectors
import time
from collections.abc import Callable, Sized
from typing import TypeAlias

from mirai_executor import _nowait
from mirai_executor._place import usable_cpus
from mirai_executor._spin import Spinner

from ._waiting import Waker

__all__ = ["Poller"]

_Ready: TypeAlias = list[Callable[[], None]]

_REST = 0.2  # seconds without spinning after somebody else needed the processor
_SEVERAL_CPUS = usable_cpus() > 1


class Poller:
    """The host thread's; other threads may look at its attributes, and wake it.

    Args:
        inbox: Where other threads put items; if ``asleep``, they call the ``waker`` afterwards.
        spins: Whether what is awaited may come so soon that sleep is not worth it.

    Attributes:
        selector: Knows the descriptors, each with what to call once it is ready.
        asleep: Whether the host thread has to be woken.
        waker: Wakes it; None once all is closed.
    """

    def __init__(self, inbox: Sized, *, spins: bool) -> None:
        self.selector = selectors.DefaultSelector()
        self.asleep = False
        self.waker: Waker | None = Waker()
        self.selector.register(self.waker.fileno(), selectors.EVENT_READ, self.waker.hear)
        self._inbox = inbox
        self._spinner = Spinner(allowed=spins and _SEVERAL_CPUS, rest=_REST)

    def wake(self) -> None:
        """Have the host thread look. Safe from any thread."""
        if (waker := self.waker) is not None:
            waker.wake()

    def wait(self, open_tasks: int, deadlines: Callable[[], list[float]]) -> _Ready:
        """Wait until there is something to do; return what is to be called for it.

        Args:
            open_tasks: How many are on their way.
            deadlines: Returns when to wake up at the latest. It is asked only before a sleep.
        """
        if open_tasks or self._inbox:
            # What is there already is taken with the GIL in hand: to have it back takes longer.
            ready = _nowait.ready(self.selector)
            if ready or (self._inbox and ready is not None):
                return [key.data for key in ready]
        if open_tasks != 1:
            # Who has just got one of several results, needs the GIL now.
            return self._sleep(deadlines())
        begun = time.perf_counter()
        found = self._spinner.spin(self._look)
        if found is None:
            found = self._sleep(deadlines())
        self._spinner.learn(time.perf_counter() - begun)
        return found

    def look(self) -> _Ready:
        """Return what is to be called for what has come. The GIL is handed over."""
        return [key.data for key, _ in self.selector.select(0)]

    def _look(self) -> _Ready | None:
        ready = self.look()
        return ready if ready or self._inbox else None

    def _sleep(self, deadlines: list[float]) -> _Ready:
        timeout = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        self.asleep = True  # before the last look at the inbox: who comes after it, wakes us
        if self._inbox:
            timeout = 0.0
        keys = self.selector.select(timeout)
        self.asleep = False
        return [key.data for key, _ in keys]

    def close(self) -> None:
        """Forget all descriptors. Who still has the waker, wakes nobody."""
        self.selector.close()
        self.waker = None
