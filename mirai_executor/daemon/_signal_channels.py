"""The channels of signals, through which code that a task left behind could still run."""

import faulthandler
import signal

# signal.getsignal makes an enum member of what it finds: 34 µs for all signals, and 1.5 µs here.
from _signal import (  # type: ignore[import-not-found]  # typeshed leaves it out
    getitimer,
    getsignal,
    pthread_sigmask,
)
from collections.abc import Iterator
from functools import partial

from mirai_executor._typing import Final

from ._look import LOOK, NEVER, Channel, SetAnew

_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_TIMER_SIGNALS: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL}
)


class _Timer:
    """A timer that sends a signal: never set."""

    unless_left, unless_latched = LOOK, NEVER
    seen = (0, 0)

    def __init__(self, number: int) -> None:
        self.name = f"timer {number}"
        self._number = number
        self.look = partial(getitimer, number)

    def take(self) -> None:
        pass

    def restore(self) -> None:
        signal.setitimer(self._number, 0)


class _Signals:
    """The handlers of all signals, as far as Python set them."""

    name = "signal handlers"
    unless_left = "list(map({c.getsignal}, {c.numbers})) == {c.seen}"
    unless_latched = NEVER
    getsignal = staticmethod(getsignal)

    def __init__(self, untouched: frozenset[int]) -> None:
        self.numbers = sorted(int(number) for number in signal.valid_signals())
        self._own = {number: getsignal(number) for number in untouched}

    def take(self) -> None:
        self.seen = [self._own.get(number, getsignal(number)) for number in self.numbers]
        self.restore()

    def restore(self) -> None:
        live = list(map(getsignal, self.numbers))
        for number, handler, saved in zip(self.numbers, live, self.seen, strict=True):
            if handler is not saved:
                signal.signal(number, signal.SIG_DFL if saved is None else saved)
                if number in _FAULTS:
                    faulthandler.disable()  # it still believes in its handler; its channel is next


class _SignalMask:
    """The signals that the main thread blocks."""

    name = "signal mask"
    unless_left, unless_latched = LOOK, NEVER

    def __init__(self, untouched: frozenset[int]) -> None:
        self._untouched = untouched
        self.look = partial(pthread_sigmask, int(signal.SIG_BLOCK), ())

    def take(self) -> None:
        self.seen = frozenset(self.look()) - self._untouched
        self.restore()

    def restore(self) -> None:
        if self.look() == self.seen:
            return
        for number in _TIMER_SIGNALS:
            # Ignoring a signal drops a pending one, which would kill the daemon once unblocked.
            handler = signal.signal(number, signal.SIG_IGN)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.seen)


class _Wakeup(SetAnew[int]):
    """The descriptor that a signal writes to."""

    unless_latched = NEVER

    def __init__(self) -> None:
        super().__init__("signal wakeup descriptor", _read_wakeup, _write_wakeup)


def of_signals(untouched: frozenset[int]) -> Iterator[Channel]:
    """Return the channels of timers, handlers, the mask and the wakeup descriptor.

    Args:
        untouched: Signals whose handlers are the daemon's own.
    """
    yield from map(_Timer, _TIMERS)
    yield _Signals(untouched)
    yield _SignalMask(untouched)
    yield _Wakeup()


def _read_wakeup() -> int:
    descriptor = signal.set_wakeup_fd(-1)
    _write_wakeup(descriptor)
    return descriptor


_write_wakeup = partial(signal.set_wakeup_fd, warn_on_full_buffer=False)
