"""What can happen to the dispatcher (events) and what it asks for (commands).

Events are named in the past tense, commands in the imperative. Both carry ids, never sockets,
futures or payloads, so that a whole run can be logged, compared and replayed. The one of which
each task has its own is a named tuple, because that is made in a third of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NewType

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


# Events


class TaskSubmitted(NamedTuple):
    task: TaskId
    timeout: float | None = None  # seconds from submission
    run_timeout: float | None = None  # seconds from the start of execution
    retries: int = 0  # how often it may run again after a lost daemon
    kind: int | None = None  # tasks of one kind may be expected to take equally long


@dataclass(frozen=True, slots=True)
class CancelRequested:
    task: TaskId
    running: bool = True  # False leaves a task alone that a daemon already holds


@dataclass(frozen=True, slots=True)
class ResultsArrived:
    """Tasks have ended at a daemon, in this order: with the seconds that each took there."""

    daemon: DaemonId
    results: Mapping[TaskId, float | None]
    leaving: bool = False  # the daemon is spoilt and must not get another task


@dataclass(frozen=True, slots=True)
class TasksReturned:
    """Answers ``RecallTasks``: the daemon will not begin these, and has begun all others."""

    daemon: DaemonId
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class BroadcastAnswered:
    daemon: DaemonId
    broadcast: BroadcastId


@dataclass(frozen=True, slots=True)
class DaemonsRequested:
    count: int  # have this many started, whether there is work for them or not


@dataclass(frozen=True, slots=True)
class DaemonsAdded:
    """There may be so many more daemons from now on; they are to be had at once."""

    count: int


@dataclass(frozen=True, slots=True)
class DaemonReady:
    daemon: DaemonId


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    daemon: DaemonId


@dataclass(frozen=True, slots=True)
class DaemonLost:
    """The process is gone, however it went; ``started`` are the tasks that it had begun."""

    daemon: DaemonId
    started: tuple[TaskId, ...] = ()


@dataclass(frozen=True, slots=True)
class InitializerFailed:
    daemon: DaemonId


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """Who was asked for daemons has failed. Those that are there go on.

    Unless it is for good, others will be asked for: only what waits now has waited in vain.
    """

    for_good: bool = True


@dataclass(frozen=True, slots=True)
class EntranceClosed:
    """From now on, no daemon comes by itself."""


@dataclass(frozen=True, slots=True)
class SurplusFound:
    """So many daemons are not needed; those that are idle, the longest first, may go."""

    count: int


@dataclass(frozen=True, slots=True)
class EverywhereRequested:
    broadcast: BroadcastId


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    cancel_queued: bool = False
    cancel_running: bool = False


@dataclass(frozen=True, slots=True)
class KillRequested:
    """End every daemon now, whatever it runs."""


Event = (
    TaskSubmitted
    | CancelRequested
    | ResultsArrived
    | TasksReturned
    | BroadcastAnswered
    | DaemonsRequested
    | DaemonsAdded
    | DaemonReady
    | LeaveRequested
    | DaemonLost
    | InitializerFailed
    | LaunchFailed
    | EntranceClosed
    | SurplusFound
    | EverywhereRequested
    | ShutdownRequested
    | KillRequested
)

# Commands


@dataclass(frozen=True, slots=True)
class LaunchDaemon:
    daemon: DaemonId


@dataclass(frozen=True, slots=True)
class SendTasks:
    daemon: DaemonId
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class RecallTasks:
    """Take back what the daemon has not begun; ``TasksReturned`` says what that was."""

    daemon: DaemonId


@dataclass(frozen=True, slots=True)
class SendBroadcast:
    daemon: DaemonId
    broadcast: BroadcastId


@dataclass(frozen=True, slots=True)
class InterruptTask:
    daemon: DaemonId
    task: TaskId


@dataclass(frozen=True, slots=True)
class DismissDaemon:
    daemon: DaemonId


@dataclass(frozen=True, slots=True)
class KillDaemon:
    daemon: DaemonId
    overdue: bool = False  # it was never ready: who keeps it is not to start another


@dataclass(frozen=True, slots=True)
class ResolveTasks:
    tasks: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class FailTask:
    task: TaskId
    failure: Failure
    daemon: DaemonId | None = None  # the one that held it


@dataclass(frozen=True, slots=True)
class FailBroadcast:
    daemon: DaemonId
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
)

# Views


class DaemonState(Enum):
    """How far a daemon has come."""

    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    KILLED = "killed"

    __hash__ = object.__hash__  # in C: they are keys, and Enum's takes a call of Python


@dataclass(frozen=True, slots=True)
class DaemonView:
    state: DaemonState
    busy: bool
    tasks_done: int


@dataclass(frozen=True, slots=True)
class DispatcherView:
    """What :meth:`Dispatcher.view` saw; ``submitted == awaiting + executing + completed``."""

    awaiting: int
    executing: int
    completed: int
    cumulative: int
    daemons: Mapping[DaemonId, DaemonView]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a dispatcher treats its daemons.

    Args:
        max_daemons: The most daemons that may exist at once.
        launches: Whether the dispatcher starts daemons itself when there is work for them.
        direct: Deal tasks to daemons round robin when submitted, instead of keeping one queue.
        max_tasks: Tasks after which a daemon leaves; None for no limit.
        idle_timeout: Seconds without a task after which a daemon leaves; None for never.
        start_timeout: Seconds in which a daemon must be ready, once it was launched or has come.
        cancel_grace: Seconds that a daemon has to let go of a task that was stopped.
        leave_grace: Seconds that a dismissed daemon has to end.
        failed_starts: Launched daemons in a row that may die without having begun any task,
            within ``failure_window`` seconds, before the dispatcher gives up (the restart
            intensity of Erlang's supervisors). Of those that come by themselves, the ones count
            that are not ready in time.
        failure_window: See ``failed_starts``.
        frame_time: Seconds of expected work that one frame may hold; 0 for frames of one task,
            and none of them before the last one is done.
        frame_size: The most tasks in a frame.
        ahead_below: Tasks that take longer, in seconds, are not sent to a daemon that is busy.
    """

    max_daemons: int
    launches: bool = True
    direct: bool = False
    max_tasks: int | None = None
    idle_timeout: float | None = None
    start_timeout: float = 60.0
    cancel_grace: float = 2.0
    leave_grace: float = 10.0
    failed_starts: int = 5
    failure_window: float = 60.0
    frame_time: float = 2.5e-3
    frame_size: int = 64
    ahead_below: float = 5e-3

    def __post_init__(self) -> None:
        if self.max_daemons < 0:
            raise ValueError("max_daemons must be at least 0")
        if self.failed_starts < 1:
            raise ValueError("failed_starts must be at least 1")
