"""Starts the daemons of one executor, hears what they say, and notices how they end.

What happens to a daemon becomes an event for the dispatcher, or outcomes of tasks. Everything here
runs on the host thread.
"""

import functools
import logging
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mirai_executor import _wire
from mirai_executor._arena import ArenaError
from mirai_executor._core import messages as m
from mirai_executor._local import DeathWatch, Relay, Spawner, Stops
from mirai_executor._payload.host import Call
from mirai_executor._transport import LinkClosedError
from mirai_executor._waiting import Reactor
from mirai_executor.errors import LaunchError

from . import _registry
from ._daemon import Daemon, LocalDaemon
from ._settings import Setup
from ._start_up import DaemonListener, Hear, LossReports, StartUp
from ._store import Store, Trimmer
from ._tasks import OpenTask

if TYPE_CHECKING:
    from mirai_executor.launchers import Job

    from ._launch_processes import LaunchProcesses
    from ._remote import Heartbeat, RemoteDaemon

_LOG = logging.getLogger("mirai_executor")
_LINK_LOST = 1.0  # seconds for a daemon that has lost its link, or got a mild signal, to end

Post = Callable[[Callable[[], None]], None]
NewDaemon = Callable[[Spawner, Relay, Store], LocalDaemon]


class Fleet:
    """The daemons of one executor.

    Args:
        spawner: Starts them; it is closed with the fleet, as is the relay.
        relay: Takes over what they, and commands that launch daemons, write to standard error.
        setup: What each is told.
        store: Keeps the large buffers of tasks.
        terms: What daemons elsewhere are told when they are admitted: the fields of ``Attend``.
        reactor: Tells when a descriptor is readable, and when it is time.
        listener: Is told what happens to them.
        post: Has the host thread call something soon; safe from any thread.
        new_daemon: Makes a daemon of this machine.

    Attributes:
        local: Those that are of this machine.
        loss_reports: How they were lost, and why none can be started.
        heals: Whether others are asked for in the place of those that are lost.
    """

    def __init__(
        self,
        spawner: Spawner,
        relay: Relay,
        setup: Setup,
        store: Store,
        terms: tuple[float, bool],
        reactor: Reactor,
        listener: DaemonListener,
        post: Post,
        new_daemon: NewDaemon = LocalDaemon,
    ) -> None:
        self._spawner, self._relay, self._terms = spawner, relay, terms
        self._heartbeat: Heartbeat | None = None  # None as long as no daemon has been elsewhere
        self._reactor, self._listener, self._post = reactor, listener, post
        self._daemons: dict[m.DaemonId, Daemon] = {}
        self.local: dict[m.DaemonId, LocalDaemon] = {}
        self._trimmer = Trimmer(store, reactor, self._trim)
        self._deaths: DeathWatch[m.DaemonId] = DeathWatch(reactor, self._bury)
        self._stops: Stops[tuple[m.DaemonId, m.TaskId]] = Stops(reactor, self._resend_stop)
        self.loss_reports = LossReports()
        how = (spawner, functools.partial(new_daemon, spawner, relay, store), setup, reactor)
        self._start_up = StartUp(*how, self._daemons, self.loss_reports, self)
        self._signal, self.heals = int(signal.SIGKILL), False
        self._launched: LaunchProcesses | None = None  # as long as there has been none
        self.hear: Hear  # what tasks report and yield

    # What the dispatcher commands

    def launch(self, id_: m.DaemonId) -> None:
        """Start a daemon; a failure is reported as a loss."""
        self._start_up.launch(id_)

    def watch(self, id_: m.DaemonId, daemon: LocalDaemon) -> None:
        """Take note of a daemon that has been started."""
        self.local[id_] = daemon
        self._listen(id_, daemon)
        self._deaths.add(id_, daemon)

    def admit(self, daemon: "RemoteDaemon") -> None:
        """Take on a daemon that has come by itself."""
        with _registry.no_fork:  # what local daemons have no use for
            from mirai_executor._wire import Attend

            from ._remote import Heartbeat

        id_ = self._listener.adopt_daemon()
        if self._launched is not None:
            self._launched.error = None
        self._daemons[id_] = daemon
        self._listen(id_, daemon)
        self.send(id_, Attend(*self._terms))
        if self._heartbeat is None:
            self._heartbeat = Heartbeat(
                self._terms[0], self.send, self._bury, self.report, self._reactor
            )
        self._heartbeat.add(id_, daemon)
        # What came together with the last of the handshake is in the link already.
        self._post(lambda: self._on_link(id_))

    def send(self, id_: m.DaemonId, frame: _wire.Frame) -> None:
        """Send a frame; a daemon that cannot be reached is ended."""
        daemon = self._daemons[id_]
        self._do_send(daemon, lambda: daemon.send(frame))

    def send_tasks(self, id_: m.DaemonId, calls: Sequence[OpenTask]) -> None:
        """Send calls, to be run in this order."""
        daemon = self._daemons[id_]
        try:
            daemon.send_tasks(calls)
        except LinkClosedError:
            daemon.kill()  # its end is reported like every other
            return
        if daemon.link.has_more_to_send is not daemon.waits_to_send:
            daemon.turn_to_send(self._reactor)

    def _do_send(self, daemon: Daemon, send: Callable[[], None]) -> None:
        """Send, and go on when the link takes more; a daemon that cannot be reached is ended."""
        try:
            send()
        except LinkClosedError:
            daemon.kill()
            return
        if daemon.link.has_more_to_send is not daemon.waits_to_send:
            daemon.turn_to_send(self._reactor)

    def recall(self, id_: m.DaemonId) -> None:
        """Take back what a daemon has not begun, and have it send the results that it has."""
        daemon = self._daemons[id_]
        tasks = daemon.take_back()
        daemon.resend_stop()
        if tasks is not None:
            self.report_soon(m.TasksReturned(id_, tasks))

    def send_broadcast(self, id_: m.DaemonId, broadcast: m.BroadcastId, call: Call) -> None:
        """Send a call whose effects stay."""
        daemon = self._daemons[id_]
        self._do_send(daemon, lambda: daemon.send_broadcast(broadcast, call))

    def interrupt(self, id_: m.DaemonId, task: m.TaskId) -> None:
        """Ask a daemon to stop a task or broadcast, unless it has been taken back."""
        daemon = self._daemons[id_]
        if task not in daemon.sent and task != daemon.broadcast:
            return
        if daemon.withdraw(task):
            skipped = _wire.OutcomeStatus.SKIPPED
            never = _wire.WireOutcome(task, skipped, leaving=False, payload=b"")
            self._post(lambda: self._listener.on_results(id_, [never]))
            return
        self._do_send(daemon, lambda: daemon.interrupt(task))
        if not daemon.is_elsewhere:  # else its keeper sees to it
            self._stops.add((id_, task))

    def dismiss(self, id_: m.DaemonId, *, why: str = "", closing: bool = False) -> None:
        """Let a daemon leave, for another host if this one is closing and its keeper likes to."""
        if self._start_up.drop(id_):
            return
        daemon = self._daemons[id_]
        daemon.note_dismissal(why, self.loss_reports.note_departure)
        self.send(id_, _wire.Leave(closing))

    def kill(self, id_: m.DaemonId, *, overdue: bool = False) -> None:
        """End a daemon and all that its tasks have started; the keeper of an overdue one goes."""
        self._start_up.drop(id_)
        if (daemon := self._daemons.get(id_)) is None:
            return
        end = daemon.give_up if overdue else daemon.kill
        self._do_send(daemon, lambda: end(self._signal))
        self._deaths.limit(id_, _LINK_LOST)

    def use_signal(self, signum: int) -> None:
        """From now on, :meth:`kill` tries this signal before SIGKILL."""
        self._signal = signum

    # What daemons do

    def _listen(self, id_: m.DaemonId, daemon: Daemon) -> None:
        callback = functools.partial(self._on_link, id_)
        self._reactor.register(daemon.link.fileno(), selectors.EVENT_READ, callback)

    def _on_link(self, id_: m.DaemonId) -> None:
        daemon = self._daemons.get(id_)
        if daemon is None or daemon.link_is_closed:
            return
        if daemon.waits_to_send:
            self._do_send(daemon, daemon.link.flush)
        if not self._take_frames(id_, daemon):
            daemon.link_is_closed = True
            daemon.link.leave(self._reactor)
            self._deaths.note_link_closed(id_, None if daemon.dismissed else _LINK_LOST)

    def _take_frames(self, id_: m.DaemonId, daemon: Daemon) -> bool:
        """Take in all that has come; False if nothing more will."""
        try:
            while (data := daemon.link.receive()) is not None:
                frame = _wire.decode(data)
                if type(frame) is _wire.Outcomes:
                    self._on_outcomes(id_, daemon, frame)
                else:
                    self._on_frame(id_, daemon, frame)
        except (_wire.WireError, ArenaError) as error:
            _LOG.warning("daemon %d was disconnected: %s", daemon.pid, error)
            daemon.kill()
            return False
        except LinkClosedError:
            return False
        return True

    def _on_frame(self, id_: m.DaemonId, daemon: Daemon, frame: _wire.Frame) -> None:
        match frame:
            case _wire.BroadcastOutcome():
                self._on_broadcast_outcome(id_, daemon, frame)
            case _wire.Hello():
                if not daemon.is_dead:  # else it was the fork server that has ended
                    self._greet(id_, daemon, frame)
            case _wire.Ready():
                daemon.owes_initializer = False
                self._listener.handle(m.DaemonReady(id_, daemon.max_tasks, daemon.idle_time))
            case _wire.Leaving():
                daemon.may_return = True
                self._listener.handle(m.LeaveRequested(id_))
            case _wire.InitFailed():
                self._start_up.fail(id_, daemon, frame)
            case _:
                if (tasks := daemon.accept(frame)) is not None:
                    self._listener.handle(m.TasksReturned(id_, tasks))

    def _on_broadcast_outcome(
        self, id_: m.DaemonId, daemon: Daemon, frame: _wire.BroadcastOutcome
    ) -> None:
        if frame.broadcast != daemon.broadcast:  # what nobody asked for is not unpickled
            raise _wire.WireError("an outcome of everywhere() that it was not asked for")
        daemon.broadcast = None
        daemon.drain_output()
        outcome = _wire.WireOutcome(0, frame.status, leaving=False, payload=frame.payload)
        event = m.BroadcastAnswered(id_, m.BroadcastId(frame.broadcast))
        self._listener.on_broadcast_answered(event, outcome)

    def _on_outcomes(self, id_: m.DaemonId, daemon: Daemon, frame: _wire.Outcomes) -> None:
        if daemon.exchange is not None and (frame.released or not frame.outcomes):
            self.trim_later()
            daemon.exchange.release(frame.released)
        sent: dict[int, None] = daemon.sent  # type: ignore[assignment]  # TaskId(...) takes its time
        outcomes: Sequence[_wire.WireOutcome] = frame.outcomes
        if daemon.is_elsewhere:
            outcomes = daemon.take_note_of(outcomes)
        have_buffers = False
        for outcome in outcomes:
            sent.pop(outcome.task, None)
            if outcome.buffers:
                have_buffers = True
        if daemon.is_relayed:
            daemon.drain_output()
        if have_buffers:
            self.trim_later()
            outcomes = [daemon.with_views(it) if it.buffers else it for it in outcomes]
        self._listener.on_results(id_, outcomes)

    def _greet(self, id_: m.DaemonId, daemon: Daemon, hello: _wire.Hello) -> None:
        if (forked := daemon.confirm_start(self._spawner)) is not None:
            with _registry.no_fork:
                self._deaths.replace(id_, forked)
        self._start_up.greet(id_, daemon, hello)
        if daemon.slot:
            daemon.introduce(self._post)

    def report(self, event: m.Event) -> None:
        """Tell the dispatcher what has happened."""
        self._listener.handle(event)

    def report_soon(self, event: m.Event) -> None:
        """Tell the dispatcher, but not while it commands."""
        self._post(lambda: self._listener.handle(event))

    # How daemons end

    def trim_later(self) -> None:
        """Give memory back once no large buffer has come or gone for a while."""
        self._trimmer.put_off()

    def _trim(self) -> bool:
        """Tell daemons which memory is free now; return whether some of theirs is in use here."""
        for daemon in self._daemons.values():
            self._do_send(daemon, daemon.trim)
        return any(daemon.is_borrowing for daemon in self._daemons.values())

    def _resend_stop(self, stop: tuple[m.DaemonId, m.TaskId]) -> bool:
        id_, task = stop
        daemon = self._daemons.get(id_)
        if daemon is None or (task not in daemon.sent and task != daemon.broadcast):
            return False
        daemon.resend_stop()
        return True

    def _bury(self, id_: m.DaemonId) -> None:
        """Report a daemon as lost once all that it had sent has been taken in."""
        daemon = self._daemons[id_]
        if not daemon.link_is_closed:
            self._take_frames(id_, daemon)
            daemon.link.leave(self._reactor)
        del self._daemons[id_]
        self.local.pop(id_, None)
        self._deaths.remove(id_)
        if self._heartbeat is not None:
            self._heartbeat.remove(id_)
        daemon.confirm_start(self._spawner)  # if it has never been heard of
        begun = daemon.begun()
        with _registry.no_fork:
            stderr = daemon.close()
        with self.loss_reports.reporting(id_, daemon, stderr):
            self._listener.handle(m.DaemonLost(id_, begun))
        self._start_up.launch_held()
        if not self._daemons and self._launched is not None and self._launched.error is not None:
            # When the command ended, its daemons seemed to be there still.
            self._on_command_failed(self._launched.error)

    def _on_command_failed(self, error: LaunchError) -> None:
        """Take in that the last command which may bring daemons has ended, and not well."""
        self.loss_reports.why_none = error
        if not self.heals:
            self._listener.handle(m.LaunchFailed())

    # What others ask

    def keep_commands(
        self,
        started: "Iterable[subprocess.Popen[bytes] | Job]",
        on_end: Callable[[LaunchError], None],
        *,
        stay: bool,
    ) -> None:
        """See to commands and jobs, until they end, or this host does if they stay."""
        if self._launched is None:
            with _registry.no_fork:
                from ._launch_processes import LaunchProcesses  # not for local daemons

            self._launched = LaunchProcesses(self._reactor, self._relay, self._on_command_failed)
        self._launched.keep(started, on_end, stay=stay)

    @property
    def awaits_daemons(self) -> bool:
        """Whether a command runs whose daemons may still come, or come again after a crash."""
        return bool(self._launched)

    def rows(self) -> Iterator[tuple[m.DaemonId, int, str, str]]:
        """Yield the daemons that have a process, or wait for it: its id, machine, and seat."""
        yield from ((id_, it.pid, it.host, it.seat) for id_, it in self._daemons.items())
        yield from self._start_up.rows()

    def local_daemons(self) -> tuple[LocalDaemon, ...]:
        """Return those of this machine that live, and have been heard of."""
        # Until then, the process of the first one may become the fork server.
        return tuple(it for it in self.local.values() if it.has_greeted and not it.is_dead)

    def close(self) -> None:
        """Leave nothing behind; there are daemons left only if the host thread has failed."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.reap()
            with _registry.no_fork:
                daemon.close()
        self._daemons.clear()
        self.local.clear()
        if self._launched is not None:
            self._launched.close()
        self._spawner.close()
        self._relay.close()
        # Which refer to this.
        del self._listener, self._post, self._launched, self._deaths, self._heartbeat
        del self._stops, self._trimmer, self.hear
        self._start_up.close()

    def forget(self) -> None:
        """In a forked child: keep no daemon from noticing the end of its host."""
        for daemon in self._daemons.values():
            daemon.forget()
        self._spawner.forget()
