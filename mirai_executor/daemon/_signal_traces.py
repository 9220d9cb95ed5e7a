"""The traces of signals, through which code that a task left behind could still run."""

import faulthandler
import signal

# signal.getsignal makes an enum member of what it finds: 34 µs for all signals, and 1.5 µs here.
# None of these is watched by a flag: a look by itself opens none.
from _signal import (  # type: ignore[import-not-found]  # typeshed leaves it out
    getitimer,
    getsignal,
    pthread_sigmask,
    set_wakeup_fd,
)

from mirai_executor._typing import Final

_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_TIMER_SIGNALS: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL}
)
_BLOCK: Final = int(signal.SIG_BLOCK)


class Timers:
    """The timers that send signals: never set."""

    name = "timers"

    def take(self) -> None:
        pass

    def is_unchanged(self) -> bool:
        return not any(getitimer(timer)[0] for timer in _TIMERS)

    def restore(self) -> None:
        for timer in _TIMERS:
            signal.setitimer(timer, 0)


class Signals:
    """The handlers of all signals, as far as Python set them, and how they reach the main thread.

    Args:
        untouched: Signals whose handlers are the daemon's own.
    """

    name = "signals"

    def __init__(self, untouched: frozenset[int]) -> None:
        self._untouched = untouched
        self._numbers = sorted(int(number) for number in signal.valid_signals())
        self._own = {number: getsignal(number) for number in untouched}

    def take(self) -> None:
        self._handlers = [self._own.get(number, getsignal(number)) for number in self._numbers]
        self._mask = frozenset(pthread_sigmask(_BLOCK, ())) - self._untouched
        self._wakeup = set_wakeup_fd(-1)  # it can be asked for only by setting another one
        self.restore()

    def is_unchanged(self) -> bool:
        return (
            list(map(getsignal, self._numbers)) == self._handlers
            and bool(pthread_sigmask(_BLOCK, ()) == self._mask)
            and self._set_wakeup() == self._wakeup
        )

    def restore(self) -> None:
        self._restore_handlers()
        if pthread_sigmask(_BLOCK, ()) != self._mask:
            self._restore_mask()
        self._set_wakeup()

    def _restore_handlers(self) -> None:
        live = map(getsignal, self._numbers)
        for number, handler, saved in zip(self._numbers, live, self._handlers, strict=True):
            if handler is not saved:
                signal.signal(number, signal.SIG_DFL if saved is None else saved)
                if number in _FAULTS and faulthandler.is_enabled():
                    faulthandler.disable()  # it still believes in its handler
                    faulthandler.enable(2)

    def _restore_mask(self) -> None:
        for number in _TIMER_SIGNALS:
            # Ignoring a signal drops a pending one, which would kill the daemon once unblocked.
            handler = signal.signal(number, signal.SIG_IGN)
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _set_wakeup(self) -> int:
        """Return the descriptor that signals wrote to until now."""
        return int(set_wakeup_fd(self._wakeup, warn_on_full_buffer=False))
