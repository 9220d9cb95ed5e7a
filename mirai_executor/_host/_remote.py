"""Daemons elsewhere, as their host sees them: links to keepers, who do what cannot wait."""

import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mirai_executor import _wire
from mirai_executor._core import DaemonId, RoundTripMeasured, TaskId
from mirai_executor._payload.host import NameEntry, Preparation
from mirai_executor._texts import printable
from mirai_executor._transport import FarLink, LinkClosedError, PendingFrame
from mirai_executor._waiting import Reactor, Timer

from ._daemon import Daemon

if TYPE_CHECKING:
    from ._tasks import OpenTask

_LOG = logging.getLogger("mirai_executor")
_MISSED = 4  # beats until a daemon elsewhere is taken for lost

_FIRST_TRIPS = 8  # that are measured at once, before any counts
_NEAR: tuple[str, ...] = ("127.", "::1", "this machine")  # addresses: of tunnels as well
_RISE = 0.125  # of a longer one that is believed

# Seconds that a byte may take on its way: whatever is sent ahead, results included, waits at the
# keeper, and is lost if the line is. One faster than 8e-9 (1 Gbit/s) is not used in full.
_PER_BYTE = 8e-9

_LAST_WORDS = 4096  # characters
_HEAVY = 1 << 14  # bytes: what is shorter takes no time worth mentioning
_BEFORE_HELLO = 1 << 16  # bytes: of these frames, only an early end says more than its name


class RemoteDaemon(Daemon):
    """A daemon that has been let in.

    Args:
        link: The connection to its keeper.
        address: Where that comes from.
        revoke: Keeps others from coming with its token, if that is its own.
        on_arrival: Is told which request it was started for; empty if it was started by hand, or
            its keeper has had another one before.
        on_loss: Is told of it when it is gone.

    Attributes:
        hear_beat: Takes in its signs of life.
        round_trips: How many have been measured.
        is_near: It comes from this machine, or through a tunnel that ends here.
        request: What it was started for, as far as it has said so.
    """

    is_elsewhere = True

    link: FarLink
    hear_beat: Callable[[_wire.Beat], None]  # once it is in the fleet

    def __init__(
        self,
        link: FarLink,
        address: str,
        revoke: Callable[[], None],
        on_arrival: Callable[[str], None],
        on_loss: "Callable[[RemoteDaemon], None]",
    ) -> None:
        super().__init__(link)
        self._revoke = revoke
        self._on_arrival = on_arrival
        self._on_loss = on_loss
        self._was_killed = self._is_given_up = False
        link.largest = _BEFORE_HELLO
        self.host = address  # until it says its name
        self._pid, self.request = 0, ""
        self._issued = 0  # tasks that were ever sent
        self._sizes: dict[TaskId, int] = {}  # bytes of the calls of those that are heavy
        # The last one, if the daemon knows all names of its call, and it went alone.
        self._last: tuple[TaskId, PendingFrame] | None = None
        self._brings_names = False
        self._end: _wire.Ended | None = None
        # A busy machine takes long to answer itself; that is no reason to send it more.
        self.is_near = address.startswith(_NEAR)
        self._silent_since: float | None = None
        self._round_trip: float | None = None
        self.round_trips = 0

    @property
    def pid(self) -> int:
        """The process id on its machine; 0 until it has said so."""
        return self._pid

    @property
    def exitcode(self) -> int | None:
        """How it has ended, as its keeper has said; None if that was cut off."""
        return None if self._end is None else self._end.code

    @property
    def is_renewed(self) -> bool:
        """Whether it is about to end, and its keeper then brings another daemon in its place."""
        if self.dismissed and not self.may_return:
            return False
        if self._end is not None:
            return self._end.returns
        is_last = self.parting or self._is_given_up
        return not is_last and (self.may_return or self._was_killed)

    def misfit(self, hello: _wire.Hello) -> str:
        """Return why nothing like it can work for this process: nothing, as others may.

        Raises:
            WireError: It cannot.
        """
        version = printable(hello.version)
        return super().misfit(_wire.Hello(hello.pid, hello.python, version, hello.protocol))

    def note_dismissal(self, why: str, note: Callable[[Daemon, str], None]) -> None:
        """Take note that it is told to leave; for good, unless its keeper has another one."""
        super().note_dismissal(why, note)
        note(self, self.parting or why)
        if not self.may_return:
            self._revoke()

    def preparation(self) -> Preparation:
        """Return what it has to know of this process before it can read a call."""
        return Preparation.of_this_process(self.slot).elsewhere()

    def accept(self, frame: _wire.Frame) -> tuple[TaskId, ...] | None:
        """Take in a frame of its keeper; return tasks that come back with it."""
        match frame:
            case _wire.Beat():
                self.hear_beat(frame)
            case _wire.Joined() if not self._pid:
                self._join(frame)
            case _wire.Returned():
                return self._accept_returned(frame)
            case _wire.Parting(why):
                self.parting, self.seat = printable(why), ""  # for its successor
            case _wire.Ended():
                self._end = frame
            case _wire.LogPiece() | _wire.Report() | _wire.Items():
                return super().accept(frame)
            case _:
                raise _wire.WireError(f"unexpected {type(frame).__name__} frame from a keeper")
        return None

    def _join(self, frame: _wire.Joined) -> None:
        self._pid, self.host, self.cleanup = frame.pid, printable(frame.host), frame.cleanup
        self.max_tasks, self.idle_time = frame.max_tasks, frame.idle_time
        self.seat, self.request = printable(frame.seat), frame.request
        self._on_arrival(frame.request)

    def has_been_silent(self, now: float, patience: float) -> bool:
        """Tell whether nothing has come for so many seconds; to be asked more often than that."""
        if self.link.heard or self._silent_since is None:
            self.link.heard = False
            self._silent_since = now
        return now - self._silent_since >= patience

    def note_round_trip(self, seconds: float) -> float:
        """Learn how long a way to it and back takes; return what that is as far as is known."""
        # Longer is often chance: either side was busy, or data stood in the way.
        known = self._round_trip
        self._round_trip = (
            seconds if known is None else min(seconds, known + _RISE * (seconds - known))
        )
        self.round_trips += 1
        return self._round_trip

    def issue(self, tasks: Sequence[TaskId]) -> None:
        """Count them: its keeper issues tickets for what comes, and says how much has."""
        self._issued += len(tasks)

    def send(self, frame: _wire.Frame) -> None:
        """Send a frame; LinkClosedError if the daemon is gone."""
        if type(frame) is _wire.Beat:
            self.link.send_first(*_wire.pieces(frame))
        else:
            super().send(frame)

    def send_tasks(self, calls: "Sequence[OpenTask]") -> None:
        """Send calls, to be run in this order; LinkClosedError if the daemon is gone."""
        self._brings_names = False
        self._last = None
        if self._round_trip is not None:
            for call in calls:
                if (size := _size(call.blob, call.buffers)) > _HEAVY:
                    self._sizes[call.task] = size
        super().send_tasks(calls)
        if len(calls) == 1 and not self._brings_names and (waits := self.link.last) is not None:
            self._last = calls[0].task, waits

    def new_names(self, names: Sequence[NameEntry]) -> tuple[_wire.Name, ...]:
        """Return the table of a call, with the bytes of those names that the daemon lacks."""
        found = super().new_names(names)
        self._brings_names = any(name.blob is not None for name in found)
        return found

    def withdraw(self, task: TaskId) -> bool:
        """Send no more of a task; False if that is too late, or others build on it."""
        if self._last is None or self._last[0] != task or not self.link.withdraw(self._last[1]):
            return False
        self._last = self._table = None
        self._issued -= 1
        self.sent.pop(task, None)
        self._sizes.pop(task, None)
        return True

    def interrupt(self, task: TaskId) -> None:
        """Ask the daemon to stop this task, and no other; its keeper sees to it."""
        if task == self.broadcast:
            self._tell(_wire.Stop(task))
        else:
            self._tell_first(_wire.Stop(task, self._issued))

    def resend_stop(self) -> None:
        """Do nothing: its keeper insists."""

    def take_back(self) -> None:
        """Have its keeper return the tasks that it has not begun."""
        self._tell(_wire.Recall())

    def take_note_of(self, outcomes: Sequence[_wire.WireOutcome]) -> Sequence[_wire.WireOutcome]:
        """Learn from outcomes; return them with the time that what travels takes, if it is longer.

        What is sent ahead is as much as fits into that time.
        """
        if any(outcome.leaving for outcome in outcomes):
            self.may_return = True
        if self._round_trip is None:  # that is no time
            return outcomes
        return [self._weighed(outcome) for outcome in outcomes]

    def _weighed(self, outcome: _wire.WireOutcome) -> _wire.WireOutcome:
        size = _size(outcome.payload, outcome.buffers)
        size += self._sizes.pop(TaskId(outcome.task), 0)
        least = int(1e9 * _PER_BYTE * size) if size > _HEAVY else 0
        if not 0 < outcome.nanoseconds < least:  # at 0, it has not begun
            return outcome
        return outcome._replace(nanoseconds=least)

    def _accept_returned(self, frame: _wire.Returned) -> tuple[TaskId, ...]:
        tasks = tuple(TaskId(task) for task in frame.tasks)
        for task in tasks:
            self.sent.pop(task, None)
            self._sizes.pop(task, None)
        return tasks

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Have its keeper end it."""
        # A keeper that cannot be told has lost its host, and brings no other for it.
        self._was_killed |= self._tell_first(_wire.Kill(signum))

    def give_up(self, _: int = signal.SIGKILL) -> None:
        """Have its keeper end it, and start no other in its place."""
        self._is_given_up = True
        self._tell_first(_wire.Kill(signal.SIGKILL, overdue=True))

    def _tell(self, frame: _wire.Frame) -> None:
        with contextlib.suppress(LinkClosedError):  # that is reported where it is read
            self.send(frame)

    def _tell_first(self, frame: _wire.Frame) -> bool:
        """Send a frame before all others; False if the link is closed."""
        try:
            self.link.send_first(*_wire.pieces(frame))
        except LinkClosedError:
            return False
        return True

    def begun(self) -> tuple[TaskId, ...]:
        """Return the tasks that it may have begun.

        If its keeper could not say which, those are all that it had: none may run twice.
        """
        if self._end is None:
            return tuple(self.sent)
        for task in self._end.unbegun:
            self.sent.pop(TaskId(task), None)
        on_their_way = max(0, self._issued - self._end.received)
        return tuple(self.sent)[: len(self.sent) - on_their_way]

    def close(self) -> str:
        """Let go of it, and return the last lines of its standard error."""
        self.link.close()
        self._on_loss(self)
        return "" if self._end is None else printable(self._end.stderr, _LAST_WORDS, keep="\n\t")

    def forget(self) -> None:
        """In a forked child: nothing, as links close themselves there."""


def _size(blob: _wire.Bytes, buffers: Sequence[_wire.Buffer]) -> int:
    """Return how many bytes a call or an outcome has."""
    return len(blob) + sum(len(buffer) for buffer in buffers)


class Heartbeat:
    """Gives daemons elsewhere a sign of life, and takes those for lost that give none.

    Args:
        seconds: Between two signs.
        send: Sends a daemon a frame.
        on_lost: Is called for a daemon that has been silent for too long.
        report: Tells the dispatcher how many seconds it takes until a daemon can answer.
        reactor: Tells when it is time.
    """

    def __init__(
        self,
        seconds: float,
        send: Callable[[DaemonId, _wire.Frame], None],
        on_lost: Callable[[DaemonId], None],
        report: Callable[[RoundTripMeasured], None],
        reactor: Reactor,
    ) -> None:
        self._seconds = seconds
        self._send = send
        self._on_lost = on_lost
        self._report = report
        self._reactor = reactor
        self._daemons: dict[DaemonId, RemoteDaemon] = {}
        self._next_beat: Timer | None = None  # while daemons are elsewhere

    def add(self, id_: DaemonId, daemon: RemoteDaemon) -> None:
        """Listen to one more."""
        self._daemons[id_] = daemon
        daemon.hear_beat = partial(self._hear, id_)
        self._send(id_, _wire.Beat(self._reactor.now()))
        if self._next_beat is None:
            self._beat_later()

    def _hear(self, id_: DaemonId, beat: _wire.Beat) -> None:
        """Take in a daemon's sign, or one of this host's that has come back."""
        daemon = self._daemons[id_]
        if not beat.time or daemon.is_near:
            return
        seconds = daemon.note_round_trip(self._reactor.now() - beat.time)
        if daemon.round_trips < _FIRST_TRIPS:
            self._send(id_, _wire.Beat(self._reactor.now()))
        else:
            self._report(RoundTripMeasured(id_, seconds))

    def remove(self, id_: DaemonId) -> None:
        """Forget one that is lost."""
        self._daemons.pop(id_, None)

    def _beat_later(self) -> None:
        self._next_beat = self._reactor.call_in(self._seconds, self._beat)

    def _beat(self) -> None:
        """Give all a sign, and look for theirs."""
        now, patience = self._reactor.now(), _MISSED * self._seconds
        elsewhere = list(self._daemons.items())
        for id_, daemon in elsewhere:
            if daemon.has_been_silent(now, patience):
                _LOG.warning(
                    "daemon %d on %s has sent nothing for %.3g s: considered lost",
                    daemon.pid,
                    daemon.host,
                    patience,
                )
                self._on_lost(id_)
            elif not daemon.waits_to_send:  # what is on its way will do
                self._send(id_, _wire.Beat(now))
        self._next_beat = None
        if elsewhere:
            self._beat_later()
