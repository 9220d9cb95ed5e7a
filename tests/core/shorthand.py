"""Short ways to say what stories say most: one task has ended, and its future may."""

from mirai_executor._core import (
    DaemonId,
    Limits,
    ResolveTasks,
    ResultsArrived,
    TaskId,
    TaskSubmitted,
)


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
