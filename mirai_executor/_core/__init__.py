"""The scheduling core: pure, deterministic, and the only owner of task state."""

from __future__ import annotations

from mirai_executor._lazily import door

from .messages import (
    BroadcastAnswered,
    BroadcastId,
    CancelRequested,
    Command,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsAdded,
    DaemonsRequested,
    DaemonState,
    DaemonView,
    DismissDaemon,
    DispatcherView,
    EntranceClosed,
    Event,
    EverywhereRequested,
    FailBroadcast,
    FailTask,
    Failure,
    InitializerFailed,
    InterruptTask,
    KillDaemon,
    KillRequested,
    LaunchDaemon,
    LaunchFailed,
    LeaveRequested,
    Policy,
    RecallTasks,
    ResolveTasks,
    ResultsArrived,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
    SurplusFound,
    TaskId,
    TasksReturned,
    TaskSubmitted,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .scaling import Change, Load, ScalePolicy, Scaler
else:
    __getattr__ = door(
        __name__,
        {
            "dispatcher": ("Dispatcher",),
            "scaling": ("Change", "Load", "ScalePolicy", "Scaler"),
        },
    )

__all__ = [
    "BroadcastAnswered",
    "BroadcastId",
    "CancelRequested",
    "Change",
    "Command",
    "DaemonId",
    "DaemonLost",
    "DaemonReady",
    "DaemonState",
    "DaemonView",
    "DaemonsAdded",
    "DaemonsRequested",
    "DismissDaemon",
    "Dispatcher",
    "DispatcherView",
    "EntranceClosed",
    "Event",
    "EverywhereRequested",
    "FailBroadcast",
    "FailTask",
    "Failure",
    "InitializerFailed",
    "InterruptTask",
    "KillDaemon",
    "KillRequested",
    "LaunchDaemon",
    "LaunchFailed",
    "LeaveRequested",
    "Load",
    "Policy",
    "RecallTasks",
    "ResolveTasks",
    "ResultsArrived",
    "ScalePolicy",
    "Scaler",
    "SendBroadcast",
    "SendTasks",
    "ShutdownRequested",
    "SurplusFound",
    "TaskId",
    "TaskSubmitted",
    "TasksReturned",
]
