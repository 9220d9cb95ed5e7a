"""Says of a coroutine that its daemon may run others at the same time."""

from collections.abc import Callable

from mirai_executor._payload.common.around import Around
from mirai_executor._typing import Any

_task = 0  # the last one that was called and others may join


class InCompany(Around):
    """Calls a function whose coroutine others may join.

    Args:
        task: The task that it is.
    """

    def __init__(self, task: int) -> None:
        self.task = task

    def run(self, fn: Callable[..., object], *args: Any, **kwargs: Any) -> object:
        """Call it."""
        global _task  # a daemon calls one function at a time
        _task = self.task
        return fn(*args, **kwargs)


def may_be_joined(task: int) -> bool:
    """Tell whether others may run at the same time as the coroutine of this task."""
    return task == _task
