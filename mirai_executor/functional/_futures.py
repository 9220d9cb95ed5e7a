"""Asks futures, and structures of them, what they have become."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Any, TypeVar, overload

from mirai_executor.errors import (
    DaemonLostError,
    LaunchError,
    MiraiInterrupt,
    TaskTimeoutError,
)
from mirai_executor.futures import MiraiFuture

__all__ = [
    "collect",
    "is_error_value",
    "is_mirai_error",
    "is_mirai_interrupt",
    "race",
    "stop_mirai",
    "unresolved",
]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

# How a task can end badly though its own code raised nothing.
_NOT_OF_THE_TASK = (
    CancelledError,
    DaemonLostError,
    LaunchError,
    MiraiInterrupt,
    TaskTimeoutError,
)


def unresolved(x: object) -> bool:
    """Tell whether a future, or any in a list, tuple or dict of them, has not ended. Never waits.

    Anything that is no future is resolved.
    """
    return any(not future.done() for future in _futures_in(x))


@overload
def collect(x: Future[T]) -> T: ...
@overload
def collect(x: list[Future[T]]) -> list[T]: ...
@overload
def collect(x: list[MiraiFuture[T]]) -> list[T]: ...
@overload
def collect(x: dict[K, Future[T]]) -> dict[K, T]: ...
@overload
def collect(x: dict[K, MiraiFuture[T]]) -> dict[K, T]: ...
@overload
def collect(x: Any) -> Any: ...
def collect(x: Any) -> Any:
    """Wait for futures, and return their results in the structure in which the futures came.

    Args:
        x: A future, or a list, tuple or dict of futures, nested as you like; an iterator gives a
            list. Anything else is its own result.

    Raises:
        BaseException: That of the first future, in their order, that has failed. The others go
            on.
    """
    return _replaced(list(x) if isinstance(x, Iterator) else x, Future.result, lambda value: value)


def race(futures: Iterable[Future[Any]]) -> int:
    """Wait until a future has ended, and return its index: the lowest, if several have.

    Raises:
        ValueError: There are none.
    """
    runners = list(futures)
    if not runners:
        raise ValueError("race() takes at least one future")
    if not any(future.done() for future in runners):
        # Not else: to wait(), a standard future that was cancelled has not ended until it is told.
        wait(runners, return_when=FIRST_COMPLETED)
    return next(index for index, future in enumerate(runners) if future.done())


def stop_mirai(x: Any) -> Any:
    """Cancel a future, or all in a list, tuple or dict of them, and stop what runs. Never waits.

    They are cancelled from last to first, so that no task of theirs starts because an earlier
    one has made room.

    Returns:
        For each, in the same structure, whether it is cancelled: False where it had ended
        before, or is no future.
    """
    cancelled = {future: future.cancel() for future in reversed(list(_futures_in(x)))}
    return _replaced(x, cancelled.__getitem__, lambda value: False)


def is_error_value(x: object) -> bool:
    """Tell whether a future has ended in an error, cancelled ones included, or ``x`` is an error.

    Never waits; a future that has not ended is no error.
    """
    return _error_of(x) is not None


def is_mirai_error(x: object) -> bool:
    """Tell whether a future has ended in an error that the task itself raised, or ``x`` is one.

    Timeouts, interrupts, lost daemons and cancelled tasks are none. Never waits.
    """
    error = _error_of(x)
    return error is not None and not isinstance(error, _NOT_OF_THE_TASK)


def is_mirai_interrupt(x: object) -> bool:
    """Tell whether a future has ended in a ``MiraiInterrupt``, or ``x`` is one. Never waits."""
    return isinstance(_error_of(x), MiraiInterrupt)


def _error_of(x: object) -> BaseException | None:
    if not isinstance(x, Future):
        return x if isinstance(x, BaseException) else None
    if not x.done():
        return None
    return CancelledError() if x.cancelled() else x.exception()


def _futures_in(x: object) -> Iterator[Future[Any]]:
    """Yield the futures in a structure, in their order."""
    if isinstance(x, Future):
        yield x
    elif isinstance(x, dict):
        for value in x.values():
            yield from _futures_in(value)
    elif isinstance(x, (list, tuple)):
        for item in x:
            yield from _futures_in(item)


def _replaced(
    x: Any, of_future: Callable[[Future[Any]], Any], of_value: Callable[[Any], Any]
) -> Any:
    """Return a copy of a structure with something else in the place of its leaves."""
    if isinstance(x, Future):
        return of_future(x)
    if isinstance(x, dict):
        return {key: _replaced(value, of_future, of_value) for key, value in x.items()}
    if not isinstance(x, (list, tuple)):
        return of_value(x)
    items = [_replaced(item, of_future, of_value) for item in x]
    if isinstance(x, list):
        return items
    return type(x)(*items) if hasattr(x, "_fields") else tuple(items)  # a named tuple stays one
