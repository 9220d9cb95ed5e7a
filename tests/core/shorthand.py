"""Short ways to say what stories say most: one task has ended, and its future may."""

from mirai_executor._core import DaemonId, ResolveTasks, ResultsArrived, TaskId


def result_arrived(
    daemon: DaemonId, task: TaskId, leaving: bool = False, seconds: float | None = 0.5
) -> ResultsArrived:
    return ResultsArrived(daemon, {task: seconds}, leaving)


def resolve(task: TaskId) -> ResolveTasks:
    return ResolveTasks((task,))
