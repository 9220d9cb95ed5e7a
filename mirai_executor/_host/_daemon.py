"""What every daemon is to its host, here or elsewhere: a link, and what was sent over it.

A :class:`LocalDaemon` is a process of this machine besides; one elsewhere is in ``_remote``.
"""

import abc
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import process
from typing import TYPE_CHECKING, Any, TypeAlias

from mirai_executor import _wire
from mirai_executor._arena import LateExchange, writable
from mirai_executor._core import TaskId
from mirai_executor._local import DaemonProcess, Forked, Relay, Spawner, misfit, other_package
from mirai_executor._payload.host import Call, NameEntry, Preparation, Sent
from mirai_executor._transport import Link
from mirai_executor._waiting import Reactor

from . import _registry
from ._store import Store

if TYPE_CHECKING:
    from ._log_relay import Records
    from ._messages import Reports
    from ._tasks import OpenTask

_UNKNOWN = 255
_LIGHT = 1 << 16  # bytes of a table, which its daemon here keeps beyond the tasks that have it

Soon: TypeAlias = Callable[[Callable[[], None]], None]

HOST_NAME = socket.gethostname()


class Daemon(abc.ABC):
    """One daemon.

    Args:
        link: Carries its frames.
        exchange: Shares memory with it; None where nothing can.

    Attributes:
        link: Carries its frames.
        sent: Tasks without an outcome yet, in order.
        broadcast: What it runs for ``everywhere``; no task has the same number.
        is_dead: It has ended; what it had sent may still come.
        link_is_closed: Nothing more will come.
        dismissed: It was told to leave.
        waits_to_send: Until the link can take more.
        has_greeted: Before that, it can have sent nothing that counts.
        slot: Its place among the others, counted from 1; 0 until it has one.
        is_elsewhere: A keeper on another machine represents it.
        host: The name of its machine.
        command: What has started it, where that is known.
        max_tasks: Tasks after which it is to be let go; None leaves that to the host.
        idle_time: Seconds without a task after which it is to be let go; likewise.
        cleanup: Whether it is to clean up after each task; likewise.
        may_return: It leaves because it cannot clean up, and another takes its place.
        records: Take in what its tasks log; None if that is not relayed.
        hear: Takes in what its tasks report and yield; None until it has greeted.
        reports: The one that has come in part; None until there has been any.
        is_relayed: This process passes on what it prints.
        parting: Why it has asked for leave; empty if it has not said so.
        seat: The one that it has on a machine that it shares with others; empty if it has none.
    """

    is_elsewhere = False
    host = HOST_NAME
    command: tuple[str, ...] = ()
    max_tasks: int | None = None
    idle_time: float | None = None
    cleanup: bool | None = None
    may_return = False
    records: "Records | None" = None
    hear: "Callable[[Daemon, _wire.Report | _wire.Items], None] | None" = None
    reports: "Reports | None" = None
    is_relayed = False
    parting = seat = ""

    def __init__(self, link: Link, exchange: LateExchange | None = None) -> None:
        self.link = link
        self.exchange = exchange
        self.sent: dict[TaskId, None] = {}
        self.broadcast: int | None = None
        self.owes_initializer = False  # whether it has still to say how that has ended
        self.is_dead = self.link_is_closed = self.dismissed = False
        self.waits_to_send = False
        self.has_greeted = False
        self.slot = 0
        self._names = Sent()
        self._table: tuple[NameEntry, ...] | None = None  # of the last task that was sent

    def note_dismissal(self, _why: str, _note: "Callable[[Daemon, str], None]") -> None:
        """Take note that it is told to leave, and why; what is elsewhere has that noted."""
        self.dismissed = True

    # What it is

    @property
    @abc.abstractmethod
    def pid(self) -> int:
        """The process id, on its machine."""

    @property
    @abc.abstractmethod
    def exitcode(self) -> int | None:
        """How it has ended, as ``subprocess`` says it; None if nobody knows."""

    @property
    def has_run_out_of_memory(self) -> bool:
        """Whether it seems that the kernel has ended it; elsewhere, its keeper says so."""
        return False

    def preparation(self) -> Preparation:
        """Return what it has to know of this process before it can read a call."""
        return Preparation.of_this_process(self.slot)

    def misfit(self, hello: _wire.Hello) -> str:
        """Return why nothing like it can work for this process; empty if it can.

        Raises:
            WireError: It cannot; others may.
        """
        if hello.protocol != _wire.PROTOCOL_VERSION:
            raise _wire.WireError(other_package(hello))
        return ""

    def confirm_start(self, _: Spawner) -> Forked | None:
        """Note that it has been heard of, or has ended without; return the process it now has."""
        return None

    def introduce(self, soon: "Soon") -> None:  # noqa: B027 - what is elsewhere is no child of this one
        """Show it to multiprocessing as a child of this process, if it is one."""

    def accept(self, frame: _wire.Frame) -> tuple[TaskId, ...] | None:
        """Take in what a task says, or only a keeper; return tasks that come back with it.

        Raises:
            WireError: It has no keeper, or keepers do not send such frames.
        """
        if self.hear is not None and isinstance(frame, (_wire.Report, _wire.Items)):
            self.hear(self, frame)
            return None
        if self.records is not None and isinstance(frame, _wire.LogPiece):
            self.records.take(frame)
            return None
        raise _wire.WireError(f"unexpected {type(frame).__name__} frame from a daemon")

    def take_note_of(self, outcomes: Sequence[_wire.WireOutcome]) -> Sequence[_wire.WireOutcome]:
        """Learn from outcomes; return them as the dispatcher is to see them."""
        return outcomes

    def drain_output(self) -> None:  # noqa: B027 - what is elsewhere prints there
        """Wait a little until what it has printed is passed on."""

    # Sending

    def send(self, frame: _wire.Frame) -> None:
        """Send a frame; LinkClosedError if the daemon is gone."""
        self.link.send(*_wire.pieces(frame))

    def send_tasks(self, calls: "Sequence[OpenTask]") -> None:
        """Send calls, to be run in this order; LinkClosedError if the daemon is gone."""
        ids, tasks, table = [], [], self._table
        for call in calls:
            ids.append(call.task)
            names = None
            if call.names is not table:
                table, names = call.names, self.new_names(call.names)
                self._table = table if _is_light(table) else None
            lent = self._lend(call.buffers) if call.buffers else ()
            # At a third of the cost of WireTask(...).
            tasks.append(tuple.__new__(_wire.WireTask, (call.task, names, call.blob, lent)))
        self.issue(ids)
        self.sent.update(dict.fromkeys(ids))
        released = self.exchange.take_released() if self.exchange is not None else ()
        self.link.send(*_wire.pieces(_wire.Tasks(tuple(tasks), released)))

    def send_broadcast(self, broadcast: int, call: Call) -> None:
        """Send a call whose effects stay; LinkClosedError if the daemon is gone."""
        names = self.new_names(call.names)
        self.broadcast = broadcast
        self.send(_wire.Broadcast(broadcast, names, call.blob))

    def turn_to_send(self, reactor: Reactor) -> None:
        """Begin, or cease, to wait until the link takes more."""
        if not self.link_is_closed:
            self.waits_to_send = not self.waits_to_send
            self.link.follow(reactor)

    def note_names(self, names: Iterable[NameEntry]) -> None:
        """Remember names that reached the daemon in another way."""
        for entry in names:
            self._names.is_new(entry)

    def new_names(self, names: Sequence[NameEntry]) -> tuple[_wire.Name, ...]:
        """Return the table of a call, with the bytes of those names that the daemon lacks.

        To be asked in the order of sending, and once: the daemon forgets in that order.
        """
        self._table = None  # a call between two tasks may replace what they both have
        return tuple(
            _wire.Name(e.name, e.digest, e.blob if self._names.is_new(e) else None) for e in names
        )

    @abc.abstractmethod
    def issue(self, tasks: Sequence[TaskId]) -> None:
        """Let the daemon begin these, once they come, in this order."""

    def withdraw(self, _: TaskId) -> bool:
        """Send no more of a task, which it will never see; False if that is too late."""
        return False

    @abc.abstractmethod
    def interrupt(self, task: TaskId) -> None:
        """Ask the daemon to stop this task, and no other."""

    @abc.abstractmethod
    def resend_stop(self) -> None:
        """Have it look once more at what has to stop, and send the results that it has in hand."""

    @abc.abstractmethod
    def take_back(self) -> tuple[TaskId, ...] | None:
        """Return the tasks that it has not begun, and never will; None if it will say so."""

    # Large buffers

    def _lend(self, buffers: tuple[_wire.Buffer, ...]) -> tuple[_wire.Buffer, ...]:
        return buffers if self.exchange is None else self.exchange.lend(buffers)

    def views(self, buffers: Sequence[_wire.Buffer]) -> tuple[memoryview | bytearray, ...]:
        """Return the large buffers of a result, to be asked once for each."""
        return writable(buffers) if self.exchange is None else self.exchange.views(buffers)

    def with_views(self, outcome: _wire.WireOutcome) -> _wire.WireOutcome:
        """Have an outcome hold its large buffers instead of their places."""
        try:
            return outcome._replace(buffers=self.views(outcome.buffers))
        except OSError as error:  # this process has no descriptor free
            from mirai_executor._payload.daemon import encode_error  # in the daemon's place

            blob = encode_error(error)
            return outcome._replace(status=_wire.OutcomeStatus.ERROR, payload=blob, buffers=())

    def trim(self) -> None:
        """Tell it which memory is not used any more; LinkClosedError if it is gone."""
        if self.exchange is not None and not self.dismissed:
            released = self.exchange.take_released()
            if self.exchange.tell() or released:
                self.send(_wire.Tasks((), released))

    @property
    def is_borrowing(self) -> bool:
        """Whether memory of its may be in use here."""
        return self.exchange is not None and self.exchange.is_borrowing

    # Ends

    @abc.abstractmethod
    def kill(self, signum: int = signal.SIGKILL) -> None:
        """End the daemon, and all that its tasks have started."""

    def give_up(self, signum: int = signal.SIGKILL) -> None:
        """End it, and let nothing come in its place by itself."""
        self.kill(signum)

    def reap(self) -> None:  # noqa: B027 - what is elsewhere leaves nothing to collect
        """Collect what is left of its process, if that was a child of this one."""

    @abc.abstractmethod
    def begun(self) -> tuple[TaskId, ...]:
        """Return the tasks that it had begun and not answered; it takes back all others."""

    @abc.abstractmethod
    def close(self) -> str:
        """Let go of everything, and return the last lines of its standard error."""

    @abc.abstractmethod
    def forget(self) -> None:
        """In a forked child: let go of what would keep the daemon from noticing its host's end."""


class LocalDaemon(DaemonProcess, Daemon):
    """A daemon of this machine.

    Args:
        spawner: Starts its process.
        relay: Takes over its standard error.
        store: Keeps the large buffers of tasks.

    Raises:
        LaunchError: It could not be started; nothing is left behind.
        ServerLostError: The fork server is gone: without it, the daemon can perhaps be started.
    """

    def __init__(self, spawner: Spawner, relay: Relay, store: Store) -> None:
        self._worker: Worker | None = None  # until it has its place
        DaemonProcess.__init__(self, spawner, relay, store.exchange)
        Daemon.__init__(self, self.link, self.exchange)

    def misfit(self, hello: _wire.Hello) -> str:
        """Return why nothing like it can work for this process; empty if it can."""
        return misfit(hello, self.command[0])

    def confirm_start(self, spawner: Spawner) -> Forked | None:
        """Note that it has been heard of, or has ended without; return the process it now has."""
        return spawner.confirm_start(self.process)

    def introduce(self, soon: "Soon") -> None:
        """Show it to multiprocessing as a child of this process."""
        self._worker = Worker(self, soon)
        _children().add(self._worker)
        _registry.end_before_children()

    def reap(self) -> None:
        """Collect the exit status of a daemon that has ended."""
        super().reap()
        _children().discard(self._worker)
        self._worker = None  # which refers to this

    def take_back(self) -> tuple[TaskId, ...]:
        """Return the tasks that it has not begun, and never will."""
        tasks = super().take_back()
        for task in tasks:
            self.sent.pop(task, None)
        return tasks

    def begun(self) -> tuple[TaskId, ...]:
        """Return the tasks that it had begun and not answered; it takes back all others."""
        self.take_back()
        return tuple(self.sent)


class Worker:
    """A daemon of this machine, as far as it is like a ``multiprocessing.Process``.

    Safe from any thread.

    Args:
        daemon: The daemon, which has its place.
        soon: Has the host thread call something.
    """

    daemon = False  # as a worker of ProcessPoolExecutor

    def __init__(self, daemon: LocalDaemon, soon: "Soon") -> None:
        self.pid = self.ident = daemon.pid
        self.name = f"MiraiDaemon-{daemon.slot}"
        self._local = daemon
        self._soon = soon

    @property
    def exitcode(self) -> int | None:
        """How it has ended; None while it lives."""
        code = self._local.exitcode
        # As multiprocessing says it of a child whose status died with a fork server.
        return _UNKNOWN if code is None and self._local.ended.has_come else code

    def is_alive(self) -> bool:
        return self.exitcode is None

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended; at the end of the program, the executor does so itself."""
        if not (_registry.is_exiting() and timeout is None):
            self._local.ended.wait(timeout)

    def terminate(self) -> None:
        """Send it SIGTERM, unless it has ended. Does not wait."""
        self._soon(lambda: self._local.kill(signal.SIGTERM))

    def kill(self) -> None:
        """Send it SIGKILL, unless it has ended. Does not wait."""
        self._soon(lambda: self._local.kill(signal.SIGKILL))

    @property
    def _popen(self) -> "Worker":
        """What multiprocessing asks whether it has ended."""
        return self

    def poll(self) -> int | None:
        return self.exitcode

    def __repr__(self) -> str:
        return f"<Worker {self.name} pid={self.pid} exitcode={self.exitcode}>"


def _children() -> set[Any]:
    """Return what ``multiprocessing.active_children`` looks at."""
    found: set[Any] = getattr(process, "_children", set())
    return found


def _is_light(table: tuple[NameEntry, ...]) -> bool:
    """Tell whether a table may outlive its tasks: its bytes stay with it."""
    return sum([len(entry.blob) for entry in table]) < _LIGHT
