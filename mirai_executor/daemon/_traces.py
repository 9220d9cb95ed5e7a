"""The ways in which a task can leave a trace at its daemon, and how each trace is undone."""

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import ModuleType

from mirai_executor._typing import Any, Protocol


class Trace(Protocol):
    """One kind of what a task can leave.

    Every task pays for ``is_unchanged``, also one that takes a microsecond: it makes nothing, and
    compares what there is with what was saved. It may raise instead of returning False.
    """

    @property
    def name(self) -> str: ...
    def take(self) -> None: ...
    def is_unchanged(self) -> bool: ...
    def restore(self) -> None: ...


class Tracers:
    """The tracer and the profiler of this thread, and those that new threads begin with."""

    name = "tracers"

    def take(self) -> None:
        self._trace, self._profile = sys.gettrace(), sys.getprofile()
        self._thread_trace, self._thread_profile = threading.gettrace(), threading.getprofile()

    def is_unchanged(self) -> bool:
        return (
            sys.gettrace() is self._trace
            and sys.getprofile() is self._profile
            and threading.gettrace() is self._thread_trace
            and threading.getprofile() is self._thread_profile
        )

    def restore(self) -> None:
        if self.is_unchanged():
            return
        sys.settrace(self._trace)
        sys.setprofile(self._profile)
        threading.settrace(self._thread_trace)
        threading.setprofile(self._thread_profile)


class Environment:
    """``os.environ``, compared as the bytes that it holds: decoding them all takes 20 µs."""

    name = "os.environ"

    def take(self) -> None:
        self.mapping, self._bytes = os.environ, os.environb
        self._inside = vars(os.environ)
        self._saved = dict(self._inside["_data"])

    def is_unchanged(self) -> bool:
        return os.environ is self.mapping and bool(self._inside["_data"] == self._saved)

    def restore(self) -> None:
        if os.environ is not self.mapping:
            os.environ = self.mapping  # noqa: B003 - it is the very mapping that belongs there
        live = self._inside["_data"]
        if live != self._saved:
            self._write(live)

    def _write(self, live: dict[bytes, bytes]) -> None:
        time_zone = live.get(b"TZ")
        for key in [key for key in live if key not in self._saved]:
            del self._bytes[key]
        for key in [key for key, value in self._saved.items() if live.get(key) != value]:
            self._bytes[key] = self._saved[key]
        if live.get(b"TZ") != time_zone:
            time.tzset()  # libc would go on with the task's zone


class WorkingDirectory:
    """The current directory; None where it has been deleted."""

    name = "working directory"

    def take(self) -> None:
        self._saved = self._look()

    def is_unchanged(self) -> bool:
        return self._look() == self._saved

    def restore(self) -> None:
        if self._saved is not None and self._look() != self._saved:
            # If the daemon's directory is gone, a new daemon could not start there either: this
            # one goes on wherever it is.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.chdir(self._saved)

    @staticmethod
    def _look() -> str | None:
        try:
            return os.getcwd()  # noqa: PTH109 - a Path takes 3 µs more
        except FileNotFoundError:
            return None


class ListOf:
    """A list that a module holds: neither another list nor another content."""

    def __init__(
        self, module: ModuleType, attribute: str, clear: Callable[[], object] = lambda: None
    ) -> None:
        self.name = f"{module.__name__}.{attribute}"
        self._module, self._attribute, self._clear = vars(module), attribute, clear

    def take(self) -> None:
        self._live: list[Any] = self._module[self._attribute]
        self.saved = list(self._live)

    def is_unchanged(self) -> bool:
        return self._module.get(self._attribute) is self._live and self._live == self.saved

    def restore(self) -> None:
        if self.is_unchanged():
            return
        self._module[self._attribute] = self._live
        self._clear()
        self._live[:] = self.saved


class Warnings:
    """The filters of warnings, and the functions that show them.

    ``catch_warnings(record=True)``, never left, would swallow all warnings to come.
    """

    name = "warnings"

    def __init__(self) -> None:
        self._live = vars(warnings)
        self._filters = ListOf(warnings, "filters", clear=warnings.resetwarnings)

    def take(self) -> None:
        self._filters.take()
        self._show, self._format = warnings.showwarning, warnings.formatwarning
        self._show_or_record = self._live["_showwarnmsg_impl"]

    def is_unchanged(self) -> bool:
        return (
            self._filters.is_unchanged()
            and warnings.showwarning is self._show
            and warnings.formatwarning is self._format
            and self._live["_showwarnmsg_impl"] is self._show_or_record
        )

    def restore(self) -> None:
        self._filters.restore()
        warnings.showwarning, warnings.formatwarning = self._show, self._format
        self._live["_showwarnmsg_impl"] = self._show_or_record


class RootLogger:
    """What ``basicConfig``, ``disable`` and ``captureWarnings`` change, once there is ``logging``.

    A task that has called ``basicConfig()`` would make that of the next one do nothing. Before
    somebody has imported ``logging``, it is as it will be then.
    """

    name = "root logger"

    def __init__(self) -> None:
        self._level, self._disabled = 30, 0  # WARNING, and nothing
        self._handlers: list[Any] = []
        self._shows_warnings: Any = None

    def take(self) -> None:
        if (logging := self._module()) is not None:
            root = logging.root
            self._level, self._disabled = root.level, root.manager.disable
            self._handlers = list(root.handlers)
            self._shows_warnings = vars(logging)["_warnings_showwarning"]

    def is_unchanged(self) -> bool:
        logging: Any = sys.modules.get("logging")
        if logging is None:
            return True
        root = logging.root
        return bool(
            root.level == self._level
            and root.manager.disable == self._disabled
            and root.handlers == self._handlers
            and vars(logging)["_warnings_showwarning"] is self._shows_warnings
        )

    def restore(self) -> None:
        if (logging := self._module()) is None:
            return
        root = logging.root
        root.handlers[:] = self._handlers
        if root.level != self._level:
            root.setLevel(self._level)
        if root.manager.disable != self._disabled:
            logging.disable(self._disabled)
        # captureWarnings() does nothing while it believes that it is on already.
        vars(logging)["_warnings_showwarning"] = self._shows_warnings

    @staticmethod
    def _module() -> Any:
        """Return the module, unless a thread is just importing it."""
        module = sys.modules.get("logging")
        return module if hasattr(module, "captureWarnings") else None  # which comes last
