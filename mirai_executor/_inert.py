"""What an executor becomes when it is pickled along with a task."""

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from typing import Any

_WHY_NOT = (
    "this is a copy of an executor, which was pickled without its daemons; create an executor in "
    "the process that submits the tasks"
)


class InertExecutor(Executor):
    """A copy of an executor, without its daemons: it can be passed around, but runs nothing."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise RuntimeError(_WHY_NOT)

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Any:
        self.submit(fn)

    def __getattr__(self, name: str) -> Any:
        # Of a method that was sent by itself, too: that looks for what its executor has.
        raise AttributeError(f"there is no {name!r} here: {_WHY_NOT}", name=name, obj=self)
