"""Short ways to say what stories say most: one task has ended, and its future may."""

from collections.abc import Callable

from mirai_executor._core import (
    BroadcastId,
    Command,
    DaemonId,
    DaemonReady,
    DaemonsRequested,
    Dispatcher,
    LaunchDaemon,
    Limits,
    ResolveTasks,
    ResultsArrived,
    TaskId,
    TaskSubmitted,
)

A, B, C, D, E = (DaemonId(n) for n in range(1, 6))
T1, T2, T3, T4, T5 = (TaskId(n) for n in range(1, 6))
SETUP, MORE = BroadcastId(1), BroadcastId(2)

Dispatch = Callable[..., Dispatcher]  # makes one, with options of its policy


def result_arrived(
    daemon: DaemonId, task: TaskId, leaving: bool = False, seconds: float | None = 0.5
) -> ResultsArrived:
    return ResultsArrived(daemon, {task: seconds}, leaving)


def resolve(task: TaskId) -> ResolveTasks:
    return ResolveTasks((task,))


def submitted(
    task: TaskId,
    timeout: float | None = None,
    run_timeout: float | None = None,
    retries: int = 0,
    kind: int | None = None,
    concurrency: int = 1,
) -> TaskSubmitted:
    return TaskSubmitted(task, Limits(timeout, run_timeout, retries, concurrency), kind)


def start(dispatcher: Dispatcher, count: int = 1, now: float = 0) -> None:
    """Have ``count`` daemons and let them become ready."""
    for command in dispatcher.handle(DaemonsRequested(count), now):
        assert isinstance(command, LaunchDaemon)
        dispatcher.handle(DaemonReady(command.daemon), now)
    assert dispatcher.ready_count == count


def submit(dispatcher: Dispatcher, *tasks: TaskId, now: float = 0) -> list[Command]:
    """Submit plain tasks and return what that led to."""
    return [c for task in tasks for c in dispatcher.handle(TaskSubmitted(task), now)]
