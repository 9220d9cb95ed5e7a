"""What can happen to the dispatcher (events) and what it asks for (commands).

Events are named in the past tense, commands in the imperative. Both carry ids, never sockets,
futures or payloads, so that a whole run can be logged, compared and replayed. The one of which
each task has its own is a named tuple, because that is made in a third of the time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import NewType

from mirai_executor._typing import NamedTuple, Record

TaskId = NewType("TaskId", int)
DaemonId = NewType("DaemonId", int)
BroadcastId = NewType("BroadcastId", int)


class Failure(Enum):
    """Why a task ended without an outcome of its own."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    RUN_TIMED_OUT = "ran too long"
    DAEMON_LOST = "daemon lost"
    BROKEN = "no daemon can be started"


class Departure(Enum):
    """Why a daemon was let go."""

    IDLE = "it was idle for as long as it may be"
    LIMIT = "it has done as many tasks as it may"
    RECALLED = "it is not needed any more"
    SPOILT = "it could not clean up behind a task, or was interrupted while it imported"
    INITIALIZER = "its initializer failed"
    ASKED = "it had asked for that"


# Events


class Limits(Record):
    """What a task may take, as far as that is decided here; the same object for many tasks."""

    timeout: float | None = None  # seconds from submission
    run_timeout: float | None = None  # seconds from the start of execution
    retries: int = 0  # how often it may run again after a lost daemon
    concurrency: int = 1  # so many that say the same may run at once at one daemon


NO_LIMITS = Limits()


class TaskSubmitted(NamedTuple):
    task: TaskId
    limits: Limits = NO_LIMITS
    kind: int | None = None  # tasks of one kind may be expected to take equally long


class CancelRequested(Record):
    task: TaskId
    running: bool = True  # False leaves a task alone that a daemon already holds


class ResultsArrived(Record):
    """Tasks have ended at a daemon, in this order: with the seconds that each took there.

    It took None if it was cancelled before it could begin.
    """

    daemon: DaemonId
    results: Mapping[TaskId, float | None]
    leaving: bool = False  # the daemon is spoilt and must not get another task


class TasksReturned(Record):
    """Answers ``RecallTasks``: the daemon will not begin these, and has begun all others."""

    daemon: DaemonId
    tasks: tuple[TaskId, ...]


class BroadcastAnswered(Record):
    daemon: DaemonId
    broadcast: BroadcastId


class BroadcastCancelRequested(Record):
    """Nobody wants to hear of what a daemon was to do for ``everywhere`` any more."""

    daemon: DaemonId
    broadcast: BroadcastId
    running: bool = True  # False leaves it alone if it runs


class DaemonsRequested(Record):
    count: int  # have this many started, whether there is work for them or not


class DaemonsAdded(Record):
    """There may be so many more daemons from now on; they are to be had at once."""

    count: int


class DaemonsMissed(Record):
    """So many that were asked for, and are to come by themselves, will not come."""

    count: int


class DaemonReady(Record):
    """It can be given tasks. One that came by itself may bring limits of its own."""

    daemon: DaemonId
    max_tasks: int | None = None  # as in Policy; the lower one counts
    idle_time: float | None = None


class RoundTripMeasured(Record):
    """So many seconds pass until an answer can come from it; it is far, so they count."""

    daemon: DaemonId
    seconds: float


class LeaveRequested(Record):
    daemon: DaemonId


class DaemonLost(Record):
    """The process is gone, however it went; ``started`` are the tasks that it had begun."""

    daemon: DaemonId
    started: tuple[TaskId, ...] = ()


class LaunchRefused(Record):
    """The system has no room for the daemon: for its process, its memory or its descriptors."""

    daemon: DaemonId


class RestartRequested(Record):
    """No daemon of now is to get another task: others take their places."""


class InitializerFailed(Record):
    """The daemon cannot be used, and has been let go."""

    daemon: DaemonId


class LaunchFailed(Record):
    """Who was asked for daemons has failed. Those that are there go on.

    Unless it is for good, others will be asked for: only what waits now has waited in vain.
    """

    for_good: bool = True


class ListeningEnded(Record):
    """From now on, no daemon comes by itself."""


class SurplusFound(Record):
    """So many daemons are not needed; those that are idle, the longest first, may go."""

    count: int


class EverywhereRequested(Record):
    broadcast: BroadcastId
    # The names in __main__ that it sets, if it does that and nothing else, and reads none.
    sets: frozenset[str] | None = None
    timeout: float | None = None  # seconds from now
    run_timeout: float | None = None  # seconds from the start, at each daemon


class ShutdownRequested(Record):
    """Take no more tasks, and end with those that are open.

    Where daemons come by themselves, those tasks wait no longer than a start may take for one of
    whom nobody knows; if the shutdown is ``hurried``, for one that has been asked for neither.
    """

    cancel_queued: bool = False
    cancel_running: bool = False
    hurried: bool = False


class KillRequested(Record):
    """End every daemon now, whatever it runs."""


Event = (
    TaskSubmitted
    | CancelRequested
    | ResultsArrived
    | TasksReturned
    | BroadcastAnswered
    | BroadcastCancelRequested
    | DaemonsRequested
    | DaemonsAdded
    | DaemonsMissed
    | DaemonReady
    | RoundTripMeasured
    | LeaveRequested
    | RestartRequested
    | DaemonLost
    | LaunchRefused
    | InitializerFailed
    | LaunchFailed
    | ListeningEnded
    | SurplusFound
    | EverywhereRequested
    | ShutdownRequested
    | KillRequested
)

# Commands


class LaunchDaemon(Record):
    daemon: DaemonId


class SendTasks(Record):
    daemon: DaemonId
    tasks: tuple[TaskId, ...]


class RecallTasks(Record):
    """Take back what the daemon has not begun; ``TasksReturned`` says what that was."""

    daemon: DaemonId


class SendBroadcast(Record):
    daemon: DaemonId
    broadcast: BroadcastId


class InterruptTask(Record):
    daemon: DaemonId
    task: TaskId


class DismissDaemon(Record):
    daemon: DaemonId


class KillDaemon(Record):
    daemon: DaemonId
    overdue: bool = False  # it was never ready: who keeps it is not to start another


class ResolveTasks(Record):
    tasks: tuple[TaskId, ...]


class FailTask(Record):
    task: TaskId
    failure: Failure
    daemon: DaemonId | None = None  # the one that held it


class FailBroadcast(Record):
    daemon: DaemonId
    broadcast: BroadcastId
    failure: Failure | None = None  # None: its daemon is lost, or will never do it


class InterruptBroadcast(Record):
    daemon: DaemonId
    broadcast: BroadcastId


class ReportShortage(Record):
    """Say that there are fewer daemons than there should be, as the system has no room."""


class ReportWait(Record):
    """Say that tasks have waited for so long, and nobody is connected who could take them."""

    tasks: int
    seconds: float


class ForgetBroadcast(Record):
    """No daemon will ever run it again."""

    broadcast: BroadcastId


Command = (
    LaunchDaemon
    | SendTasks
    | RecallTasks
    | SendBroadcast
    | InterruptTask
    | DismissDaemon
    | KillDaemon
    | ResolveTasks
    | FailTask
    | FailBroadcast
    | ForgetBroadcast
    | InterruptBroadcast
    | ReportShortage
    | ReportWait
)

# What a story has beside events and commands


class DaemonAdopted(Record):
    """A daemon has come by itself, and got this id."""

    daemon: DaemonId


# Views


class DaemonState(Enum):
    """How far a daemon has come."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    KILLED = "killed"

    __hash__ = object.__hash__  # in C: they are keys, and Enum's takes a call of Python


class DaemonView(Record):
    state: DaemonState
    busy: bool
    tasks_done: int


class DispatcherView(Record):
    """What :meth:`Dispatcher.view` saw; ``submitted == awaiting + executing + completed``."""

    awaiting: int
    executing: int
    completed: int
    cumulative: int
    daemons: Mapping[DaemonId, DaemonView]
    is_short: bool = False  # the system has no room for those that are missing
    waiting_since: float | None = None  # tasks wait, and no daemon is connected
    lost_early: int = 0  # have come by themselves, and were never ready
    parting: int = 0  # are connected, and will leave once they are free


class Policy(Record):
    """How a dispatcher treats its daemons."""

    max_daemons: int  # may exist at once, at most
    launches: bool = True  # the dispatcher starts them itself when there is work for them
    direct: bool = False  # tasks are dealt to daemons when submitted: there is no common queue
    max_tasks: int | None = None  # after which a daemon leaves; None for no limit
    idle_time: float | None = None  # seconds without a task, likewise
    start_timeout: float = 60.0  # seconds until a daemon must be ready that was launched, or came
    cancel_grace: float = 2.0  # seconds that a daemon has to let go of a task that was stopped
    leave_grace: float = 10.0  # seconds that a dismissed daemon has to end
    # Launched daemons in a row that may die without having begun any task, within so many seconds,
    # before the dispatcher gives up (the restart intensity of Erlang's supervisors). Of those that
    # come by themselves, the ones count that are not ready in time.
    failed_starts: int = 5
    failure_window: float = 60.0
    # Seconds of expected work that one frame may hold; 0 for frames of one task, and none of them
    # before the last one is done.
    frame_time: float = 2.5e-3
    frame_size: int = 64  # tasks in a frame, at most
    ahead_below: float = 15e-3  # longer tasks, in seconds, aren't sent to a daemon that is busy
    far_frame_time: float = 0.5  # as frame_time: all may be lost with the connection
    far_frame_size: int = 1024
    # Seconds that tasks wait while no daemon is connected, until that is reported, where daemons
    # come by themselves.
    warn_after: float = math.inf

    def __post_init__(self) -> None:
        if self.max_daemons < 0:
            raise ValueError("max_daemons must be at least 0")
        if self.failed_starts < 1:
            raise ValueError("failed_starts must be at least 1")
