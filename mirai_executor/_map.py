"""The chunks and the results of ``map``."""

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future  # a daemon calls what is here, too

__all__ = [
    "MapResults",
    "chunks",
    "flatten",
    "run_chunk",
    "run_items",
    "run_seeded_chunk",
    "run_seeded_items",
]

S = TypeVar("S")
T = TypeVar("T")


def run_chunk(fn: Callable[..., T], chunk: Iterable[tuple[Any, ...]]) -> list[T]:
    """Call a function for each tuple of arguments; one task of a ``map`` with chunks."""
    return [fn(*args) for args in chunk]


def run_items(fn: Callable[..., T], items: Iterable[Any]) -> list[T]:
    """The same for a ``map`` over one iterable."""
    return [fn(item) for item in items]


def run_seeded_chunk(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    """The same, where each call has random numbers of its own."""
    from ._random_streams import in_turn

    return run_chunk(fn, in_turn(chunk))


def run_seeded_items(fn: Callable[..., T], items: list[Any]) -> list[T]:
    """The same, for a ``map`` over one iterable."""
    from ._random_streams import in_turn

    return run_items(fn, in_turn(items))


def chunks(items: Iterable[S], size: int) -> Iterator[list[S]]:
    """Cut what a ``map`` goes over into lists of at most ``size``."""
    rest = iter(items)
    return iter(lambda: list(itertools.islice(rest, size)), [])


class MapResults(Iterator[T], Generic[T]):
    """Yields the results of a ``map`` in order; keeps no reference to those it has yielded.

    Args:
        submit_next: Submits one more call and returns its future, or None when there are none
            left. Held only as long as it is needed.
        first: How many calls to submit at once; None for all.
        timeout: Seconds from now in which every result has to be there.
    """

    def __init__(
        self,
        submit_next: Callable[[], "Future[T] | None"],
        first: int | None,
        timeout: float | None,
    ) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._futures: collections.deque[Future[T]] = collections.deque()
        self._submit_next: Callable[[], Future[T] | None] | None = submit_next
        self._was_looked_at = False
        while (first is None or len(self._futures) < first) and self._look_ahead():
            pass

    def __next__(self) -> T:
        self._was_looked_at = True
        # Before the wait: the next task is under way while this one is looked at.
        self._look_ahead()
        if not self._futures:
            raise StopIteration
        try:
            return self._result()
        except BaseException as error:
            self.close(interrupted=isinstance(error, KeyboardInterrupt))
            raise

    def close(self, *, interrupted: bool = False) -> None:
        """Cancel the tasks that have not started; the running ones go on, as in the standard.

        Args:
            interrupted: Whether a KeyboardInterrupt is the reason: then the running ones are
                stopped, too, if they were submitted so.
        """
        self._submit_next = None
        while self._futures:
            future = self._futures.pop()
            if interrupted and getattr(future, "_cancels_on_interrupt", False):
                future.cancel()
            else:
                getattr(future, "cancel_queued", future.cancel)()

    def __del__(self) -> None:
        # One that was never looked at is a way to submit, and forget: its tasks run.
        if self.__dict__.get("_was_looked_at"):
            self.close()

    def _look_ahead(self) -> bool:
        if self._submit_next is None:
            return False
        future = self._submit_next()
        if future is None:
            self._submit_next = None
            return False
        self._futures.append(future)
        return True

    def _result(self) -> T:
        future = self._futures[0]
        left = None if self._deadline is None else self._deadline - time.monotonic()
        try:
            result = future.result(left)
        except StopIteration as error:  # it would end the caller's loop, in silence
            raise RuntimeError("generator raised StopIteration") from error  # as PEP 479 has it
        finally:
            # A future that failed holds its exception, whose traceback holds this frame.
            del future
        self._futures.popleft()
        return result


def flatten(results: Iterator[list[T]]) -> Iterator[T]:
    """Yield the items of lists one by one; keeps no reference to those it has yielded."""
    for items in results:
        items.reverse()
        while items:
            yield items.pop()
