"""Answers questions about futures, alone or in lists, tuples and dicts."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Set, ValuesView
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mirai_executor._observing._completed import as_completed
from mirai_executor.errors import DaemonLostError, LaunchError, MiraiInterrupt, TaskTimeoutError
from mirai_executor.futures import MiraiFuture

if TYPE_CHECKING:
    from mirai_executor._maps._mirai_map import MiraiMap
    from mirai_executor._progress import Progress

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

# How a task can end badly though its own code raised nothing.
_NOT_OF_THE_TASK = (
    CancelledError,
    DaemonLostError,
    LaunchError,
    TaskTimeoutError,
)


def unresolved(x: object) -> bool:
    """Tell whether a future, or any in a list, tuple or dict, has not finished yet. Never waits.

    The same holds for a set of futures, a view of a dict, and what :func:`mirai_map` returns.
    Objects that are not futures count as finished, iterators among them. Safe from any thread.

    Example:
        >>> with MiraiExecutor(2) as executor:
        ...     futures = [executor.submit(abs, n) for n in (-1, -2)]
        >>> unresolved(futures)
        False
    """
    return any(not future.done() for future in _futures_in(_places_of(x)))


@overload
def collect(x: Future[T], *, progress: Progress = False) -> T: ...
@overload
def collect(x: list[Future[T]], *, progress: Progress = False) -> list[T]: ...
@overload
def collect(x: list[MiraiFuture[T]], *, progress: Progress = False) -> list[T]: ...
@overload
def collect(x: dict[K, Future[T]], *, progress: Progress = False) -> dict[K, T]: ...
@overload
def collect(x: dict[K, MiraiFuture[T]], *, progress: Progress = False) -> dict[K, T]: ...
@overload
def collect(x: Any, *, progress: Progress = False) -> Any: ...
def collect(x: Any, *, progress: Progress = False) -> Any:
    """Wait for futures, and return their results in the structure that holds the futures.

    Args:
        x: A future, or a list, tuple or dict of futures, nested to any depth. An iterator,
            a set or a view of a dict gives a list, and what :func:`mirai_map` returns a list or
            dict of its values. Anything else is returned as it is.
        progress: How to show how many have ended: True, a label, a function that is called with
            how many have ended and how many there are, or an object with ``update()``. See
            :meth:`MiraiExecutor.map`.

    Returns:
        A copy of the structure, with results in place of futures.

    Raises:
        BaseException: The exception of the first future, in order, that failed. The others keep
            running.
        TypeError: ``progress`` cannot show progress.

    Example:
        >>> with MiraiExecutor(2) as executor:
        ...     collect({n: executor.submit(pow, n, 2) for n in (2, 3)})
        {2: 4, 3: 9}
    """
    found = _listed(x)
    try:
        if progress is not False:
            _watch(found, progress)
        return _replaced(found, Future.result, lambda value: value)
    except KeyboardInterrupt:
        for future in reversed(list(_futures_in(found))):  # queued ones first: none is to start
            if getattr(future, "_cancels_on_interrupt", False):
                future.cancel()
        raise


def _watch(found: object, progress: Progress) -> None:
    """Show how many futures have ended, until all have, or one has failed."""
    for future in as_completed(_futures_in(found), progress=progress):
        if _error_of(future) is not None:
            return


def race(futures: Iterable[Future[Any]] | MiraiMap[Any]) -> int:
    """Wait until a future has finished, and return its index: the lowest, if several have.

    Args:
        futures: The futures to wait for, from any executors, or a :func:`mirai_map`.

    Returns:
        The position in ``futures``, counted from 0. The future may have failed or been cancelled.

    Raises:
        TypeError: One of them is not a future.
        ValueError: There are none.

    Example:
        >>> import time
        >>> with MiraiExecutor(2) as executor:
        ...     futures = [executor.submit(time.sleep, s) for s in (60, 0.01)]
        ...     race(futures), futures[0].cancel()
        (1, True)
    """
    if not isinstance(futures, Iterable):
        raise TypeError(f"race() takes an iterable of futures, not {futures!r:.60}")
    runners = list(_futures_in(futures) if _is_mirai_map(futures) else futures)
    for one in runners:
        if not isinstance(one, Future):
            raise TypeError(f"race() takes an iterable of futures, not of {one!r:.60}")
    if not runners:
        raise ValueError("race() needs at least one future")
    if not any(future.done() for future in runners):
        # Not else: to wait(), a standard future that was cancelled has not ended until it is told.
        wait(runners, return_when=FIRST_COMPLETED)
    return next(index for index, future in enumerate(runners) if future.done())


def stop_mirai(x: Any) -> Any:
    """Cancel a future, or all in a list, tuple or dict, and stop running work. Never waits.

    Futures are cancelled from last to first, so that stopping one does not start another.

    Args:
        x: A future, or a structure of futures, nested to any depth, as for :func:`collect`.

    Returns:
        The same structure with a bool in place of each future, True if the future is now
        cancelled. False stands for a future that had already finished, and for anything that is
        not a future.

    Example:
        >>> import time
        >>> with MiraiExecutor(2) as executor:
        ...     futures = {s: executor.submit(time.sleep, s) for s in (60, 61)}
        ...     stop_mirai(futures)
        {60: True, 61: True}
    """
    found = _places_of(x)
    cancelled = {future: future.cancel() for future in reversed(list(_futures_in(found)))}
    return _replaced(found, cancelled.__getitem__, lambda value: False)


def is_error_value(x: object) -> bool:
    """Tell whether a future has failed or been cancelled, or ``x`` is an exception. Never waits.

    False for a future that has not finished.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.submit(int, "one")
        >>> is_error_value(future), is_error_value(1)
        (True, False)
    """
    return _error_of(x) is not None


def is_mirai_error(x: object) -> bool:
    """Tell whether the task of a future raised an exception, or ``x`` is one. Never waits.

    Timeouts, interrupts, lost daemons and cancelled tasks do not count: the task did not raise
    them. But an error of such a class counts if the task itself raised it, as it may where it has
    an executor of its own.

    Example:
        >>> import os
        >>> with MiraiExecutor(1) as executor:
        ...     raised, crashed = executor.submit(int, "one"), executor.submit(os._exit, 1)
        >>> is_mirai_error(raised), is_mirai_error(crashed)
        (True, False)
    """
    error = _error_of(x)
    if error is None or isinstance(error, MiraiInterrupt):
        return False
    raised = isinstance(x, MiraiFuture) and x._has_raised  # noqa: SLF001 - it is one of ours
    return raised or not isinstance(error, _NOT_OF_THE_TASK)


def is_mirai_interrupt(x: object) -> bool:
    """Tell whether a future has failed with ``MiraiInterrupt``, or ``x`` is one. Never waits.

    Example:
        >>> def interrupt():
        ...     raise KeyboardInterrupt
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.submit(interrupt)
        >>> is_mirai_interrupt(future)
        True
    """
    return isinstance(_error_of(x), MiraiInterrupt)


def _error_of(x: object) -> BaseException | None:
    if not isinstance(x, Future):
        return x if isinstance(x, BaseException) else None
    if not x.done():
        return None
    return CancelledError() if x.cancelled() else x.exception()


def _listed(x: Any) -> Any:
    """Return a list of what can be gone over, but has no places that results could take."""
    return list(x) if isinstance(x, Iterator) else _places_of(x)


def _places_of(x: Any) -> Any:
    """Do the same without going over an iterator, which might wait for results."""
    return list(x) if isinstance(x, (Set, ValuesView, deque)) else x


def _futures_in(x: object) -> Iterator[Future[Any]]:
    """Yield the futures in a structure, in their order."""
    if isinstance(x, Future):
        yield x
    elif _is_mirai_map(x):
        yield from x._futures  # type: ignore[attr-defined]  # noqa: SLF001 - so it has some
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
    if _is_mirai_map(x):
        x = x.futures
    if isinstance(x, dict):
        return {key: _replaced(value, of_future, of_value) for key, value in x.items()}
    if not isinstance(x, (list, tuple)):
        return of_value(x)
    items = [_replaced(item, of_future, of_value) for item in x]
    if isinstance(x, list):
        return items
    return type(x)(*items) if hasattr(x, "_fields") else tuple(items)  # a named tuple stays one


def _is_mirai_map(x: object) -> bool:
    # There is none before it is imported.
    module = sys.modules.get("mirai_executor._maps._mirai_map")
    return module is not None and isinstance(x, module.MiraiMap)
