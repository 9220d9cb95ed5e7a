"""Decides what of a task outlives it: its modules, and the names that the host has too.

::

    daemon starts ──► Snapshot ──► task ──► restore ──► task ──► restore ──► …
                         ▲                                │
                         └──── retake ◄── everywhere ◄────┘

What returns to the snapshot: names of ``__main__``, the environment, the working directory,
``sys.path``, ``sys.argv``, the standard streams, timers and signals, tracers, the root logger and
warnings. Everything else stays, as at a worker of ``ProcessPoolExecutor``: decimal contexts, the
locale, limits, hooks, event loops, the state of ``random``, values changed in place, modules.

What changed while an import ran stays too, as its module does: filters of warnings that a library
has set up, or variables that it reads later on. But if the task itself had changed the same kind
before, all of that kind returns to the snapshot.

Most tasks leave nothing, so ``restore`` begins with a look at all that it would restore. To ask
the system for what only it knows, or to compare the whole environment, takes almost as long as a
short task; there, a :class:`DirtyFlag` tells whether there is anything to see. What C code has
changed behind its back is seen by the next look that does not go by it.

Each kind is a trace, in ``_traces`` and beside it; only that of the names of ``__main__``, which
knows of the host, is here.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from operator import is_
from types import ModuleType

from mirai_executor._typing import Final, TypeAlias
from mirai_executor.errors import MiraiError

from ._dirty_flag import DirtyFlag
from ._imports import watch_imports
from ._signal_traces import Signals, Timers
from ._stream_trace import StandardStreams
from ._traces import Environment, ListOf, RootLogger, Trace, Tracers, Warnings, WorkingDirectory

_Steps: TypeAlias = dict[Callable[[], None], str]  # each with the name of its trace

_MISSING: Final = object()


class CleanupError(MiraiError):
    """What a task left behind could not all be undone: its daemon must leave.

    Attributes:
        failures: One line for each trace that stayed as it was, with its error.
    """

    def __init__(
        self,
        message: str = "the state that a task left behind could not be reset",
        *,
        failures: tuple[str, ...] = (),
    ) -> None:
        super().__init__("; ".join([message, *failures]))
        self.failures = failures


class Snapshot:
    """Remembers what a daemon looks like before its tasks, and restores it after each.

    All methods are for the main thread: signal handlers and timers can be set nowhere else. It
    keeps nothing that a task has made, and nothing that a host's name was bound to before.

    Args:
        main: The namespace that tasks live in.
        flag: Has watched since before the first code of a user; without one, all is looked at
            after each task.
        untouched: Signals whose handlers are the daemon's own. Nothing moves them: neither a task
            nor, with :meth:`retake`, an initializer; nor are they ever left blocked.
    """

    def __init__(
        self,
        main: ModuleType,
        flag: DirtyFlag | None = None,
        *,
        untouched: frozenset[int] = frozenset(),
    ) -> None:
        self._dirty_flag = flag
        self._globals = _Globals(main)
        self._environment = Environment()
        self._directory = WorkingDirectory()
        self._path, self._argv = ListOf(sys, "path"), ListOf(sys, "argv")
        self._streams = StandardStreams()
        self._timers, self._signals = Timers(), Signals(untouched)
        self._tracers = Tracers()
        self._logger, self._warnings = RootLogger(), Warnings()
        # Code first: what the task has left could still run it. Then values: their finalizers may
        # touch anything.
        traces: tuple[Trace, ...] = (
            *(self._tracers, self._timers, self._signals),
            self._globals,
            *(self._environment, self._directory, self._path, self._argv, self._warnings),
            *(self._streams, self._logger),
        )
        self._of_imports = tuple(trace for trace in traces if trace is not self._globals)
        self._before_import: list[Trace] = []
        self._takes: _Steps = {trace.take: trace.name for trace in traces}
        self._restores: _Steps = {trace.restore: trace.name for trace in traces}
        self.retake()

    def retake(self) -> None:
        """Make what the daemon looks like now the snapshot, its own signals excepted.

        Raises:
            CleanupError: Some of it cannot be a snapshot, nor be put back. The daemon must leave.
        """
        _go_through(self._takes)

    def keep_path(self, sys_path: list[str]) -> None:
        """Set ``sys.path`` to the host's, now and after each task."""
        self._path.saved = list(sys_path)
        self._path.restore()

    def watch_imports(self) -> None:
        """Let what imports on this thread set up outlive their tasks, from now on."""
        watch_imports(self._begin_import, self._end_import)

    def _begin_import(self) -> None:
        """Note what is as it was, as an import begins."""
        self._before_import = list(filter(_is_unchanged, self._of_imports))

    def _end_import(self) -> None:
        """Make what the import has changed of that a part of the snapshot."""
        before, self._before_import = self._before_import, []
        for trace in before:
            if not _is_unchanged(trace):
                with contextlib.suppress(Exception):  # it comes back after the task
                    trace.take()

    def restore(self, host_names: AbstractSet[str], *, by_flag: bool = False) -> None:
        """Undo what a task changed, except for the globals in ``host_names``.

        Args:
            host_names: Belong to the tasks.
            by_flag: Take the flag's word for what takes long to look at.

        Raises:
            CleanupError: Some of it could not be undone; all the rest was. The daemon must leave.
        """
        self._globals.host_names = host_names
        if (flag := self._dirty_flag) is not None:
            by_flag = by_flag and not flag.is_set
            flag.is_set = False  # before the look: a thread may do something behind its back
        try:
            if self._is_unchanged() and (by_flag or self._is_rest_unchanged()):
                return
        except BaseException:  # noqa: S110 - something is gone, or a task's handler has raised
            pass
        _go_through(self._restores)

    def _is_unchanged(self) -> bool:
        """Tell whether there is nothing to restore of what no flag watches."""
        return (
            self._globals.is_unchanged()
            and os.environ is self._environment.mapping
            and self._path.is_unchanged()
            and self._argv.is_unchanged()
            and self._streams.is_unchanged()
            and self._tracers.is_unchanged()
            and self._logger.is_unchanged()
            and self._warnings.is_unchanged()
        )

    def _is_rest_unchanged(self) -> bool:
        return (
            self._environment.is_unchanged()
            and self._timers.is_unchanged()
            and self._signals.is_unchanged()
            and self._directory.is_unchanged()
        )


def _is_unchanged(trace: Trace) -> bool:
    try:
        return trace.is_unchanged()
    except Exception:  # as of a closed stream, or by the user's code
        return False


def _go_through(steps: _Steps) -> None:
    """Take each step, whatever becomes of the others."""
    failed = _failures(steps)
    if failed:
        # The first time, a handler, tracer or finalizer of the task may have raised in here.
        failed = _failures({step: steps[step] for step in failed})
    if failed:
        raise CleanupError(failures=tuple(f"{steps[step]}: {why}" for step, why in failed.items()))


def _failures(steps: Iterable[Callable[[], None]]) -> dict[Callable[[], None], str]:
    failed = {}
    for step in steps:
        try:
            step()
        except BaseException as error:  # SystemExit too: it is the task's code
            import traceback  # hardly ever

            # As text: a traceback would keep what the task made.
            failed[step] = "".join(traceback.format_exception_only(error)).strip()
    return failed


class _Globals:
    """The names of ``__main__``: what they are bound to, not what those values contain."""

    name = "__main__"
    host_names: AbstractSet[str] = frozenset()

    def __init__(self, main: ModuleType) -> None:
        self.live = vars(main)
        self.registered = sys.modules["__main__"]

    def take(self) -> None:
        self.saved = dict(self.live)
        self._names = self.allowed = list(self.saved)

    def is_unchanged(self) -> bool:
        # By identity, as == is the user's code. A dict keeps its order: what was there first, is.
        return (
            sys.modules["__main__"] is self.registered
            and all(map(is_, self.live.values(), self.saved.values()))
            and (list(self.live) == self.allowed or self._are_known())
        )

    def _are_known(self) -> bool:
        names, known = list(self.live), len(self.saved)
        if names[:known] != self._names or not set(names[known:]) <= self.host_names:
            return False
        self.allowed = names  # for the next time: the host's names become more, never less
        return True

    def restore(self) -> None:
        if sys.modules.get("__main__") is not self.registered:
            sys.modules["__main__"] = self.registered
        self._put_back()
        for name in [name for name in self.live if name not in self.saved]:
            if name not in self.host_names:
                self.live.pop(name, None)
        # What was deleted stands elsewhere now.
        self.saved = {name: self.saved[name] for name in self.live if name in self.saved}
        self._names = self.allowed = list(self.saved)

    def _put_back(self) -> None:
        live, saved = self.live, self.saved
        for name in [name for name, was in saved.items() if live.get(name, _MISSING) is not was]:
            if name in self.host_names:
                # It belongs to the tasks now. What it was bound to may be a model of gigabytes.
                del saved[name]
            else:
                live[name] = saved[name]
