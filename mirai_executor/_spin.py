"""Waits without sleeping for what is about to come, as long as that costs nobody anything.

A process that sleeps is woken some tens of microseconds too late, and to wake it costs the other
side about as much. So who has been answered at once looks for the next answer again and again, for
a moment. Whoever else needs the processor gets it meanwhile; and where no processor is left for
that, the time that was spent looking would be taken from the waiter later, by the system's
scheduler, in slices of milliseconds: better not to try again for a while.
"""

import os
import time
from collections.abc import Callable

from mirai_executor._typing import TypeVar

__all__ = ["Spinner"]

T = TypeVar("T")

_SPIN = 400e-6  # seconds without sleep, at most
_AT_ONCE = 1e-3  # seconds: who has waited for less expects to do so again
_TURN = 100e-6  # seconds between two offers of the processor: who offers it, has it back last
_LATE = 100e-6  # seconds between two looks, of a microsecond each: somebody else was let run

_yield = getattr(os, "sched_yield", None)


class Spinner:
    """Decides whether to spin, and does. One thread.

    Args:
        allowed: Whether there is a processor left for who is waited for.
        rest: Seconds without another try after somebody else was let run; with 0, it goes on.
    """

    def __init__(self, *, allowed: bool, rest: float = 0.0) -> None:
        self._allowed = allowed and _yield is not None
        self._rest = rest
        self._expects_it = False
        self._rests_until = 0.0

    def spin(self, look: Callable[[], T]) -> T | None:
        """Look until there is something, for a moment; None if one had better sleep."""
        if not self._expects_it or _yield is None:
            return None
        now = time.perf_counter()
        if now < self._rests_until:
            return None
        until, turn = now + _SPIN, now
        while (found := look()) is None and now < until:
            if now >= turn:
                _yield()
                turn = now + _TURN
            before, now = now, time.perf_counter()
            if self._rest and now - before > _LATE:
                self._rests_until = now + self._rest
                return None
        return found

    def learn(self, seconds: float) -> None:
        """Hear how long the wait was, with or without sleep."""
        self._expects_it = self._allowed and seconds < _AT_ONCE
