"""Yields futures as they end, and shows how many have."""

from __future__ import annotations

from concurrent import futures as standard
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mirai_executor._progress import Counter, bar_for, counted

from ._watching import ended_in_view

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from mirai_executor._maps._mirai_map import MiraiMap
    from mirai_executor._progress import Progress

T = TypeVar("T")
F = TypeVar("F", bound="Future[Any]")


@overload
def as_completed(
    fs: MiraiMap[T], timeout: float | None = None, *, progress: Progress = False
) -> Iterator[Future[T]]: ...
@overload
def as_completed(
    fs: Iterable[F], timeout: float | None = None, *, progress: Progress = False
) -> Iterator[F]: ...
def as_completed(
    fs: Any, timeout: float | None = None, *, progress: Progress = False
) -> Iterator[Any]:
    """Yield futures as they end, whatever their order; the standard library's, with progress.

    Safe from any thread; the iterator itself belongs to one thread at a time.

    Args:
        fs: The futures, from any executors, or a :class:`MiraiMap`. One that is there twice is
            yielded once.
        timeout: Seconds from now within which all of them must have ended; None for no limit.
        progress: How to show how many have ended: True, a label, a function that is called with
            how many have ended and how many there are, or an object with ``update()``. Bars also
            show how far running tasks have come, as these say by :func:`progress`. See
            :meth:`MiraiExecutor.map`.

    Returns:
        An iterator of futures that have ended.

    Raises:
        TypeError: ``progress`` cannot show progress.
        TimeoutError: Raised by the iterator when ``timeout`` has passed. The tasks go on.

    Example:
        >>> with MiraiExecutor(2) as executor:
        ...     futures = [executor.submit(pow, n, 2) for n in range(4)]
        ...     sorted(future.result() for future in as_completed(futures))
        [0, 1, 4, 9]
    """
    found: set[Any] = set(getattr(fs, "_futures", fs))
    bar = bar_for(progress, len(found))
    if bar is not None and bar.shows_parts:
        return ended_in_view(found, timeout, bar)
    ended: Iterator[Any] = standard.as_completed(found, timeout)
    return ended if bar is None else counted(ended, Counter(bar))
