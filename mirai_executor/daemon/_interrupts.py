"""Decides which signals interrupt the task that runs, and lets no other code feel them.

Two signals can end a task: SIGINT, from whoever sends it, and ``STOP_SIGNAL``, by which the
host stops the one task that it has named in the shared page. Both only count while user code
runs, and a stop only for the very task that it names: one that comes late stops no other.
"""

import signal
from types import FrameType

from mirai_executor._page import STOP_SIGNAL, Page

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
# Its functions that also run when a module is there already; by themselves they change nothing.
_LOOKUPS = frozenset({"_gcd_import", "_sanity_check", "_find_and_load", "_handle_fromlist"})


class Interrupts:
    """The daemon's signal handlers, and the window in which they may raise KeyboardInterrupt."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._running = 0  # the task whose user code runs; 0 outside the window
        self.hit_import = False  # for good

    def install(self) -> None:
        """Take the two signals over. Main thread only."""
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(STOP_SIGNAL, self._on_stop)

    def enter(self, task: int) -> bool:
        """Open the window for a task; False if it has been stopped before it began."""
        # In this order: a stop that comes in between finds the window open.
        self._running = task
        return self._page.stop != task

    def leave(self) -> None:
        """Close the window."""
        self._running = 0

    def _on_interrupt(self, _: int, frame: FrameType | None) -> None:
        if self._running:
            self._raise(frame)

    def _on_stop(self, _: int, frame: FrameType | None) -> None:
        if self._running and self._page.stop == self._running:
            self._raise(frame)

    def _raise(self, frame: FrameType | None) -> None:
        # Once a task: a second one could strike our own code while it handles the first.
        self._running = 0
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
