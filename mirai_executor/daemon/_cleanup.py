"""Decides what of a task outlives it: its modules, and the names that the host has too.

::

    daemon starts ──► Snapshot ──► task ──► restore ──► task ──► restore ──► …
                         ▲                                │
                         └──── retake ◄── everywhere ◄────┘

Most tasks leave nothing, so ``restore`` begins with a look at all that it would restore. A look
at what only the system knows, or at the whole environment, takes longer than a short task; there,
a :class:`Latch` tells whether there is anything to see. What C code has changed behind it, is seen
by the next look that does not go by it.

Everything else that Python can see and put back returns to the snapshot. Two kinds of traces stay:

- What an import leaves and cannot leave again, since modules are never unloaded: import hooks
  (``six.moves`` dies without its own), attributes of modules and builtins, ``gc.callbacks``.
- What Python cannot see: threads, open files, values changed in place, ``os.putenv``, handlers set
  in C, standard descriptors redirected by ``dup2``, resource limits. The state of ``random`` goes
  on too, or each task would draw the same numbers.

Each kind of trace is a channel, in ``_channels`` and beside it; only that of the names of
``__main__``, which knows of the host, is here.
"""

import sys
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from types import ModuleType

from mirai_executor._typing import Final, TypeAlias
from mirai_executor.errors import MiraiError

from ._channels import ListOf, of_running_code, of_values
from ._latches import Latch
from ._look import Channel, Look

_Steps: TypeAlias = dict[Callable[[], None], str]  # each with the name of its channel

_MISSING: Final = object()


class CleanupError(MiraiError):
    """What a task left behind could not all be undone: its daemon must leave.

    Attributes:
        failures: One line for each channel that stayed as it was, with its error.
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
        latch: Has watched since before the first code of a user; without one, all is looked at
            after each task.
        untouched: Signals whose handlers are the daemon's own. Nothing moves them: neither a task
            nor, with :meth:`retake`, an initializer; nor are they ever left blocked.
    """

    def __init__(
        self,
        main: ModuleType,
        latch: Latch | None = None,
        *,
        untouched: frozenset[int] = frozenset(),
    ) -> None:
        self._latch = latch
        self._globals = _Globals(main)
        self._path = ListOf(sys, "path")
        # Code first: what the task has left could still run it. Then values: their finalizers may
        # touch anything.
        channels: tuple[Channel, ...] = (
            *of_running_code(untouched),
            self._globals,
            *of_values(self._path),
        )
        self._takes: _Steps = {channel.take: channel.name for channel in channels}
        self._restores: _Steps = {channel.restore: channel.name for channel in channels}
        self._full = Look((c, c.unless_left) for c in channels)
        self._short = Look((c, c.unless_latched) for c in channels)
        self.retake()

    def retake(self) -> None:
        """Make what the daemon looks like now the snapshot, its own signals excepted.

        Raises:
            CleanupError: Some of it cannot be a snapshot, nor be put back. The daemon must leave.
        """
        _go_through(self._takes)
        self._refresh()

    def keep_path(self, sys_path: list[str]) -> None:
        """Set ``sys.path`` to the host's, now and after each task."""
        self._path.saved = list(sys_path)
        self._path.restore()
        self._refresh()

    def restore(self, host_names: AbstractSet[str], *, by_latch: bool = False) -> None:
        """Undo what a task changed, except for the globals in ``host_names``.

        Args:
            host_names: Belong to the tasks.
            by_latch: Take the latch's word for what takes long to look at.

        Raises:
            CleanupError: Some of it could not be undone; all the rest was. The daemon must leave.
        """
        self._globals.host_names = host_names
        look = self._full
        if (latch := self._latch) is not None:
            if by_latch and not latch.is_open:
                look = self._short
            latch.is_open = False  # before the look: a thread may do something behind its back
        try:
            if look.is_clear():
                return
        except BaseException:  # noqa: S110 - something is gone, or a task's handler has raised
            pass
        _go_through(self._restores)
        self._refresh()

    def _refresh(self) -> None:
        self._full.refresh()
        self._short.refresh()


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
    # By identity, as == is the user's code. A dict keeps its order: what was there first, is.
    unless_left = (
        "sys.modules['__main__'] is {c.registered}"
        " and all(map(is_, {c.live}.values(), {c.saved}.values()))"
        " and (list({c.live}) == {c}.allowed or {c}.are_known())"
    )
    unless_latched = unless_left
    host_names: AbstractSet[str] = frozenset()

    def __init__(self, main: ModuleType) -> None:
        self.live = vars(main)
        self.registered = sys.modules["__main__"]

    def take(self) -> None:
        self.saved = dict(self.live)
        self._names = self.allowed = list(self.saved)

    def are_known(self) -> bool:
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
