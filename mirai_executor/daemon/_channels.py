"""The ways in which a task can leave a trace at its daemon, and how each trace is undone."""

import _locale
import _socket
import contextlib
import faulthandler
import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

from mirai_executor._typing import Any

from ._look import LOOK, NEVER, Channel, SetAnew, Setting
from ._signal_channels import of_signals
from ._stream_channel import Streams


class _Hooks:
    """Attributes of a module that hold functions."""

    def __init__(self, module: ModuleType, *names: str) -> None:
        self.name = f"hooks of {module.__name__}"
        self._live, self._names = vars(module), names
        terms = [f"{module.__name__}.{name} is {{c.{name}}}" for name in names]
        self.unless_left = self.unless_latched = " and ".join(terms)

    def take(self) -> None:
        self._saved = {name: self._live[name] for name in self._names}
        vars(self).update(self._saved)  # an attribute is found at once

    def restore(self) -> None:
        self._live.update(self._saved)


class ListOf:
    """A list that a module holds: neither another list nor another content."""

    def __init__(
        self, module: ModuleType, attribute: str, clear: Callable[[], object] = lambda: None
    ) -> None:
        self.name = f"{module.__name__}.{attribute}"
        self._module, self._attribute, self._clear = vars(module), attribute, clear
        self.unless_left = f"{self.name} is {{c.live}} and {{c.live}} == {{c.saved}}"
        self.unless_latched = self.unless_left

    def take(self) -> None:
        self.live: list[Any] = self._module[self._attribute]
        self.saved = list(self.live)

    def restore(self) -> None:
        if self._module.get(self._attribute) is self.live and self.live == self.saved:
            return
        self._module[self._attribute] = self.live
        self._clear()
        self.live[:] = self.saved


class _Environment:
    """``os.environ``, compared as the bytes that it holds: decoding them all takes 20 µs."""

    name = "os.environ"
    unless_left = "os.environ is {c.text} and {c.inside}['_data'] == {c.saved}"
    unless_latched = "os.environ is {c.text}"

    def take(self) -> None:
        self.text, self._bytes = os.environ, os.environb
        self.inside = vars(os.environ)
        self.saved = dict(self.inside["_data"])

    def restore(self) -> None:
        if os.environ is not self.text:
            os.environ = self.text  # noqa: B003 - it is the very mapping that belongs there
        live = self.inside["_data"]
        if live != self.saved:
            self._write(live)

    def _write(self, live: dict[bytes, bytes]) -> None:
        time_zone = live.get(b"TZ")
        for key in [key for key in live if key not in self.saved]:
            del self._bytes[key]
        for key in [key for key, value in self.saved.items() if live.get(key) != value]:
            self._bytes[key] = self.saved[key]
        if live.get(b"TZ") != time_zone:
            time.tzset()  # libc would go on with the task's zone


class _WorkingDirectory:
    """The current directory; None where it has been deleted."""

    name = "working directory"
    unless_left, unless_latched = "{c.ask}() == {c.seen}", NEVER

    def take(self) -> None:
        self.seen = self.look()
        self.ask: Callable[[], str | None] = os.getcwd if self.seen else self.look

    def restore(self) -> None:
        if self.seen is not None and self.look() != self.seen:
            # If the daemon's directory is gone, a new daemon could not start there either: this
            # one goes on wherever it is.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.chdir(self.seen)

    @staticmethod
    def look() -> str | None:
        try:
            return os.getcwd()  # noqa: PTH109 - a Path takes 3 µs more
        except FileNotFoundError:
            return None


class _DecimalContext:
    """The main thread's decimal context, once somebody has imported ``decimal``."""

    name = "decimal context"
    unless_left = unless_latched = "'decimal' not in sys.modules or {c.look}()"

    def take(self) -> None:
        decimal = sys.modules.get("decimal")
        self._keep(decimal.getcontext() if decimal else None)

    def look(self) -> bool:
        decimal = sys.modules.get("decimal")
        if decimal is None:
            return True
        return self._saved is not None and decimal.getcontext().__reduce__() == self._state

    def restore(self) -> None:
        decimal = sys.modules.get("decimal")
        if decimal is None:
            return
        if self._saved is None:
            self._keep(decimal.DefaultContext)
        if decimal.getcontext().__reduce__() != self._state:
            decimal.setcontext(self._saved.copy())

    def _keep(self, context: Any) -> None:
        self._saved = context and context.copy()
        self._state = self._saved and self._saved.__reduce__()


class _EventLoop:
    """The event loop that is set in the main thread, once somebody has imported ``asyncio``.

    A loop that a task set and left is unset, not closed: a global of the host may hold it.
    """

    name = "asyncio event loop"
    unless_left = unless_latched = "'asyncio.events' not in sys.modules or {c.look}()"
    _policy: Any = None
    _loop: Any = None

    def take(self) -> None:
        events = sys.modules.get("asyncio.events")
        if events is not None:
            self._policy, self._loop = self._read(vars(events))

    def look(self) -> bool:
        events = sys.modules.get("asyncio.events")
        if events is None:
            return True
        policy, loop = self._read(vars(events))
        return policy is self._policy and loop is self._loop

    def restore(self) -> None:
        if self.look():
            return
        events = sys.modules["asyncio.events"]
        # Without a policy, asyncio makes a new one, with no loop yet. The public setter does the
        # same, and is deprecated from 3.14 on.
        vars(events)["_event_loop_policy"] = self._policy
        if self._policy is not None:
            self._policy.set_event_loop(self._loop)

    @staticmethod
    def _read(events: dict[str, Any]) -> tuple[Any, Any]:
        policy = events.get("_event_loop_policy")
        if policy is None:
            return None, None
        return policy, getattr(getattr(policy, "_local", None), "_loop", None)


class _Monitoring:  # pragma: no cover - Python 3.11 has none
    """The tools of ``sys.monitoring`` (Python 3.12): a profiler left on forbids the next one."""

    name = "sys.monitoring"
    unless_left = unless_latched = LOOK

    def __init__(self, monitoring: Any) -> None:
        self._monitoring = monitoring

    def take(self) -> None:
        self.seen = self.look()

    def look(self) -> list[str | None]:
        return list(map(self._monitoring.get_tool, range(6)))

    def restore(self) -> None:
        for tool, (saved, name) in enumerate(zip(self.seen, self.look(), strict=True)):
            if saved is None and name is not None:
                self._free(tool)

    def _free(self, tool: int) -> None:
        self._monitoring.set_events(tool, 0)
        for event in vars(self._monitoring.events).values():
            if isinstance(event, int) and event.bit_count() == 1:
                self._monitoring.register_callback(tool, event, None)
        self._monitoring.free_tool_id(tool)


class _Umask(SetAnew[int]):
    """Which permissions new files do not get."""

    unless_latched = NEVER

    def __init__(self) -> None:
        super().__init__("umask", _read_umask, _write_umask)


class _Locale(Setting[str]):
    """How numbers, dates and the like are written."""

    unless_latched = NEVER

    def __init__(self) -> None:
        super().__init__("locale", _read_locale, _write_locale)


class _RootLogger:
    """What ``basicConfig``, ``disable`` and ``captureWarnings`` change, once there is ``logging``.

    Before somebody has imported it, it is as it will be then.
    """

    name = "root logger"
    # To find out by a call takes longer than all of this.
    unless_left = unless_latched = (
        "'logging' not in sys.modules or"
        " logging.root.level == {c.level} and logging.root.manager.disable == {c.disabled}"
        " and logging.root.handlers == {c.handlers}"
        " and logging._warnings_showwarning is {c.shows_warnings}"
    )
    level, disabled = 30, 0  # WARNING, and nothing
    shows_warnings: Any = None

    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def take(self) -> None:
        if (logging := self._module()) is not None:
            root = logging.root
            self.level, self.disabled = root.level, root.manager.disable
            self.handlers = list(root.handlers)
            self.shows_warnings = vars(logging)["_warnings_showwarning"]

    def restore(self) -> None:
        if (logging := self._module()) is None:
            return
        root = logging.root
        root.handlers[:] = self.handlers
        if root.level != self.level:
            root.setLevel(self.level)
        if root.manager.disable != self.disabled:
            logging.disable(self.disabled)
        # captureWarnings() does nothing while it believes that it is on already.
        vars(logging)["_warnings_showwarning"] = self.shows_warnings

    @staticmethod
    def _module() -> Any:
        """Return the module, unless a thread is just importing it."""
        module = sys.modules.get("logging")
        return module if hasattr(module, "captureWarnings") else None  # which comes last


def of_running_code(untouched: frozenset[int]) -> Iterator[Channel]:
    """Return the channels by which a task's code could still run.

    Args:
        untouched: Signals whose handlers are the daemon's own.
    """
    yield from _tracers()
    yield from of_signals(untouched)


def of_values(path: ListOf) -> Iterator[Channel]:
    """Return the channels by which a task leaves values; ``path`` is that of ``sys.path``."""
    yield _Environment()
    yield _WorkingDirectory()
    yield path
    yield ListOf(sys, "argv")
    yield ListOf(warnings, "filters", clear=warnings.resetwarnings)
    yield Streams()
    yield from _hooks()
    yield from _settings()
    yield _DecimalContext()
    yield _EventLoop()


def _hooks() -> Iterator[Channel]:
    yield _Hooks(sys, "excepthook", "displayhook", "unraisablehook", "breakpointhook")
    yield _Hooks(threading, "excepthook")
    # catch_warnings(record=True), never left, would swallow all warnings to come.
    yield _Hooks(warnings, "showwarning", "formatwarning", "_showwarnmsg_impl")


def _tracers() -> Iterator[Channel]:
    yield Setting[Any]("sys.settrace", sys.gettrace, sys.settrace)
    yield Setting[Any]("sys.setprofile", sys.getprofile, sys.setprofile)
    yield Setting[Any]("threading.settrace", threading.gettrace, threading.settrace)
    yield Setting[Any]("threading.setprofile", threading.getprofile, threading.setprofile)
    if hasattr(sys, "monitoring"):  # pragma: no cover - as above
        yield _Monitoring(sys.monitoring)


def _settings() -> Iterator[Channel]:
    yield _Umask()
    yield SetAnew("faulthandler", faulthandler.is_enabled, _write_faulthandler)
    yield Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield Setting("switch interval", sys.getswitchinterval, sys.setswitchinterval)
    yield Setting("digits of an int", sys.get_int_max_str_digits, sys.set_int_max_str_digits)
    yield Setting("gc", gc.isenabled, lambda on: gc.enable() if on else gc.disable())
    yield Setting("gc thresholds", gc.get_threshold, lambda those: gc.set_threshold(*those))
    yield Setting("stack size of threads", threading.stack_size, threading.stack_size)
    yield Setting("socket timeout", _socket.getdefaulttimeout, _socket.setdefaulttimeout)
    # A task that calls basicConfig() would make that of the next one do nothing.
    yield _RootLogger()
    yield _Locale()


_write_umask = os.umask  # before a latch watches it


def _read_umask() -> int:
    mask = _write_umask(0o077)
    _write_umask(mask)
    return mask


def _write_faulthandler(on: bool) -> None:
    faulthandler.cancel_dump_traceback_later()
    if on:
        faulthandler.enable(2)  # it cannot be asked for the descriptor that it has
    else:
        faulthandler.disable()


# locale.setlocale builds on this one, and takes twice as long to ask it.
_read_locale: Callable[[], str] = partial(_locale.setlocale, _locale.LC_ALL, None)


def _write_locale(value: str) -> None:
    _locale.setlocale(_locale.LC_ALL, value)
