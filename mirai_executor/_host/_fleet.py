"""Starts the daemons of one executor, hears what they say, and notices how they end.

What happens to a daemon becomes an event for the dispatcher, or outcomes of tasks. Everything here
runs on the host thread.
"""

import functools
import itertools
import logging
import math
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from mirai_executor import _payload, _wire
from mirai_executor._arena import ArenaError
from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastId,
    DaemonId,
    DaemonLost,
    DaemonReady,
    Event,
    InitializerFailed,
    LaunchFailed,
    LeaveRequested,
    TaskId,
    TasksReturned,
)
from mirai_executor._forking import ServerLostError
from mirai_executor._transport import Link, LinkClosedError
from mirai_executor.errors import LaunchError

from . import _registry
from ._commands import Commands
from ._daemon import HOST_NAME, Daemon
from ._deaths import LOOK
from ._ends import as_launch_error, misfit, other_package
from ._local import LocalDaemon
from ._losses import Losses
from ._nursery import Nursery
from ._open_task import OpenTask
from ._outcomes import decode_apart
from ._relay import Relay
from ._remote import RemoteDaemon
from ._stops import Stops
from ._store import Store

_LOG = logging.getLogger("mirai_executor")
_LAST_FRAMES = 0.5  # seconds for what a dead daemon had sent to come in
_KEEP_WARM = 1.0  # seconds until memory for large buffers that is free is given back
_LINK_LOST = 1.0  # seconds for a daemon that has lost its link, or got a mild signal, to end
_MISSED = 4  # beats until a daemon elsewhere is taken for lost

Post = Callable[[Callable[[], None]], None]


class Listener(Protocol):
    """Who is told what happens to daemons; at once."""

    def handle(self, event: Event) -> None: ...
    def adopt_daemon(self) -> DaemonId: ...
    def on_results(self, daemon: DaemonId, outcomes: Sequence[_wire.WireOutcome]) -> None: ...
    def on_broadcast_answered(
        self, event: BroadcastAnswered, outcome: _wire.WireOutcome
    ) -> None: ...


class Fleet:
    """The daemons of one executor.

    Args:
        nursery: Starts them.
        initializer: The call that each makes before its first task.
        cleanup: Whether they clean up after each task.
        selector: Calls the data of a key when its descriptor is readable.
        listener: Is told what happens to them.
        post: Has the host thread call something soon; safe from any thread.
        store: Keeps the large buffers of tasks.
        terms: What daemons elsewhere are told when they are admitted.

    Attributes:
        losses: How they were lost, and why none can be started.
    """

    def __init__(
        self,
        nursery: Nursery,
        initializer: _payload.Call | None,
        cleanup: bool,
        selector: selectors.BaseSelector,
        listener: Listener,
        post: Post,
        store: Store,
        terms: _wire.Attend,
    ) -> None:
        self._nursery = nursery
        self._terms = terms
        self._heartbeat = terms.seconds
        self._beat_at: float | None = None  # None while no daemon is elsewhere
        self._initializer = initializer
        self._cleanup = cleanup
        self._selector = selector
        self._listener = listener
        self._post = post
        self._store = store
        # Until free memory is given back, and how long that was put off; while nothing is, None.
        self._rest_at: float | None = None
        self._patience_to_rest = _KEEP_WARM
        self._relay = Relay(aloud=nursery.output)
        self._daemons: dict[DaemonId, Daemon] = {}
        self._held: dict[DaemonId, None] = {}  # wait for the fork server, in order
        self._patience: dict[DaemonId, float] = {}  # until when a daemon may take to end
        self._unwatched: dict[DaemonId, LocalDaemon] = {}  # nothing will tell of their end
        self._look_at = math.inf  # when it is looked for
        self._stops: Stops[tuple[DaemonId, TaskId]] = Stops()
        self.losses = Losses()
        self._mild_signal: int | None = None
        self._commands = Commands(selector, self._relay, self._on_command_failed)
        # How the last command has ended, if badly, and nobody has come since.
        self._command_error: LaunchError | None = None

    # What the dispatcher commands

    def launch(self, id_: DaemonId) -> None:
        """Start a daemon, or have it wait for the fork server; a failure is reported as a loss."""
        if self._nursery.is_founding:
            self._held[id_] = None
        else:
            self._launch(id_)

    def _launch(self, id_: DaemonId) -> None:
        try:
            with _registry.no_fork:
                daemon = self._start()
                self._daemons[id_] = daemon
        except (LaunchError, OSError) as error:
            self.losses.why_none = as_launch_error(error)
            self._post(lambda: self._listener.handle(DaemonLost(id_)))
            return
        self._watch(daemon.link.fileno(), functools.partial(self._on_link, id_))
        if daemon.end_fd >= 0:
            self._watch(daemon.end_fd, lambda: self._on_death(id_))
        else:
            self._unwatched[id_] = daemon  # until it has ended
            self._look_at = time.monotonic() + LOOK

    def admit(self, link: Link, address: str) -> None:
        """Take on a daemon that has come by itself."""
        id_ = self._listener.adopt_daemon()
        self._command_error = None
        daemon = RemoteDaemon(link, address)
        self._daemons[id_] = daemon
        self._watch(link.fileno(), lambda: self._on_link(id_))
        self.send(id_, self._terms)
        if self._beat_at is None:
            self._beat_at = time.monotonic() + self._heartbeat
        # What came together with the last of the handshake is in the link already.
        self._post(lambda: self._on_link(id_))

    def _start(self) -> LocalDaemon:
        try:
            return LocalDaemon(self._nursery, self._relay, self._store)
        except ServerLostError:  # what it was handed may be in use: nothing is used again
            return LocalDaemon(self._nursery, self._relay, self._store)

    def send(self, id_: DaemonId, frame: _wire.Frame) -> None:
        """Send a frame; a daemon that cannot be reached is ended."""
        daemon = self._daemons[id_]
        self._do_send(daemon, lambda: daemon.send(frame))

    def send_tasks(self, id_: DaemonId, calls: Sequence[OpenTask]) -> None:
        """Send calls, to be run in this order."""
        daemon = self._daemons[id_]
        try:
            daemon.send_tasks(calls)
        except LinkClosedError:
            daemon.kill()  # its end is reported like every other
            return
        if daemon.link.has_more_to_send is not daemon.waits_to_send:
            self._turn_to_send(daemon)

    def _do_send(self, daemon: Daemon, send: Callable[[], None]) -> None:
        """Send, and go on when the link takes more; a daemon that cannot be reached is ended."""
        try:
            send()
        except LinkClosedError:
            daemon.kill()
            return
        if daemon.link.has_more_to_send is not daemon.waits_to_send:
            self._turn_to_send(daemon)

    def _turn_to_send(self, daemon: Daemon) -> None:
        """Begin, or cease, to wait until its link takes more."""
        if not daemon.link_is_closed:
            daemon.waits_to_send = not daemon.waits_to_send
            daemon.link.follow(self._selector)

    def recall(self, id_: DaemonId) -> None:
        """Take back what a daemon has not begun, and have it send the results that it has."""
        daemon = self._daemons[id_]
        tasks = daemon.take_back()
        daemon.insist()
        if tasks is not None:
            self._post(lambda: self._listener.handle(TasksReturned(id_, tasks)))

    def send_broadcast(self, id_: DaemonId, broadcast: BroadcastId, call: _payload.Call) -> None:
        """Send a call whose effects stay."""
        daemon = self._daemons[id_]
        names = daemon.new_names(call.names)
        daemon.broadcast = broadcast
        self.send(id_, _wire.Broadcast(broadcast, names, call.blob))

    def interrupt(self, id_: DaemonId, task: TaskId) -> None:
        """Ask a daemon to stop a task or broadcast, unless it has been taken back."""
        daemon = self._daemons[id_]
        if task not in daemon.sent and task != daemon.broadcast:
            return
        daemon.interrupt(task)
        if isinstance(daemon, LocalDaemon):
            self._stops.add((id_, task), time.monotonic())

    def dismiss(self, id_: DaemonId, *, closing: bool = False) -> None:
        """Let a daemon leave, for another host if this one is closing and its keeper likes to."""
        if id_ in self._held:
            self._drop(id_)
            return
        self._daemons[id_].dismissed = True
        self.send(id_, _wire.Leave(closing))

    def kill(self, id_: DaemonId, *, overdue: bool = False) -> None:
        """End a daemon and all that its tasks have started; the keeper of an overdue one goes."""
        if id_ in self._held:
            self._drop(id_)
        daemon = self._daemons.get(id_)
        if daemon is None:
            return
        if overdue and isinstance(daemon, RemoteDaemon):
            daemon.give_up()
        elif self._mild_signal is not None:
            daemon.kill(self._mild_signal)
        else:
            daemon.kill()
            if isinstance(daemon, LocalDaemon):
                return
        self._patience.setdefault(id_, time.monotonic() + _LINK_LOST)

    def _drop(self, id_: DaemonId) -> None:
        """Forget a daemon that has no process yet."""
        del self._held[id_]
        self._post(lambda: self._listener.handle(DaemonLost(id_)))

    def use_signal(self, signum: int) -> None:
        """From now on, :meth:`kill` tries this signal before SIGKILL."""
        self._mild_signal = None if signum == signal.SIGKILL else signum

    # What daemons do

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _on_link(self, id_: DaemonId) -> None:
        daemon = self._daemons.get(id_)
        if daemon is None or daemon.link_is_closed:
            return
        if daemon.waits_to_send:
            self._do_send(daemon, daemon.link.flush)
        if not self._take_frames(id_, daemon):
            self._on_link_closed(id_, daemon)

    def _take_frames(self, id_: DaemonId, daemon: Daemon) -> bool:
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

    def _on_frame(self, id_: DaemonId, daemon: Daemon, frame: _wire.Frame) -> None:
        match frame:
            case _wire.BroadcastOutcome():
                daemon.broadcast = None
                outcome = _wire.WireOutcome(0, frame.status, leaving=False, payload=frame.payload)
                event = BroadcastAnswered(id_, BroadcastId(frame.broadcast))
                self._listener.on_broadcast_answered(event, outcome)
            case _wire.Hello():
                self._greet(id_, daemon, frame)
            case _wire.Ready():
                self._listener.handle(DaemonReady(id_, daemon.max_tasks, daemon.idle_time))
            case _wire.Leaving():
                self._listener.handle(LeaveRequested(id_))
            case _wire.InitFailed():
                self._on_initializer_failed(id_, daemon, frame)
            case _ if isinstance(daemon, RemoteDaemon):
                self._on_keepers_frame(id_, daemon, frame)
            case _:
                raise _wire.WireError(f"unexpected {type(frame).__name__} frame from a daemon")

    def _on_keepers_frame(self, id_: DaemonId, daemon: RemoteDaemon, frame: _wire.Frame) -> None:
        match frame:
            case _wire.Joined():
                daemon.join(frame)
            case _wire.Beat():
                pass  # that it has come is all it says
            case _wire.Returned():
                self._listener.handle(TasksReturned(id_, daemon.accept_returned(frame)))
            case _wire.Ended():
                daemon.note_end(frame)
            case _:
                raise _wire.WireError(f"unexpected {type(frame).__name__} frame from a keeper")

    def _on_outcomes(self, id_: DaemonId, daemon: Daemon, frame: _wire.Outcomes) -> None:
        if daemon.exchange is not None and (frame.released or not frame.outcomes):
            self.rest_later()
            daemon.exchange.release(frame.released)
        sent: dict[int, None] = daemon.sent  # type: ignore[assignment]  # TaskId(...) takes its time
        outcomes: Sequence[_wire.WireOutcome] = frame.outcomes
        have_buffers = False
        for outcome in outcomes:
            sent.pop(outcome.task, None)
            if outcome.buffers:
                have_buffers = True
        if have_buffers:
            self.rest_later()
            outcomes = [_with_views(daemon, it) if it.buffers else it for it in outcomes]
        self._listener.on_results(id_, outcomes)

    def _greet(self, id_: DaemonId, daemon: Daemon, hello: _wire.Hello) -> None:
        if isinstance(daemon, LocalDaemon):
            self._settle(id_, daemon)
            # Of those elsewhere, the handshake has seen to it that the versions fit.
            if why := misfit(hello, daemon.command[0]):
                self._refuse(id_, daemon, why)
                return
        elif hello.protocol != _wire.PROTOCOL_VERSION:
            raise _wire.WireError(other_package(hello))
        daemon.has_greeted = True
        daemon.slot = self._free_slot()
        daemon.link.largest = sys.maxsize
        cleanup = self._cleanup
        if isinstance(daemon, RemoteDaemon) and daemon.cleanup is not None:
            cleanup = daemon.cleanup
        setup = (daemon.preparation(), self._initializer, cleanup)
        if self._initializer is not None:
            daemon.note_names(self._initializer.names)
        self.send(id_, _wire.Init(_payload.encode_plain(setup)))
        self._launch_held()

    def _refuse(self, id_: DaemonId, daemon: LocalDaemon, why: str) -> None:
        """End a daemon that cannot work here, nor could any other of this interpreter."""
        self.losses.note_misfit(why, daemon)
        daemon.kill()
        self._listener.handle(InitializerFailed(id_))
        self._launch_held()

    def _free_slot(self) -> int:
        """Return the first place that is free: who takes that of another has its number."""
        daemons = self._daemons.values()
        # Who may leave has no task any more, and its successor is here already.
        taken = {each.slot for each in daemons if not (each.is_dead or each.dismissed)}
        return next(slot for slot in itertools.count(1) if slot not in taken)

    def _settle(self, id_: DaemonId, daemon: LocalDaemon) -> None:
        """Watch the daemon itself, if the process that was started has become the fork server."""
        if (process := self._nursery.settle(daemon.process)) is None:
            return
        self._selector.unregister(daemon.end_fd)
        try:
            with _registry.no_fork:
                daemon.settle(process)
        except OSError:  # nothing would tell of its end
            daemon.kill()
            self._post(lambda: self._on_death(id_))
        else:
            self._watch(daemon.end_fd, lambda: self._on_death(id_))

    def _launch_held(self) -> None:
        """Start those that have waited, now that there is a fork server, or will be none."""
        if self._nursery.is_founding:
            return
        held, self._held = self._held, {}
        for id_ in held:
            self.launch(id_)

    def _on_initializer_failed(
        self, id_: DaemonId, daemon: Daemon, frame: _wire.InitFailed
    ) -> None:
        cause = decode_apart(frame.payload)
        self.losses.note_initializer(cause, daemon)
        if isinstance(daemon, RemoteDaemon):
            what = f"{type(cause).__name__}: {cause}"
            _LOG.warning(
                "the initializer failed on %s, whose daemon leaves: %s", daemon.host, what
            )
        self.dismiss(id_)
        self._listener.handle(InitializerFailed(id_))

    # How daemons end

    def _on_link_closed(self, id_: DaemonId, daemon: Daemon) -> None:
        daemon.link_is_closed = True
        daemon.link.leave(self._selector)
        if daemon.is_dead or isinstance(daemon, RemoteDaemon):
            self._bury(id_)
        elif not daemon.dismissed:
            # A task has closed its descriptors, or the process is about to end: wait a little.
            self._patience[id_] = time.monotonic() + _LINK_LOST

    def _on_death(self, id_: DaemonId) -> None:
        daemon = self._daemons.get(id_)
        if not isinstance(daemon, LocalDaemon) or daemon.is_dead:
            return
        daemon.is_dead = True
        if daemon.end_fd >= 0:
            self._selector.unregister(daemon.end_fd)
        self._unwatched.pop(id_, None)
        daemon.reap()
        if daemon.link_is_closed or not daemon.has_greeted:
            self._bury(id_)
        else:
            # A child of a task may hold the link open for ever: do not wait for its end alone.
            self._patience[id_] = time.monotonic() + _LAST_FRAMES

    def next_deadline(self) -> float:
        """Return when :meth:`expire` has something to do; infinite for never."""
        first = math.inf if self._beat_at is None else self._beat_at
        if self._rest_at is not None:
            first = min(first, self._rest_at)
        if self._unwatched:
            first = min(first, self._look_at)
        if self._patience or self._stops.asked:
            first = min(first, *self._patience.values(), *self._stops.deadlines())
        return first

    def expire(self, now: float) -> None:
        """Do what has to be done because time has passed."""
        if self._unwatched and self._look_at <= now:
            self._look_at = now + LOOK
            self._look()
        for id_ in [id_ for id_, deadline in self._patience.items() if deadline <= now]:
            del self._patience[id_]
            daemon = self._daemons.get(id_)
            if daemon is None:
                continue
            if daemon.is_dead or isinstance(daemon, RemoteDaemon):
                self._bury(id_)
            else:
                daemon.kill()
        if self._stops.asked:
            self._stops.insist(now, lambda stop: self._insist(*stop))
        if self._beat_at is not None and self._beat_at <= now:
            self._beat(now)
        if self._rest_at is not None and self._rest_at <= now:
            self._rest(now)

    def _look(self) -> None:
        for id_ in [id_ for id_, daemon in self._unwatched.items() if daemon.has_ended()]:
            self._on_death(id_)

    def _beat(self, now: float) -> None:
        """Give daemons elsewhere a sign of life, and take those for lost that gave none."""
        elsewhere = [(i, d) for i, d in self._daemons.items() if isinstance(d, RemoteDaemon)]
        for id_, daemon in elsewhere:
            if daemon.has_been_silent(now, _MISSED * self._heartbeat):
                _LOG.warning(
                    "daemon %d on %s has sent nothing for %.3g s: considered lost",
                    daemon.pid,
                    daemon.host,
                    _MISSED * self._heartbeat,
                )
                self._bury(id_)
            elif not daemon.waits_to_send:  # what is on its way will do
                self.send(id_, _wire.Beat())
        self._beat_at = now + self._heartbeat if elsewhere else None

    def rest_later(self) -> None:
        """Give memory back once no large buffer has come or gone for a while."""
        self._patience_to_rest = _KEEP_WARM
        self._rest_at = time.monotonic() + _KEEP_WARM

    def _rest(self, now: float) -> None:
        self._store.trim()
        self._rest_at = None
        for daemon in self._daemons.values():
            self._do_send(daemon, daemon.rest)
        # Nothing tells when the user drops an array; looking ever more seldom is enough.
        borrowing = any(daemon.is_borrowing for daemon in self._daemons.values())
        if borrowing or self._store.is_sharing:
            self._patience_to_rest *= 2
            self._rest_at = now + self._patience_to_rest

    def _insist(self, id_: DaemonId, task: TaskId) -> bool:
        daemon = self._daemons.get(id_)
        if daemon is None or (task not in daemon.sent and task != daemon.broadcast):
            return False
        daemon.insist()
        return True

    def _bury(self, id_: DaemonId) -> None:
        """Report a daemon as lost once all that it had sent has been taken in."""
        daemon = self._daemons[id_]
        if not daemon.link_is_closed:
            self._take_frames(id_, daemon)
            daemon.link.leave(self._selector)
        del self._daemons[id_]
        self._patience.pop(id_, None)
        if isinstance(daemon, LocalDaemon):
            self._nursery.settle(daemon.process)  # if it has never been heard of
        begun = daemon.begun()
        with _registry.no_fork:
            stderr = daemon.close()
        with self.losses.reporting(id_, daemon, stderr):
            self._listener.handle(DaemonLost(id_, begun))
        self._launch_held()
        if self._command_error is not None and not self._daemons:
            # When the command ended, its daemons seemed to be there still.
            self._on_command_failed(self._command_error)

    def _on_command_failed(self, error: LaunchError) -> None:
        """Take in that the last command which may bring daemons has ended, and not well."""
        self._command_error = self.losses.why_none = error
        self._listener.handle(LaunchFailed())

    # What others ask

    def keep_commands(self, processes: "Iterable[subprocess.Popen[bytes]]", *, stay: bool) -> None:
        """See to commands that have started daemons, until they end, or this host if they stay."""
        self._command_error = None
        self._commands.keep(processes, stay=stay)

    @property
    def awaits_daemons(self) -> bool:
        """Whether a command runs whose daemons may still come, or come again after a crash."""
        return bool(self._commands)

    def rows(self) -> Iterator[tuple[DaemonId, int, str]]:
        """Yield the daemons that have a process, or wait for it: its id, and its machine."""
        yield from ((id_, daemon.pid, daemon.host) for id_, daemon in self._daemons.items())
        yield from ((id_, self._nursery.founder, HOST_NAME) for id_ in self._held)

    def local_daemons(self) -> Iterator[LocalDaemon]:
        """Yield those of this machine that live, and have been heard of."""
        # Until then, the process of the first one may become the fork server.
        for daemon in self._daemons.values():
            if isinstance(daemon, LocalDaemon) and daemon.has_greeted and not daemon.is_dead:
                yield daemon

    def close(self) -> None:
        """Leave nothing behind; there are daemons left only if the host thread has failed."""
        for daemon in self._daemons.values():
            daemon.kill()
            if isinstance(daemon, LocalDaemon):
                daemon.reap()
            with _registry.no_fork:
                daemon.close()
        self._daemons.clear()
        self._commands.close()
        self._nursery.close()
        self._relay.close()
        del self._listener, self._post, self._commands  # which refer to this

    def forget(self) -> None:
        """In a forked child: keep no daemon from noticing the end of its host."""
        for daemon in self._daemons.values():
            daemon.forget()
        self._nursery.forget()


def _with_views(daemon: Daemon, outcome: _wire.WireOutcome) -> _wire.WireOutcome:
    """Have an outcome hold its large buffers instead of their places."""
    try:
        return outcome._replace(buffers=daemon.views(outcome.buffers))
    except OSError as error:  # this process has no descriptor free
        blob = _payload.encode_error(error)
        return outcome._replace(status=_wire.Status.ERROR, payload=blob, buffers=())
