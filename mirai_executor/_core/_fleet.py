"""Keeps the daemons: how far each has come, who is idle, and whether more have to be started.

::

    STARTING --> READY (idle <-> busy) --> LEAVING --> (gone)
        '-----------'-----------> KILLED -----'-----------^
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container

from mirai_executor._typing import Mutable, made_by

from .messages import BroadcastId, DaemonId, DaemonState, DaemonView, Departure, Policy, TaskId

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds until the system is asked for room again

# What a daemon may become, and when. From every state, it may be gone the next moment.
TRANSITIONS: dict[DaemonState, dict[DaemonState, str]] = {
    DaemonState.STARTING: {
        DaemonState.READY: "its initializer, if there is one, has done its work: DaemonReady",
        DaemonState.LEAVING: "its initializer has failed: InitializerFailed",
        DaemonState.KILLED: "it was not ready in time, or is not needed any more: KillDaemon",
    },
    DaemonState.READY: {
        DaemonState.LEAVING: "idle for long, at its limit, or not wanted any more: DismissDaemon",
        DaemonState.KILLED: "it does not let go of a task, or all are to end: KillDaemon",
    },
    DaemonState.LEAVING: {
        DaemonState.KILLED: "it has not ended in time: KillDaemon",
    },
    DaemonState.KILLED: {},
}
_READY = DaemonState.READY  # to look it up there takes longer


class DaemonRecord(Mutable):
    """What is known about one daemon."""

    id: DaemonId
    launched: bool  # by us; False for one that came by itself
    due: deque[BroadcastId]  # to be run before its next task; the first runs if ``broadcasting``
    max_tasks: int | None = None  # after which it leaves
    idle_time: float | None = None  # seconds without a task after which it leaves
    state: DaemonState = DaemonState.STARTING
    # Sent and unanswered, ended or not, in this order; and how long each is expected to take.
    held: dict[TaskId, float | None] = made_by(factory=dict)
    ahead: int = 0  # so many of them, the last ones, were sent while it was busy
    recalling: bool = False  # it has been asked what it has not begun
    delayed: bool = False  # what it runs takes longer than expected, or has to stop
    concurrency: int = 1  # so many tasks may run there at once, as those say that it holds
    dealt: OrderedDict[TaskId, None] = made_by(factory=OrderedDict)  # direct mode: waiting
    broadcasting: bool = False
    stopping: bool = False  # what it runs then: nobody wants to hear of that any more
    awaited: BroadcastId | None = None  # the last one in ``due`` that is more than catching up
    asked_to_leave: bool = False
    leaves_for: Departure | None = None  # the first reason that has come up
    overdue: bool = False  # killed because it was never ready
    idle_period: int = 0  # counts them, so that an alarm of an earlier one is void
    tasks_sent: int = 0
    tasks_done: int = 0
    round_trip: float = 0.0  # seconds from sending something to the answer; 0 for one that is near
    was_ready: bool = False

    @property
    def is_usable(self) -> bool:
        """Whether it may get work, now or once it is ready."""
        return self.state is _READY or self.state is DaemonState.STARTING

    @property
    def is_resting(self) -> bool:
        """Whether it has nothing to answer."""
        return not self.held and not self.broadcasting

    @property
    def is_free(self) -> bool:
        """Whether it could get work this very moment."""
        return self.state is _READY and not self.held and not self.broadcasting

    @property
    def may_get_ahead(self) -> bool:
        """Whether it may get a frame while it is busy with another one."""
        return (
            self.state is _READY
            and bool(self.held)
            and not (self.ahead or self.recalling or self.delayed)
            and not (self.due or self.asked_to_leave)
        )

    @property
    def failed_to_start(self) -> bool:
        """Whether nothing came of it, unless it dies of a task, if it is lost now.

        A daemon that has done a task shows that daemons can start. One that came by itself was
        not ours to start, unless it was never ready, and one that was told to end did as it was
        told.
        """
        return (self.overdue or (self.launched and self.is_usable)) and not self.tasks_done

    def review(self, open_tasks: Container[TaskId]) -> None:
        """Find out whether a task that runs beside others still has to stop."""
        self.delayed = any(id_ not in open_tasks for id_ in self.held)

    def view(self) -> DaemonView:
        """Return a frozen picture of it."""
        return DaemonView(self.state, not self.is_resting, self.tasks_done)


class BroadcastRecord(Mutable):
    """A call that all daemons make."""

    sets: frozenset[str] | None  # names, if it does nothing else
    run_timeout: float | None = None
    is_lasting: bool = True  # a daemon that joins makes it, too
    is_done: bool = False  # at one daemon at least


class Shortage(Mutable):
    """The system had no room for another daemon."""

    until: float  # no other one is started before, while there are any
    pause: float  # seconds that led there
    last_id: DaemonId  # those up to this one were started before it was known
    is_told: bool = False


class Wait(Mutable):
    """Tasks wait, and no daemon is connected."""

    since: float
    warn_at: float


class FleetTable:
    """All daemons of one dispatcher. It decides nothing about tasks."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.max_daemons = policy.max_daemons
        self.daemons: dict[DaemonId, DaemonRecord] = {}
        # The most recently used is last, and is taken first: its caches are warm, and those that
        # nobody needs become old enough to leave.
        self.idle: dict[DaemonId, DaemonRecord] = {}
        self.prompt: dict[DaemonId, DaemonRecord] = {}  # busy, but may perhaps get a frame ahead
        self.stacked: dict[DaemonId, DaemonRecord] = {}  # hold more than one task
        self.shared: dict[DaemonId, DaemonRecord] = {}  # run tasks that others may join
        self.rota: deque[DaemonRecord] = deque()  # direct mode: whose turn it is
        self.broadcasts: dict[BroadcastId, BroadcastRecord] = {}  # that a daemon may have to run
        self.ever_ready = 0
        self.broken = False
        self.wanted = 0  # so many are to be had, whether there is work for them or not
        self.promised = 0  # so many were wanted, those included that have come since
        self.shortage: Shortage | None = None
        self.wait: Wait | None = None
        self._failed_starts: deque[float] = deque(maxlen=policy.failed_starts)
        self.counts = dict.fromkeys(DaemonState, 0)
        self.last_id = 0  # of the daemon that was added last
        self.missing = 0  # were asked for and have not come, where they come by themselves
        self.lost_early = 0  # have come, and were never ready

    @property
    def ready_count(self) -> int:
        """How many are connected and may be given tasks."""
        return self.counts[_READY]

    @property
    def starting_count(self) -> int:
        """How many are on their way."""
        return self.counts[DaemonState.STARTING]

    @property
    def usable_count(self) -> int:
        """How many may get work, now or once they are ready."""
        return self.counts[DaemonState.STARTING] + self.counts[_READY]

    def usable(self) -> list[DaemonRecord]:
        """Return those that may get work, now or once they are ready."""
        return [daemon for daemon in self.daemons.values() if daemon.is_usable]

    # Coming

    def want(self, count: int, now: float) -> None:
        """Have ``count`` daemons ready at once, even without work for them.

        If the system had no room for them, it is tried again, and not only later.
        """
        if self.shortage is not None:
            self.shortage.until = min(now, self.shortage.until)
        self.wanted = max(self.wanted, min(count, self.max_daemons))
        self.promised = max(self.promised, self.wanted)
        self._clear_wanted_if_met()

    def want_no_more(self) -> None:
        """Forget what was asked for by :meth:`want`."""
        self.wanted = self.promised = 0

    def has_come(self, count: int) -> bool:
        """Tell whether so many are ready, or each has been since they were wanted.

        Those that leave at once, as they are idle or have done what they may, are never ready
        together.
        """
        return (not self.wanted and count <= self.promised) or self.ready_count >= count

    def lacks_one(self, waiting: int, least: int) -> bool:
        """Tell whether a daemon has to be started for ``waiting`` tasks, or to be ``least``."""
        if len(self.daemons) >= self.max_daemons:
            return False
        starting = self.counts[DaemonState.STARTING]
        return starting < waiting or starting + self.counts[_READY] < max(self.wanted, least)

    def add(self, *, launched: bool) -> DaemonRecord:
        """Expect one more daemon."""
        self.last_id += 1
        self.missing -= not launched  # below 0 where some came without being asked for
        daemon = DaemonRecord(
            DaemonId(self.last_id),
            launched,
            deque(id_ for id_, it in self.broadcasts.items() if it.is_lasting),
            self._policy.max_tasks,
            self._policy.idle_time,
        )
        self.daemons[daemon.id] = daemon
        self.rota.append(daemon)
        self.counts[daemon.state] += 1
        return daemon

    def welcome(
        self, daemon: DaemonRecord, max_tasks: int | None, idle_time: float | None
    ) -> None:
        """Note that a daemon is ready, and the limits that it has brought."""
        if max_tasks is not None and _is_lower(max_tasks, daemon.max_tasks):
            daemon.max_tasks = max_tasks
        if idle_time is not None and _is_lower(idle_time, daemon.idle_time):
            daemon.idle_time = idle_time
        self.ever_ready += 1
        daemon.was_ready = True
        if self.shortage is not None and daemon.id > self.shortage.last_id:
            self.shortage = None
        self._move(daemon, _READY)
        self._clear_wanted_if_met()

    # Tasks that run at once

    def join(self, daemon: DaemonRecord, concurrency: int) -> None:
        """Note that a daemon, free or in such company, is to run a task that others may join."""
        daemon.concurrency = concurrency
        self.shared[daemon.id] = daemon

    def part(self, daemon: DaemonRecord) -> None:
        """Note that the last of them has ended."""
        daemon.concurrency = 1
        self.shared.pop(daemon.id, None)

    # Broadcasts

    def note_broadcast(self, id_: BroadcastId, broadcast: BroadcastRecord) -> list[BroadcastId]:
        """Have daemons that join run it, too; return what they need not run any more.

        What sets the same names later takes the place of what sets them, unless something between
        the two may have read them.
        """
        replaced = []
        names = broadcast.sets
        for earlier, other in reversed(self.broadcasts.items()):
            if names is None or other.sets is None:
                break
            if other.sets <= names:
                other.is_lasting = False
                replaced.append(earlier)
        self.broadcasts[id_] = broadcast
        return replaced

    def withdraw(self, id_: BroadcastId) -> None:
        """Have daemons that join not run it, if it was stopped wherever it was to run."""
        broadcast = self.broadcasts.get(id_)
        if broadcast is not None and not broadcast.is_done:
            broadcast.is_lasting = any(
                id_ in daemon.due and not (daemon.stopping and daemon.due[0] == id_)
                for daemon in self.daemons.values()
            )

    def forget_broadcast(self, id_: BroadcastId) -> bool:
        """Forget it if no daemon will ever have to run it; return whether that is so."""
        broadcast = self.broadcasts.get(id_)
        if broadcast is None or broadcast.is_lasting:
            return False
        if any(id_ in daemon.due for daemon in self.daemons.values()):
            return False
        del self.broadcasts[id_]
        return True

    # Going

    @property
    def parting_count(self) -> int:
        """How many are connected, and will leave once they are free."""
        those = self.daemons.values()
        return sum(d.asked_to_leave and d.state is _READY for d in those)

    def take_off_rota(self, daemon: DaemonRecord) -> None:
        """Direct mode: deal no more tasks to a daemon."""
        if daemon in self.rota:
            self.rota.remove(daemon)

    def retire(self, daemon: DaemonRecord, state: DaemonState) -> None:
        """Note that a daemon was told to end: it gets no more work."""
        is_recalled = daemon.leaves_for is Departure.RECALLED
        if state is DaemonState.LEAVING and daemon.was_ready and not is_recalled:
            # It was ready, as wanted. Else daemons that start minutes apart, and leave when idle
            # for seconds, would be replaced for ever. One that is recalled makes room for another.
            self.wanted = max(0, self.wanted - 1)
        self._move(daemon, state)
        for index in (self.idle, self.prompt, self.stacked, self.shared):
            index.pop(daemon.id, None)
        self.take_off_rota(daemon)

    def remove(self, id_: DaemonId) -> DaemonRecord | None:
        """Forget a daemon that is gone; None if there is no such daemon."""
        daemon = self.daemons.pop(id_, None)
        if daemon is not None:
            for index in (self.idle, self.prompt, self.stacked, self.shared):
                index.pop(id_, None)
            self.take_off_rota(daemon)
            self.counts[daemon.state] -= 1
            self.lost_early += not (daemon.launched or daemon.was_ready)
        return daemon

    def _clear_wanted_if_met(self) -> None:
        if self.ready_count >= self.wanted:
            self.wanted = 0

    # Room

    def may_launch(self, now: float) -> bool:
        """Tell whether the system may have room for one more, as far as is known.

        After a shortage a single one is tried. Without any daemon there is nobody to wait for.
        """
        if self.shortage is None or not self.daemons:
            return True
        return self.has_no_room and self.shortage.until <= now

    @property
    def has_no_room(self) -> bool:
        """Whether the system had no room the last time, and none is on its way since."""
        shortage = self.shortage
        return shortage is not None and not any(
            daemon.id > shortage.last_id and daemon.state is DaemonState.STARTING
            for daemon in self.daemons.values()
        )

    @property
    def lacks_room(self) -> bool:
        """Whether the system had no room for one that was tried again, and none is on its way."""
        shortage = self.shortage
        return shortage is not None and self.has_no_room and shortage.pause > _FIRST_PAUSE

    def note_shortage(self, id_: DaemonId, now: float) -> float | None:
        """Note that there was no room for a daemon.

        Returns:
            When to try again; None if it was started together with another one that had no room.
        """
        last, known = DaemonId(self.last_id), self.shortage
        if known is None:
            known = self.shortage = Shortage(now + _FIRST_PAUSE, _FIRST_PAUSE, last)
        elif id_ <= known.last_id:
            return None
        else:
            known.pause = min(2 * known.pause, _LONGEST_PAUSE)
            known.until, known.last_id = now + known.pause, last
        return known.until

    # Giving up

    def count_failed_start(self, now: float) -> bool:
        """Note that a daemon came to nothing; return whether it is time to give up."""
        times = self._failed_starts
        times.append(now)
        return len(times) == times.maxlen and now - times[0] <= self._policy.failure_window

    def forget_failed_starts(self) -> None:
        """Note that daemons can do tasks."""
        if self._failed_starts:
            self._failed_starts.clear()

    def _move(self, daemon: DaemonRecord, state: DaemonState) -> None:
        assert state in TRANSITIONS[daemon.state], f"{state} after {daemon.state}"
        self.counts[daemon.state] -= 1
        self.counts[state] += 1
        daemon.state = state


def _is_lower(limit: float, other: float | None) -> bool:
    return other is None or limit < other
