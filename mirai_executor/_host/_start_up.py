"""Brings daemons to work, from the command to launch one, or its greeting, until it is ready.

What keeps them from it, and how they were lost, becomes the errors of tasks.
"""

import collections
import functools
import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from mirai_executor import _wire
from mirai_executor._core import (
    BroadcastAnswered,
    DaemonId,
    DaemonLost,
    Event,
    InitializerFailed,
    LaunchRefused,
    ReportWait,
)
from mirai_executor._local import (
    Spawner,
    another,
    as_launch_error,
    describe_exit,
    lacks_room,
    last_words,
    memory_hint,
)
from mirai_executor._payload.host import encode_plain
from mirai_executor._shared import ServerLostError
from mirai_executor._waiting import Reactor
from mirai_executor.errors import DaemonLostError, LaunchError

from . import _registry
from ._daemon import HOST_NAME, Daemon, LocalDaemon
from ._settings import Setup
from ._tasks import decode_apart

if TYPE_CHECKING:
    from ._importing import SharedImport

_LOG = logging.getLogger("mirai_executor")
_DEPARTURES = 5  # that are remembered: the last ones
# Seconds of processor time: a program that has used less has imported nothing that takes long.
_WORTH_WHILE = 0.3
_TIGHT = 20.0  # seconds for a start, in which there is no time to wait for the import of others


class LossReports:
    """Those of one executor. For the host thread only.

    Attributes:
        why_none: Why no daemon can be started, as far as that is known.
        shortage: Why there were fewer than there should be, the last time.
        departures: Why the last ones of other machines have left, or were lost.
    """

    def __init__(self) -> None:
        self.why_none: LaunchError | None = None
        self.shortage = ""
        self.departures: collections.deque[str] = collections.deque(maxlen=_DEPARTURES)
        self._is_misfit = False
        self._now: dict[DaemonId, tuple[Daemon, str]] = {}  # with its last lines

    @contextmanager
    def reporting(self, id_: DaemonId, daemon: Daemon, stderr: str) -> Iterator[None]:
        """Know of a loss while it is reported, and how the last daemon ended also afterwards."""
        known = self.why_none
        says_more = self._is_misfit or (known is not None and known.__cause__ is not None)
        if not says_more:
            self.why_none = LaunchError(
                "daemons fail to start, or exit before they run a task; the last one "
                f"{_describe_end(daemon)}{_is_too_old(stderr)}{last_words(stderr)}",
                command=daemon.command,
                exitcode=daemon.exitcode,
                stderr=stderr,
            )
        if daemon.is_elsewhere and not daemon.dismissed:
            self.note_departure(daemon, _describe_end(daemon))
        self._now[id_] = (daemon, stderr)
        yield
        del self._now[id_]

    def note_initializer(self, cause: BaseException, daemon: Daemon) -> None:
        """Keep what an initializer has raised."""
        where = f" on {daemon.host}" if daemon.is_elsewhere else ""
        self.why_none = LaunchError(
            f"the initializer failed{where}: {type(cause).__name__}: {cause}",
            command=daemon.command,
        )
        self.why_none.__cause__ = cause

    def note_misfit(self, why: str, daemon: Daemon) -> None:
        """Keep why no daemon of this interpreter could work."""
        self.why_none = LaunchError(why, command=daemon.command)
        self._is_misfit = True

    def note_departure(self, daemon: Daemon, why: str) -> None:
        """Keep, and log, why a daemon of another machine leaves, or that it was lost."""
        text = f"pid {daemon.pid} on {daemon.host} has left: {why}"
        self.departures.append(text)
        _LOG.info("daemon with %s", text)

    def report_shortage(self, running: int) -> None:
        """Say that there are fewer daemons than there should be, and why."""
        self.shortage = str(self.why_none)
        _LOG.warning(
            "this executor goes on with %d daemon%s: the system has no room for another one now, "
            "which is tried again from time to time; %s",
            running,
            "s" * (running != 1),
            self.shortage,
        )

    def report_wait(self, report: ReportWait, asked_for: str = "") -> None:
        """Say that tasks wait, and for whom: those who forgot to start daemons see nothing."""
        _LOG.warning(
            "%s waited for %.3g s, and no daemon is connected: %s",
            "1 task has" if report.tasks == 1 else f"{report.tasks} tasks have",
            report.seconds,
            asked_for,
        )

    def launch_error(self) -> LaunchError:
        """Return a fresh error that says why no daemon can be started."""
        return another(self.why_none or LaunchError())

    def is_lost(self, id_: DaemonId) -> bool:
        """Tell whether a daemon's loss is being reported."""
        return id_ in self._now

    def lost_error(self, id_: DaemonId, what: str) -> DaemonLostError:
        """Return the error of a task, or whatever else, that went down with a daemon."""
        if id_ not in self._now:
            return DaemonLostError(f"the daemon ended {what}")
        daemon, stderr = self._now[id_]
        error = DaemonLostError(
            f"the daemon (pid {daemon.pid} on {daemon.host}) {_describe_end(daemon)} {what}"
            f"{last_words(stderr)}",
            pid=daemon.pid,
            host=daemon.host,
            exitcode=daemon.exitcode,
            stderr=stderr,
        )
        error._task = next(reversed(daemon.sent), None)  # noqa: SLF001 - it is one of ours
        error._element = getattr(daemon, "last_element", None)  # noqa: SLF001 - likewise
        return error


def _is_too_old(stderr: str) -> str:
    return ", since its Python is older than 3.11" if "Unknown option: -P" in stderr else ""


def _describe_end(daemon: Daemon) -> str:
    if daemon.exitcode is None:
        return "lost its connection" if daemon.is_elsewhere else "ended"
    return describe_exit(daemon.exitcode) + memory_hint(daemon.has_run_out_of_memory)


_LOG = logging.getLogger("mirai_executor")
_LONGEST_ERROR = 1000  # characters in a line of the log


Hear: TypeAlias = Callable[[DaemonId, Daemon, "_wire.Report | _wire.Items"], None]


class DaemonListener(Protocol):
    """Those who are told what happens to daemons; at once."""

    def handle(self, event: Event) -> None: ...
    def adopt_daemon(self) -> DaemonId: ...
    def on_results(self, daemon: DaemonId, outcomes: Sequence[_wire.WireOutcome]) -> None: ...
    def on_broadcast_answered(
        self, event: BroadcastAnswered, outcome: _wire.WireOutcome
    ) -> None: ...


class Members(Protocol):
    """The fleet, as far as those who join it need it."""

    hear: Hear

    def watch(self, id_: DaemonId, daemon: LocalDaemon) -> None: ...
    def send(self, id_: DaemonId, frame: _wire.Frame) -> None: ...
    def dismiss(self, id_: DaemonId, *, why: str) -> None: ...
    def report(self, event: Event) -> None: ...
    def report_soon(self, event: Event) -> None: ...


class StartUp:
    """Starts the daemons of one executor that are to run here, and sets up all of them.

    Args:
        spawner: Knows whether there is a fork server.
        start: Starts one.
        setup: What each is told.
        reactor: Waits for the import of the main module.
        daemons: Those of the executor; new ones are added.
        losses: Is told why none can be started.
        fleet: Is told what happens to them.
    """

    def __init__(
        self,
        spawner: Spawner,
        start: Callable[[], LocalDaemon],
        setup: Setup,
        reactor: Reactor,
        daemons: dict[DaemonId, Daemon],
        losses: LossReports,
        fleet: Members,
    ) -> None:
        self._spawner = spawner
        self._start_one = start
        self._setup = setup
        self._daemons = daemons
        self._loss_reports = losses
        self._fleet = fleet
        self._held: dict[DaemonId, None] = {}  # wait for the fork server, in order
        self._reactor = reactor
        self._importing: SharedImport | None = None  # as long as the server imports nothing

    def launch(self, id_: DaemonId) -> None:
        """Start a daemon, or have it wait for the fork server; a failure is reported as a loss."""
        if self._spawner.awaits_server or self._imports_first():
            self._held[id_] = None
        else:
            self._launch(id_)

    def _imports_first(self) -> bool:
        """Tell whether the server imports the main module at this moment; have it begin."""
        find = self._setup.find_main
        if find is None or find.file is None:
            return False
        if self._importing is None:
            # With an environment of their own, daemons may differ before they import anything.
            if self._setup.environments is not None or time.process_time() < _WORTH_WHILE:
                return False
            if self._setup.start_timeout < _TIGHT or not self._spawner.wants_main:
                return False
            with _registry.no_fork:
                from ._importing import SharedImport  # few programs have it

                setup = self._setup, find.file.entry.blob
                begun = SharedImport(self._spawner, *setup, self._reactor, self._go_on)
            self._importing = begun if begun.is_under_way else None
        return self._importing is not None

    def _go_on(self) -> None:
        self._importing = None
        self.launch_held()

    def _launch(self, id_: DaemonId) -> None:
        try:
            with _registry.no_fork:
                daemon = self._start()
                self._daemons[id_] = daemon
        except (LaunchError, OSError) as error:
            self._loss_reports.why_none = as_launch_error(error)
            refused = lacks_room(error)
            self._fleet.report_soon(LaunchRefused(id_) if refused else DaemonLost(id_))
            return
        self._fleet.watch(id_, daemon)

    def _start(self) -> LocalDaemon:
        try:
            return self._start_one()
        except ServerLostError:  # what it was handed may be in use: nothing is used again
            return self._start_one()

    def launch_held(self) -> None:
        """Start those that have waited, now that there is a fork server, or will be none."""
        if self._spawner.awaits_server:
            return
        held, self._held = self._held, {}
        for id_ in held:
            self.launch(id_)

    def drop(self, id_: DaemonId) -> bool:
        """Forget a daemon that has no process yet; False if it is none of those."""
        if id_ not in self._held:
            return False
        del self._held[id_]
        self._fleet.report_soon(DaemonLost(id_))
        return True

    def rows(self) -> Iterator[tuple[DaemonId, int, str, str]]:
        """Yield those that wait for a process: its id, its machine, and no seat."""
        yield from ((id_, self._spawner.server_pid, HOST_NAME, "") for id_ in self._held)

    def close(self) -> None:
        """Let go of the fleet, which refers to this."""
        if self._importing is not None:
            self._importing.close()
        del self._fleet, self._importing

    def greet(self, id_: DaemonId, daemon: Daemon, hello: _wire.Hello) -> None:
        """Tell a daemon what it has to know, or end it if it cannot work here."""
        if why := daemon.misfit(hello):
            self._refuse(id_, daemon, why)
            return
        daemon.has_greeted = True
        daemon.hear = functools.partial(self._fleet.hear, id_)
        daemon.slot = self._free_slot()
        daemon.link.largest = sys.maxsize
        calls, log = tuple(self._setup.calls), self._setup.log
        cleanup = self._setup.cleanup if daemon.cleanup is None else daemon.cleanup
        for call in calls:
            daemon.note_names(call.names)
            daemon.owes_initializer = True
        if log is not None:
            daemon.records = log.records_of_daemon()
        levels = None if log is None else log.levels
        preparation = daemon.preparation().titled(self._setup.name)
        if self._setup.main != "auto":
            preparation = preparation._replace(main=self._setup.main)
        if (environments := self._setup.environments) is not None:
            try:
                preparation = environments.put_into(preparation, daemon.slot)
            except Exception as error:  # the user's function may raise any
                why = f"daemon {daemon.slot} can have no environment: {error!r}"
                self._refuse(id_, daemon, why)
                return
        setup = (preparation, calls, cleanup, levels)
        self._fleet.send(id_, _wire.Init(encode_plain(setup)))
        self.launch_held()

    def _refuse(self, id_: DaemonId, daemon: Daemon, why: str) -> None:
        """End a daemon that cannot work here, nor could any other of this interpreter."""
        self._loss_reports.note_misfit(why, daemon)
        daemon.kill()
        self._fleet.report(InitializerFailed(id_))
        self.launch_held()

    def _free_slot(self) -> int:
        """Return the first place that is free: successors have their predecessors' numbers."""
        daemons = self._daemons.values()
        # A daemon that may leave has no task any more, and its successor is here already.
        taken = {each.slot for each in daemons if not (each.is_dead or each.dismissed)}
        return next(slot for slot in itertools.count(1) if slot not in taken)

    def fail(self, id_: DaemonId, daemon: Daemon, frame: _wire.InitFailed) -> None:
        """Let a daemon go whose initializer has failed.

        Raises:
            WireError: It was to run none, or has run it already.
        """
        if not daemon.owes_initializer:
            raise _wire.WireError("the error of an initializer that it was not asked to run")
        daemon.owes_initializer = False
        cause = decode_apart(frame.payload)
        self._loss_reports.note_initializer(cause, daemon)
        if daemon.is_elsewhere:
            from mirai_executor._texts import printable  # which local daemons have no use for

            what = printable(f"{type(cause).__name__}: {cause}", _LONGEST_ERROR)
            _LOG.warning(
                "the initializer failed on %s, whose daemon leaves: %s", daemon.host, what
            )
        self._fleet.dismiss(id_, why=f"its initializer failed: {type(cause).__name__}: {cause}")
        self._fleet.report(InitializerFailed(id_))
