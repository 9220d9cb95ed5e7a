"""What an executor becomes when it is pickled along with a task."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any


class InertExecutor(Executor):
    """A copy of an executor, without its daemons: it can be passed around, but runs nothing."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise RuntimeError(
            "this is a copy of an executor, which was pickled without its daemons; create an "
            "executor in the process that submits the tasks"
        )

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Any:
        self.submit(fn)
