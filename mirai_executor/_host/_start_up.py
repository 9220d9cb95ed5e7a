"""Brings daemons to work: from the command to launch one, or its greeting, until it is ready."""

import itertools
import logging
import sys
from collections.abc import Iterator
from typing import Protocol

from mirai_executor import _wire
from mirai_executor._core import DaemonId, DaemonLost, Event, InitializerFailed, LaunchRefused
from mirai_executor._forking import ServerLostError
from mirai_executor._local import Relay, Spawner, as_launch_error, lacks_room
from mirai_executor._payload.host import encode_plain
from mirai_executor.errors import LaunchError

from . import _registry
from ._daemon import HOST_NAME, Daemon, LocalDaemon
from ._loss_reports import LossReports
from ._outcomes import decode_apart
from ._settings import Setup
from ._store import Store

__all__ = ["StartUp"]

_LOG = logging.getLogger("mirai_executor")


class Members(Protocol):
    """The fleet, as far as who joins it needs it."""

    def watch(self, id_: DaemonId, daemon: LocalDaemon) -> None: ...
    def send(self, id_: DaemonId, frame: _wire.Frame) -> None: ...
    def dismiss(self, id_: DaemonId, *, why: str) -> None: ...
    def report(self, event: Event) -> None: ...
    def report_soon(self, event: Event) -> None: ...


class StartUp:
    """Starts the daemons of one executor that are to run here, and sets up all of them.

    Args:
        spawner: Starts their processes.
        relay: Takes over their standard error.
        store: Keeps the large buffers of tasks.
        setup: What each is told.
        daemons: Those of the executor; new ones are added.
        losses: Is told why none can be started.
        fleet: Is told what happens to them.
    """

    def __init__(
        self,
        spawner: Spawner,
        relay: Relay,
        store: Store,
        setup: Setup,
        daemons: dict[DaemonId, Daemon],
        losses: LossReports,
        fleet: Members,
    ) -> None:
        self._spawner = spawner
        self._relay = relay
        self._store = store
        self._setup = setup
        self._daemons = daemons
        self._loss_reports = losses
        self._fleet = fleet
        self._held: dict[DaemonId, None] = {}  # wait for the fork server, in order

    def launch(self, id_: DaemonId) -> None:
        """Start a daemon, or have it wait for the fork server; a failure is reported as a loss."""
        if self._spawner.awaits_server:
            self._held[id_] = None
        else:
            self._launch(id_)

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
            return LocalDaemon(self._spawner, self._relay, self._store)
        except ServerLostError:  # what it was handed may be in use: nothing is used again
            return LocalDaemon(self._spawner, self._relay, self._store)

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

    def rows(self) -> Iterator[tuple[DaemonId, int, str]]:
        """Yield those that wait for a process: its id, and its machine."""
        yield from ((id_, self._spawner.server_pid, HOST_NAME) for id_ in self._held)

    def close(self) -> None:
        """Let go of the fleet, which refers to this."""
        del self._fleet

    def greet(self, id_: DaemonId, daemon: Daemon, hello: _wire.Hello) -> None:
        """Tell a daemon what it has to know, or end it if it cannot work here."""
        if why := daemon.misfit(hello):
            self._refuse(id_, daemon, why)
            return
        daemon.has_greeted = True
        daemon.slot = self._free_slot()
        daemon.link.largest = sys.maxsize
        initializer, log = self._setup.initializer, self._setup.log
        cleanup = self._setup.cleanup if daemon.cleanup is None else daemon.cleanup
        if initializer is not None:
            daemon.note_names(initializer.names)
        if log is not None:
            daemon.records = log.records_of_daemon()
        levels = None if log is None else log.levels
        setup = (daemon.preparation(), initializer, cleanup, levels)
        self._fleet.send(id_, _wire.Init(encode_plain(setup)))
        self.launch_held()

    def _refuse(self, id_: DaemonId, daemon: Daemon, why: str) -> None:
        """End a daemon that cannot work here, nor could any other of this interpreter."""
        self._loss_reports.note_misfit(why, daemon)
        daemon.kill()
        self._fleet.report(InitializerFailed(id_))
        self.launch_held()

    def _free_slot(self) -> int:
        """Return the first place that is free: who takes that of another has its number."""
        daemons = self._daemons.values()
        # Who may leave has no task any more, and its successor is here already.
        taken = {each.slot for each in daemons if not (each.is_dead or each.dismissed)}
        return next(slot for slot in itertools.count(1) if slot not in taken)

    def fail(self, id_: DaemonId, daemon: Daemon, frame: _wire.InitFailed) -> None:
        """Let a daemon go whose initializer has failed."""
        cause = decode_apart(frame.payload)
        self._loss_reports.note_initializer(cause, daemon)
        if daemon.is_elsewhere:
            what = f"{type(cause).__name__}: {cause}"
            _LOG.warning(
                "the initializer failed on %s, whose daemon leaves: %s", daemon.host, what
            )
        self._fleet.dismiss(id_, why=f"its initializer failed: {type(cause).__name__}: {cause}")
        self._fleet.report(InitializerFailed(id_))
