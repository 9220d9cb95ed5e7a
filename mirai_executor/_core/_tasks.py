"""Keeps the tasks that have not ended, and the moments at which something has to happen.

::

    QUEUED <--> HELD             and from each of them: ended, and forgotten
       ^          ^
       '-> DEALT -'

A moment, an *alarm*, may have become void by the time it comes: its task has ended, say.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Collection
from enum import Enum, IntEnum
from itertools import takewhile

from mirai_executor._typing import Mutable, NamedTuple

from ._fleet import DaemonRecord, FleetTable
from .messages import DaemonId, DaemonState, Limits, TaskId

_NO_TASK = TaskId(-1)
_NO_DAEMON = DaemonId(-1)


class TaskState(Enum):
    """Where a task is that has not ended."""

    QUEUED = "queued"
    DEALT = "dealt"
    HELD = "held"

    __hash__ = object.__hash__  # as DaemonState's


_HELD = TaskState.HELD  # as _READY of daemons

# What may become of a task, and when. From every state, it may have ended the next moment.
TRANSITIONS: dict[TaskState, dict[TaskState, str]] = {
    TaskState.QUEUED: {
        TaskState.HELD: "a daemon is free for it, or will be soon: SendTasks",
        TaskState.DEALT: "without a common queue: it is the turn of a daemon that is busy",
    },
    TaskState.DEALT: {
        TaskState.HELD: "its daemon is free: SendTasks",
        TaskState.QUEUED: "its daemon is lost or leaves: DaemonLost, DismissDaemon, KillDaemon",
    },
    TaskState.HELD: {
        TaskState.QUEUED: "it has not begun, or may run again: TasksReturned, DaemonLost",
    },
}


class Task(Mutable):
    """What is known about one task, until it ends."""

    limits: Limits
    retries: int  # those that are left
    kind: int | None = None
    place: int = 0  # in the order of submission
    state: TaskState = TaskState.QUEUED
    daemon: DaemonId = _NO_DAEMON  # holds it, or it was dealt to that one
    late_at: float = math.inf  # when it will have run too long, where it was sent last


class TaskTable:
    """All open tasks of one dispatcher. It decides nothing about daemons."""

    def __init__(self) -> None:
        self.open: dict[TaskId, Task] = {}
        # Always in the order of submission. OrderedDict: a plain dict slows down as its front
        # empties.
        self.queue: OrderedDict[TaskId, None] = OrderedDict()
        self.submitted = 0
        self.executing = 0

    def add(self, id_: TaskId, task: Task) -> None:
        """Put a new task at the end of the queue."""
        task.place = self.submitted
        self.open[id_] = task
        self.queue[id_] = None

    def is_waiting(self, id_: TaskId) -> bool:
        """Tell whether no daemon has been sent the task."""
        return self.open[id_].state is not TaskState.HELD

    def hand_over(self, ids: Collection[TaskId], daemon: DaemonId) -> None:
        """Note that a daemon now holds these tasks."""
        for id_ in ids:
            task = self.open[id_]
            assert _HELD in TRANSITIONS[task.state], f"{_HELD} after {task.state}"
            task.state = _HELD
            task.daemon = daemon
        self.executing += len(ids)

    def deal(self, id_: TaskId, daemon: DaemonId) -> None:
        """Direct mode: note that a task, taken out of the queue, waits for a daemon."""
        _move(self.open[id_], TaskState.DEALT, daemon)

    def requeue(self, ids: Collection[TaskId]) -> None:
        """Let tasks that were held or dealt wait in the queue again, where they stood."""
        if not ids:
            return
        for id_ in ids:
            self.executing -= not self.is_waiting(id_)
            _move(self.open[id_], TaskState.QUEUED)
        last = max(map(self.place_of, ids))
        # Only tasks that came back before can stand in front: these are few.
        earlier = takewhile(lambda id_: self.place_of(id_) < last, self.queue)
        for id_ in sorted([*ids, *earlier], key=self.place_of, reverse=True):
            self.queue[id_] = None
            self.queue.move_to_end(id_, last=False)

    def place_of(self, id_: TaskId) -> int:
        """Return where an open task stands in the order of submission."""
        return self.open[id_].place

    def forget_held(self, ids: Collection[TaskId]) -> None:
        """Note that tasks have ended at their daemon."""
        self.executing -= len(ids)
        for id_ in ids:
            del self.open[id_]

    def forget(self, id_: TaskId) -> Task:
        """Note that a task has ended."""
        task = self.open.pop(id_)
        if task.state is TaskState.HELD:
            self.executing -= 1
        else:
            self.queue.pop(id_, None)
        return task


def _move(task: Task, state: TaskState, daemon: DaemonId = _NO_DAEMON) -> None:
    assert state in TRANSITIONS[task.state], f"{state} after {task.state}"
    task.state, task.daemon = state, daemon


class AlarmKind(IntEnum):
    """What happens when the alarm rings."""

    TIMEOUT = 0  # a task was not done in time after its submission
    RUN_TIMEOUT = 1  # a task ran too long
    GRACE = 2  # a daemon did not let go of a task that was stopped
    START = 3  # a daemon did not become ready
    IDLE = 4  # a daemon had no task for long enough
    LEAVE = 5  # a dismissed daemon did not end
    OVERDUE = 6  # a frame takes much longer than was expected
    SHARE = 7  # a daemon's share of a broadcast was not done in time
    SHARE_RUN = 8  # it ran too long
    SHARE_GRACE = 9  # it did not stop
    VAIN = 10  # nobody has come to do what waits
    ROOM = 11  # the system may have room for another daemon by now
    WAIT = 12  # tasks have waited for long, and nobody is connected
    STRANDED = 13  # what is left when the executor ends has waited for daemons that nobody starts


class Alarm(NamedTuple):
    """One of them; they compare by their moment, then in the order of setting."""

    when: float
    order: int
    kind: AlarmKind
    task: TaskId
    daemon: DaemonId
    period: int


class Alarms:
    """A heap of alarms; void ones are dropped when they come up, and in bulk when many."""

    def __init__(self, tasks: TaskTable, fleet: FleetTable) -> None:
        self._tasks = tasks
        self._fleet = fleet
        self._heap: list[Alarm] = []
        self._count = 0
        self._sweep_at = 1024

    def set(
        self,
        when: float,
        kind: AlarmKind,
        task: TaskId = _NO_TASK,
        daemon: DaemonId = _NO_DAEMON,
        period: int = 0,
    ) -> None:
        """Ring at the moment ``when``, unless void by then."""
        if when == math.inf:
            return
        self._count += 1
        heapq.heappush(self._heap, Alarm(when, self._count, kind, task, daemon, period))
        if len(self._heap) > self._sweep_at:
            self._sweep()

    def next_deadline(self) -> float | None:
        """Return when the next alarm rings; None for never."""
        while self._heap and not self._is_pending(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].when if self._heap else None

    def pop_due(self, now: float) -> Alarm | None:
        """Take out the next alarm that should have rung by ``now``."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        return heapq.heappop(self._heap)

    def pending(self) -> list[Alarm]:
        """Return all that may still ring, in no order."""
        return [alarm for alarm in self._heap if self._is_pending(alarm)]

    def _is_pending(self, alarm: Alarm) -> bool:
        """Tell whether an alarm still concerns anybody."""
        if alarm.kind is AlarmKind.TIMEOUT:
            return alarm.task in self._tasks.open
        if alarm.kind is AlarmKind.RUN_TIMEOUT:
            task = self._tasks.open.get(alarm.task)
            if task is None or task.state is not TaskState.HELD or task.daemon != alarm.daemon:
                return False
            return task.late_at == alarm.when  # it may have come back, and been sent again
        if alarm.kind is AlarmKind.VAIN or alarm.kind is AlarmKind.STRANDED:
            nobody_came = alarm.period == self._fleet.last_id and not self._fleet.broken
            return nobody_came and (alarm.kind is AlarmKind.VAIN or bool(self._tasks.queue))
        if alarm.kind is AlarmKind.ROOM:
            shortage = self._fleet.shortage
            return shortage is not None and alarm.when == shortage.until
        if alarm.kind is AlarmKind.WAIT:
            wait = self._fleet.wait
            return wait is not None and alarm.when == wait.warn_at
        daemon = self._fleet.daemons.get(alarm.daemon)
        return daemon is not None and _concerns(alarm, daemon)

    def _sweep(self) -> None:
        # A million tasks with an hour's timeout each must not leave a million void alarms.
        self._heap = [alarm for alarm in self._heap if self._is_pending(alarm)]
        heapq.heapify(self._heap)
        self._sweep_at = 1024 + 2 * len(self._heap)


def _concerns(alarm: Alarm, daemon: DaemonRecord) -> bool:
    match alarm.kind:
        case AlarmKind.START:
            return daemon.state is DaemonState.STARTING
        case AlarmKind.GRACE:
            return daemon.state is DaemonState.READY and alarm.task in daemon.held
        case AlarmKind.OVERDUE:
            busy = daemon.state is DaemonState.READY and not daemon.recalling
            return busy and len(daemon.held) > 1 and alarm.task in daemon.held
        case AlarmKind.IDLE:
            return daemon.is_free and daemon.idle_period == alarm.period
        case AlarmKind.LEAVE:
            return daemon.state is DaemonState.LEAVING
        case AlarmKind.SHARE:
            runs = daemon.broadcasting and daemon.due[0] == alarm.period
            return alarm.period in daemon.due and not (runs and daemon.stopping)
        case AlarmKind.SHARE_RUN | AlarmKind.SHARE_GRACE:
            runs = daemon.broadcasting and daemon.due[0] == alarm.period
            stopping = alarm.kind is AlarmKind.SHARE_GRACE
            is_ready = daemon.state is DaemonState.READY
            return is_ready and runs and daemon.stopping is stopping
        case _:
            return False
