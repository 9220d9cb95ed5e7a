"""What looks like ``multiprocessing.Pool``, and has an executor's daemons for workers.

::

    apply, apply_async      ─► one task             ─► AsyncResult
    map, starmap, …_async   ─► a task for a chunk   ─► AsyncResult
    imap, imap_unordered    ─► some tasks ahead of who takes the results ─► Ordered, Unordered
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from itertools import chain
from typing import Any, Literal, NoReturn, Self, TypeVar

from mirai_executor._arguments import check_callable, check_count

from ._ends import in_its_place
from ._map import run_chunk, run_items
from ._pool_results import AsyncResult, OpenWork, Ordered, Results, Unordered

T = TypeVar("T")

_AHEAD = 16  # tasks for each daemon, of an iterable that does not say how long it is


class ExecutorPool:
    """The shape of ``multiprocessing.Pool`` on an executor's daemons; see ``as_pool``.

    Args:
        executor: Runs the tasks.
        size: How many daemons it has, as far as chunks go.
        submitter: Returns what submits one task of a map after the other: ``map_submitter``.
        owns_this_thread: Tells whether results are brought by the thread that asks.
    """

    def __init__(
        self,
        executor: Executor,
        size: Callable[[], int],
        submitter: Callable[..., Any],
        owns_this_thread: Callable[[], bool],
    ) -> None:
        self._executor = executor
        self._size = size
        self._submitter = submitter
        self._work = OpenWork(owns_this_thread)
        self._state: Literal["RUN", "CLOSE", "TERMINATE"] = "RUN"

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> T:
        """Call ``func(*args, **kwds)`` on a daemon, and return its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """Do so, but return at once."""
        self._check_running()
        try:
            future = self._executor.submit(func, *args, **(kwds or {}))
        except TypeError as error:
            future = in_its_place(self._executor, error)
        self._work.keep(future)
        return self._result([future], _first, callback, error_callback)

    def map(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[T]:
        """Return the results of ``func`` for each item; items travel in chunks."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """Do so, but return at once."""
        futures = self._submit_chunks("map_async", run_items, func, iterable, chunksize)
        return self._result(futures, _flat, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """Do as :meth:`map`, but each item is all arguments of a call."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """Do so, but return at once."""
        futures = self._submit_chunks("starmap_async", run_chunk, func, iterable, chunksize)
        return self._result(futures, _flat, callback, error_callback)

    def imap(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> Iterator[T]:
        """Return an iterator over the results, in order; with ``next(timeout)`` without chunks."""
        return self._imap("imap", Ordered, func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1
    ) -> Iterator[T]:
        """Return an iterator over the results, as they come."""
        return self._imap("imap_unordered", Unordered, func, iterable, chunksize)

    def close(self) -> None:
        """Take no more calls. Those that were made go on, and so does the executor."""
        if self._state == "RUN":
            self._state = "CLOSE"

    def terminate(self) -> None:
        """Cancel all that was submitted here, as ``future.cancel()`` does; no more than that."""
        self._state = "TERMINATE"
        self._work.cancel()

    def join(self) -> None:
        """Wait until all that was submitted here has ended, callbacks included.

        Raises:
            ValueError: Neither :meth:`close` nor :meth:`terminate` was called before.
            RuntimeError: This is a callback, on the thread that would have to end it.
        """
        if self._state == "RUN":
            raise ValueError("Pool is still running")
        self._work.wait()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.terminate()

    def __repr__(self) -> str:
        return f"<ExecutorPool state={self._state} pool_size={self._processes}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError(
            "pool objects cannot be passed between processes or pickled"  # as in the standard
        )

    @property
    def _processes(self) -> int:  # which programs look at
        return self._size()

    def _check_running(self) -> None:
        if self._state != "RUN":
            raise ValueError("Pool not running")

    def _submit_chunks(
        self,
        call: str,
        run: Callable[..., Any],
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
    ) -> list[Future[Any]]:
        self._check_running()
        check_callable(call, func)
        check_count("chunksize", chunksize, 1, optional=True)
        items = iterable if isinstance(iterable, Sequence) else list(iterable)
        if chunksize is None:  # as multiprocessing has it: four chunks for each worker
            chunksize = max(1, -(-len(items) // (4 * self._processes)))
        submit_next = self._submitter(func, items, chunksize, run)
        futures = []
        for future in iter(submit_next, None):
            self._work.keep(future)
            futures.append(future)
        return futures

    def _result(
        self,
        futures: Sequence[Future[Any]],
        combine: Callable[[list[Any]], T],
        *callbacks: Callable[[Any], object] | None,
    ) -> AsyncResult[T]:
        good, bad = callbacks
        result = AsyncResult(futures, combine, (good, bad), self._work)
        self._work.results[result] = None
        if result.ready():  # it may have been before it was in there
            self._work.results.pop(result, None)
        return result

    def _imap(
        self,
        call: str,
        kind: type[Results[Any]],
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> Iterator[T]:
        self._check_running()
        check_callable(call, func)
        check_count("chunksize", chunksize, 1)
        ahead = None if hasattr(iterable, "__len__") else _AHEAD * self._processes
        if chunksize == 1:
            return self._fed(kind(self._submitter(func, zip(iterable)), ahead, self._work))
        submit_next = self._submitter(func, iterable, chunksize, run_items)
        results = self._fed(kind(submit_next, ahead, self._work))
        return (item for items in results for item in items)

    def _fed(self, results: Results[T]) -> Results[T]:
        if results.is_hungry:
            self._work.feeds[results] = None
        return results


def _first(results: list[T]) -> T:
    return results[0]


def _flat(results: list[list[T]]) -> list[T]:
    return list(chain.from_iterable(results))
