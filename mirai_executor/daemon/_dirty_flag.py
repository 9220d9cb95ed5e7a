"""Notices calls of functions that change state which is slow to inspect.

To ask the system for all signal handlers, the timers and the current directory, and to compare the
whole environment, takes as long as a short task. Python code changes them by a few functions only,
so these are watched instead: each is called as before, and the flag is open from then on. What is
changed without them, by C code or inside ``os.environ``, only looking can tell.
"""

import _signal  # type: ignore[import-not-found]  # typeshed leaves it out
import functools
import os
import posix
import signal
from collections.abc import Callable
from types import ModuleType

from mirai_executor._typing import Any, Final

# signal.signal and signal.pthread_sigmask look those of _signal up at each call.
_FUNCTIONS: Final[tuple[tuple[str, tuple[ModuleType, ...]], ...]] = (
    ("signal", (_signal,)),
    ("pthread_sigmask", (_signal,)),
    ("setitimer", (_signal, signal)),
    ("alarm", (_signal, signal)),
    ("set_wakeup_fd", (_signal, signal)),
    ("chdir", (posix, os)),
    ("fchdir", (posix, os)),
    ("putenv", (posix, os)),  # os.environ calls these two
    ("unsetenv", (posix, os)),
)


_first: "DirtyFlag | None" = None


def watch_early() -> None:
    """Have the next :func:`new_flag` return one that watches from now on."""
    global _first  # it watches the process
    _first = DirtyFlag()


def new_flag() -> "DirtyFlag":
    """Return a flag that watches."""
    return DirtyFlag() if _first is None else _first


class DirtyFlag:
    """Tells whether one of the watched functions has been called.

    It watches from its making until :meth:`close`, for the whole process, on any thread.

    Attributes:
        is_set: One has been called since somebody set this to False. At first it is True.
    """

    def __init__(self) -> None:
        self.is_set = True
        self._originals: list[tuple[ModuleType, str, Any]] = []
        for name, modules in _FUNCTIONS:
            original = getattr(modules[0], name)
            watched = self._watched(original)
            for module in modules:
                self._originals.append((module, name, getattr(module, name)))
                setattr(module, name, watched)
            if original in os.supports_fd:  # programs look there whether chdir takes a descriptor
                os.supports_fd.add(watched)

    def _watched(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.is_set = True
            return original(*args, **kwargs)

        return watched

    def close(self) -> None:
        """Watch no longer."""
        for module, name, original in self._originals:
            os.supports_fd.discard(getattr(module, name))
            setattr(module, name, original)
        self._originals.clear()
