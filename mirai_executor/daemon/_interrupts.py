"""Decides which signals interrupt the running task, and keeps them away from all other code.

Two signals can end a task: SIGINT, from whoever sends it, and ``STOP_SIGNAL``, by which the
host stops the tasks that it has named in the shared page. Both only count while user code
runs, and a stop only for the very tasks that it names: one that comes late stops no other.

``STOP_SIGNAL`` also means that the host waits: results that are still in hand are sent then.
"""

import signal

# The functions of the signal module try to make enums of all they see: 3 µs instead of 0.3.
from _signal import getsignal  # type: ignore[import-not-found]  # typeshed leaves it out
from _signal import signal as set_handler
from _thread import get_ident
from collections.abc import Callable
from types import FrameType

from mirai_executor import _place
from mirai_executor._shared import STOP_SIGNAL, Page
from mirai_executor._typing import TYPE_CHECKING, Any
from mirai_executor.errors import MiraiInterrupt

if TYPE_CHECKING:
    from ._coroutines import Coroutines

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
# Its functions that also run when a module is there already; by themselves they change nothing.
_LOOKUPS = frozenset({"_gcd_import", "_sanity_check", "_find_and_load", "_handle_fromlist"})


class Interrupts:
    """The daemon's signal handlers, and the window in which they may raise KeyboardInterrupt.

    Args:
        page: Names the task that has to stop.
        send_results: Sends what is in hand. Called by a handler, inside the window only.
    """

    def __init__(self, page: Page, send_results: Callable[[], None]) -> None:
        self._page = page
        self._send_results = send_results
        self._running = 0  # the task whose user code runs; 0 outside the window
        self.chunk = 0  # the task that it is an element of, if it is one; it stops with that
        self._sending = False
        self._put_off = False  # an interrupt, until the results are sent
        self.hit_import = False  # for good
        self.has_struck = False  # since the window was opened
        self.task = 0  # the last one for which it was
        self.thread = get_ident()  # that gets the signals, and alone writes to the link
        # Cancels a coroutine that runs; False if there is none, or it does not notice.
        self.stop_coroutine: Callable[[], bool] | None = None
        self.company: Coroutines | None = None  # while several may run at once
        self._handlers = {int(signal.SIGINT): self._on_interrupt, STOP_SIGNAL: self._on_stop}

    def install(self) -> None:
        """Take the two signals over, also from C code. Main thread only."""
        for number, handler in self._handlers.items():
            set_handler(number, handler)

    def ensure_installed(self) -> None:
        """Take them over again if somebody else has, as far as Python knows.

        It needs no system call.
        """
        for number, handler in self._handlers.items():
            if getsignal(number) is not handler:
                set_handler(number, handler)

    def enter(self, task: int) -> bool:
        """Open the window for a task; False if it has been stopped before it began."""
        # In this order: a stop that comes in between finds the window open.
        self._running = self.task = task
        self.has_struck = False
        return not self._must_stop(task)

    @property
    def may_send(self) -> bool:
        """Whether user code runs, and nothing else is being sent: no frame is cut in two then."""
        return self._running != 0 and not self._sending

    def leave(self) -> None:
        """Close the window."""
        self._running = 0

    @property
    def is_open(self) -> bool:
        """Whether user code runs."""
        return self._running != 0

    def on_next(self, moment: str, step: Callable[[], None]) -> None:
        """Have a step taken once, outside the window. Other tasks pay nothing for it.

        Args:
            moment: Which call it comes with: ``"enter"``, or ``"leave"``.
            step: What to do.
        """

        def take(*args: int) -> Any:
            self._running = 0
            delattr(self, moment)
            step()
            return getattr(self, moment)(*args)

        setattr(self, moment, take)

    def _on_interrupt(self, _: int, frame: FrameType | None) -> None:
        if self.company is not None:
            self._stop_some(self.company, frame, all_of_them=True)
        elif self._sending:
            self._put_off = True
        elif self._running:
            self._stop(frame)

    def _on_stop(self, _: int, frame: FrameType | None) -> None:
        if self.company is not None:
            self._stop_some(self.company, frame, all_of_them=False)
        if self.company is not None or not self._running or self._sending:
            return
        self._put_off, self._sending = False, True
        try:
            self._send_results()
        finally:
            self._sending = False
        if self._put_off or self._must_stop(self._running):
            self._stop(frame)

    def _stop_some(
        self, company: "Coroutines", frame: FrameType | None, *, all_of_them: bool
    ) -> None:
        if company.must_strike(all_of_them=all_of_them):
            running = self._running
            try:
                self._raise(frame)
            finally:
                self._running = running  # others do

    def _stop(self, frame: FrameType | None) -> None:
        if self.stop_coroutine is None or not self.stop_coroutine():
            self._raise(frame)

    def _must_stop(self, task: int) -> bool:
        must_stop = self._page.must_stop
        return must_stop(task) or (self.chunk != 0 and must_stop(self.chunk))

    def _raise(self, frame: FrameType | None) -> None:
        # Once a task: a second one could strike our own code while it handles the first.
        self._running = 0
        self.has_struck = True
        for note in _place.on_interrupt:  # if the task has executors of its own
            note()
        # A half-imported module stays broken for as long as the process lives.
        self.hit_import = self.hit_import or _is_importing(frame)
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _IMPORT_SYSTEM and code.co_name not in _LOOKUPS:
            return True
        frame = frame.f_back
    return False


def as_outcome(interrupt: BaseException) -> MiraiInterrupt:
    """Return the error in which a task ends that was interrupted."""
    error = MiraiInterrupt("the task was interrupted on its daemon")
    return error.with_traceback(interrupt.__traceback__)
