"""What stands around the function of a task where that is to run in a way of its own.

It travels beside the function, as a keyword argument: so the bytes of the function are still
pickled and sent once, whatever stands around its single calls.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from types import CoroutineType

from mirai_executor._payload.common.entries import AROUND, STREAM
from mirai_executor._typing import Any


class Around:
    """Calls a function in a way of its own. Subclasses say how."""

    def run(self, fn: Callable[..., object], *args: Any, **kwargs: Any) -> object:
        """Call a function."""
        raise NotImplementedError


class InContext(Around):
    """Calls functions where context variables are as they were where the task was submitted.

    Args:
        context: The variables and their values, by their names.
    """

    def __init__(self, context: Mapping[str, tuple[ContextVar[Any], object]]) -> None:
        self.context = context

    def run(self, fn: Callable[..., object], *args: Any, **kwargs: Any) -> object:
        """Call a function; what it sets ends with it."""
        return copy_context().run(self._run, fn, args, kwargs)

    def _run(
        self, fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        for variable, value in self.context.values():
            variable.set(value)
        returned = fn(*args, **kwargs)
        return self._awaited(returned) if type(returned) is CoroutineType else returned

    async def _awaited(self, coroutine: "CoroutineType[Any, Any, object]") -> object:
        """Await a coroutine, whose context is another one: that of its task of asyncio."""
        for variable, value in self.context.values():
            variable.set(value)
        return await coroutine


def take_around(arguments: dict[str, Any]) -> Sequence[Around]:
    """Take what stands around a call out of its keyword arguments, the outermost first."""
    around: Sequence[Around] = arguments.pop(AROUND, ())
    return around


def take_reserved(arguments: dict[str, Any]) -> tuple[Sequence[Around], str | None]:
    """Do the same, and take out the stream of the call's random numbers, if it has one."""
    return take_around(arguments), arguments.pop(STREAM, None)


def seeded(stream: str, call: Callable[[], object]) -> Callable[[], object]:
    """Return a call of a daemon's that has random numbers of its own."""
    from mirai_executor._random_streams import run  # for executors with a seed

    return functools.partial(run, stream, call)


def inside(around: Sequence[Around], fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls another one inside of all that stands around it."""
    for each in reversed(around):
        fn = functools.partial(each.run, fn)
    return fn
