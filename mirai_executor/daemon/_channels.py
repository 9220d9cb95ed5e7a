"""The ways in which a task can leave a trace at its daemon, and how each trace is undone.

A channel is a few attributes that are compared with saved ones, because the daemon pays for all
of them after each task, also after one that took a microsecond. So each says by an expression what
holds while there is nothing to undo, and all of these are compiled into one: a loop over as many
functions would take two to three times as long.
"""

import _locale
import contextlib
import faulthandler
import gc
import io
import locale
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
import warnings

# signal.getsignal makes an enum member of what it finds: 34 µs for all signals, and 1.5 µs here.
from _signal import (  # type: ignore[import-not-found]  # typeshed leaves it out
    getitimer,
    getsignal,
    pthread_sigmask,
)
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import is_
from types import ModuleType
from typing import Any, Final, Generic, Protocol, TypeVar

T = TypeVar("T")

_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_TIMER_SIGNALS: Final = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL}
)
_MODULES: Final = {module.__name__: module for module in (logging, os, sys, threading, warnings)}
_STREAMS: Final = {
    "stdin": 0, "stdout": 1, "stderr": 2, "__stdin__": 0, "__stdout__": 1, "__stderr__": 2,
}  # fmt: skip


class Channel(Protocol):
    """One way in which a task can leave a trace.

    Attributes:
        name: What it is about.
        unless_left: An expression that is true while there is nothing to restore; if there is, it
            is false, raises, or restores it by itself. ``{c}`` stands for the channel, and
            ``{c.seen}`` for what its attribute was at the last take or restore: to look an
            attribute up takes as long as much of what is asked here. Modules are known by their
            names.
        unless_latched: The same where no watched function has been called.
    """

    name: str

    @property
    def unless_left(self) -> str: ...
    @property
    def unless_latched(self) -> str: ...
    def take(self) -> None: ...
    def restore(self) -> None: ...


_LOOK: Final = "{c.look}() == {c.seen}"
_NEVER: Final = "True"  # without a watched function, nothing is ever left


class Look:
    """Tells whether all of some expressions are true.

    Attributes:
        is_clear: Does so; an expression may raise instead.
    """

    def __init__(self, expressions: Iterable[tuple[Channel, str]]) -> None:
        self._attributes: dict[str, tuple[Channel, str]] = {}
        self._names: dict[str, Any] = {**_MODULES, "is_": is_}
        terms = []
        for number, (channel, expression) in enumerate(expressions):
            if expression != _NEVER:
                name = f"c{number}"
                self._names[name] = channel
                terms.append(f"({expression.format(c=_Named(channel, name, self._attributes))})")
        code = compile(f"lambda: {' and '.join(terms)}", "<channels>", "eval")
        self.is_clear: Callable[[], bool] = eval(code, self._names)  # noqa: S307 - our own text

    def refresh(self) -> None:
        """Take note of what channels have become: after each take or restore."""
        for name, (channel, attribute) in self._attributes.items():
            self._names[name] = getattr(channel, attribute)


class _Named:
    """In a format string: a channel, and its attributes, by the names that stand for them."""

    def __init__(self, channel: Channel, name: str, found: dict[str, tuple[Channel, str]]) -> None:
        self.__channel, self.__name, self.__found = channel, name, found

    def __getattr__(self, attribute: str) -> str:
        name = f"{self.__name}_{attribute}"
        self.__found[name] = self.__channel, attribute
        return name

    def __str__(self) -> str:
        return self.__name


class _Setting(Generic[T]):
    """A value that is cheap to read."""

    unless_left = unless_latched = _LOOK
    seen: T

    def __init__(self, name: str, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self.name, self.look, self._write = name, read, write

    def take(self) -> None:
        self.seen = self.look()

    def restore(self) -> None:
        if self.look() != self.seen:
            self._write(self.seen)


class _SetAnew(Generic[T]):
    """A value that is as cheap to set as to read, or that only setting it can tell."""

    unless_left = unless_latched = _LOOK

    def __init__(self, name: str, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self.name, self._read, self._write = name, read, write

    def take(self) -> None:
        self.look = partial(self._write, self._read())
        self.seen = self.look()  # nothing, or the value that it has replaced

    def restore(self) -> None:
        self.look()


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
    unless_left, unless_latched = "{c.ask}() == {c.seen}", _NEVER

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


class _Timer:
    """A timer that sends a signal: never set."""

    unless_left, unless_latched = _LOOK, _NEVER
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
    unless_latched = _NEVER
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
    unless_left, unless_latched = _LOOK, _NEVER

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


class _Streams:
    """``sys.stdin``, ``stdout``, ``stderr`` and their descriptors: the same ones, and open."""

    name = "standard streams"
    # A stream that is detached from its buffer raises when asked whether it is closed.
    unless_left = " and ".join(
        (
            *(f"sys.{name} is {{c.{name}}}" for name in _STREAMS),
            *(f"(sys.{n} is None or not sys.{n}.closed)" for n in ("stdin", "stdout", "stderr")),
            "(not {c.poll}(0) or {c.are_open}())",
        )
    )
    unless_latched = unless_left
    poll: Callable[[int], list[tuple[int, int]]]  # one system call for all three descriptors

    def __init__(self) -> None:
        self._live = vars(sys)
        self._saved: dict[str, Any] = {}
        self._layouts: dict[str, _Layout | None] = {}

    def take(self) -> None:
        for name, descriptor in _STREAMS.items():
            stream = self._live.get(name)
            # A closed one is no snapshot: then the one before it stays, and is opened again.
            if name not in self._saved or not _is_closed(stream):
                self._saved[name] = stream
                self._layouts[name] = _Layout.of(stream, descriptor)
        self._descriptors = [descriptor for descriptor in range(3) if _is_open(descriptor)]
        self.restore()

    def are_open(self) -> bool:
        return all(not events & select.POLLNVAL for _, events in self.poll(0))

    def restore(self) -> None:
        self._live.update(self._saved)
        for descriptor in self._descriptors:
            os.get_inheritable(descriptor)  # raises if it is closed
        # Only now: a wrapper that the task put around a buffer closes it with its last reference.
        for name in ("stdin", "stdout", "stderr"):
            if _is_closed(self._saved[name]):
                self._reopen(name)
        self._watch()

    def _watch(self) -> None:
        poll = select.poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, 0)  # whether it is open, and nothing else
        self.poll = poll.poll
        vars(self).update(self._saved)  # an attribute is found at once

    def _reopen(self, name: str) -> None:
        closed, layout = self._saved[name], self._layouts[name]
        if layout is None:
            raise ValueError(f"the task closed sys.{name}, which cannot be opened again")
        stream = layout.open()
        for alias in [alias for alias, saved in self._saved.items() if saved is closed]:
            self._saved[alias] = self._live[alias] = stream


@dataclass(frozen=True)
class _Layout:
    """How to open a standard stream again, just as it was."""

    open_raw: Callable[[], Any]
    buffered: Callable[[Any], Any] | None
    text: dict[str, Any]

    @classmethod
    def of(cls, stream: Any, descriptor: int) -> "_Layout | None":
        """Return None if it is not text on that descriptor, or closed."""
        try:
            if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != descriptor:
                return None
        except (OSError, ValueError):
            return None
        # With python -u, there is no buffer between the text and the raw side.
        raw = getattr(stream.buffer, "raw", stream.buffer)
        names = ("encoding", "errors", "line_buffering", "write_through")
        return cls(
            open_raw=partial(_open_raw, type(raw), descriptor),
            buffered=None if raw is stream.buffer else type(stream.buffer),
            text={name: getattr(stream, name) for name in names},
        )

    def open(self) -> io.TextIOWrapper:
        raw = self.open_raw()
        return io.TextIOWrapper(self.buffered(raw) if self.buffered else raw, **self.text)


def _open_raw(kind: Callable[..., Any], descriptor: int) -> Any:
    if kind is io.FileIO:
        return kind(descriptor, "wb" if descriptor else "rb", closefd=False)
    return kind(descriptor)  # the daemon's own, which never blocks


def _is_closed(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.closed)
    except ValueError:
        return True  # detached from its buffer


def _is_open(descriptor: int) -> bool:
    try:
        os.get_inheritable(descriptor)
    except OSError:
        return False
    return True


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
    unless_left = unless_latched = _LOOK

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


class _Wakeup(_SetAnew[int]):
    """The descriptor that a signal writes to."""

    unless_latched = _NEVER

    def __init__(self) -> None:
        super().__init__("signal wakeup descriptor", _read_wakeup, _write_wakeup)


class _Umask(_SetAnew[int]):
    """Which permissions new files do not get."""

    unless_latched = _NEVER

    def __init__(self) -> None:
        super().__init__("umask", _read_umask, _write_umask)


class _Locale(_Setting[str]):
    """How numbers, dates and the like are written."""

    unless_latched = _NEVER

    def __init__(self) -> None:
        super().__init__("locale", _read_locale, _write_locale)


class _RootLogger:
    """What ``basicConfig`` and ``logging.disable`` change."""

    name = "root logger"
    unless_left = (
        "logging.root.level == {c.level} and logging.root.manager.disable == {c.disabled}"
        " and logging.root.handlers == {c.handlers}"
    )
    unless_latched = unless_left

    def take(self) -> None:
        root = logging.root
        self.level, self.disabled = root.level, root.manager.disable
        self.handlers = list(root.handlers)

    def restore(self) -> None:
        root = logging.root
        root.handlers[:] = self.handlers
        if root.level != self.level:
            root.setLevel(self.level)
        if root.manager.disable != self.disabled:
            logging.disable(self.disabled)


def of_running_code(untouched: frozenset[int]) -> Iterator[Channel]:
    """Return the channels by which a task's code could still run.

    Args:
        untouched: Signals whose handlers are the daemon's own.
    """
    yield from _tracers()
    yield from map(_Timer, _TIMERS)
    yield _Signals(untouched)
    yield _SignalMask(untouched)
    yield _Wakeup()


def of_values(path: ListOf) -> Iterator[Channel]:
    """Return the channels by which a task leaves values; ``path`` is that of ``sys.path``."""
    yield _Environment()
    yield _WorkingDirectory()
    yield path
    yield ListOf(sys, "argv")
    yield ListOf(warnings, "filters", clear=warnings.resetwarnings)
    yield _Streams()
    yield from _hooks()
    yield from _settings()
    yield _DecimalContext()
    yield _EventLoop()


def _hooks() -> Iterator[Channel]:
    yield _Hooks(sys, "excepthook", "displayhook", "unraisablehook", "breakpointhook")
    yield _Hooks(threading, "excepthook")
    # catch_warnings(record=True), never left, would swallow all warnings to come.
    yield _Hooks(warnings, "showwarning", "formatwarning", "_showwarnmsg_impl")
    # logging.captureWarnings() does nothing while it believes that it is on already.
    yield _Hooks(logging, "_warnings_showwarning")


def _tracers() -> Iterator[Channel]:
    yield _Setting[Any]("sys.settrace", sys.gettrace, sys.settrace)
    yield _Setting[Any]("sys.setprofile", sys.getprofile, sys.setprofile)
    yield _Setting[Any]("threading.settrace", threading.gettrace, threading.settrace)
    yield _Setting[Any]("threading.setprofile", threading.getprofile, threading.setprofile)
    if hasattr(sys, "monitoring"):  # pragma: no cover - as above
        yield _Monitoring(sys.monitoring)


def _settings() -> Iterator[Channel]:
    # logging, socket and locale are always loaded here: concurrent.futures.process needs them.
    yield _Umask()
    yield _SetAnew("faulthandler", faulthandler.is_enabled, _write_faulthandler)
    yield _Setting("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield _Setting("switch interval", sys.getswitchinterval, sys.setswitchinterval)
    yield _Setting("digits of an int", sys.get_int_max_str_digits, sys.set_int_max_str_digits)
    yield _Setting("gc", gc.isenabled, lambda on: gc.enable() if on else gc.disable())
    yield _Setting("gc thresholds", gc.get_threshold, lambda those: gc.set_threshold(*those))
    yield _Setting("stack size of threads", threading.stack_size, threading.stack_size)
    yield _Setting("socket timeout", socket.getdefaulttimeout, socket.setdefaulttimeout)
    # A task that calls basicConfig() would make that of the next one do nothing.
    yield _RootLogger()
    yield _Locale()


def _read_wakeup() -> int:
    descriptor = signal.set_wakeup_fd(-1)
    _write_wakeup(descriptor)
    return descriptor


_write_wakeup = partial(signal.set_wakeup_fd, warn_on_full_buffer=False)


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
_read_locale: Callable[[], str] = partial(_locale.setlocale, locale.LC_ALL, None)


def _write_locale(value: str) -> None:
    locale.setlocale(locale.LC_ALL, value)
