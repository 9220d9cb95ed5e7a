"""The chunks and the results of ``map``."""

import collections
import contextlib
import itertools
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mirai_executor._waiting import Deadline

if TYPE_CHECKING:
    from concurrent.futures import Future  # a daemon calls what is here, too

    from mirai_executor._mapping import MappingExecutor
    from mirai_executor._observing._watching import Watch
    from mirai_executor._progress import Counts, Progress

# Whether a map goes on after the error of a call, as the standard library's does since then.
GOES_ON = sys.version_info >= (3, 16)

S = TypeVar("S")
T = TypeVar("T")

NOTHING_BESIDE: Iterator[dict[str, Any]] = itertools.repeat({})


def run_chunk(
    fn: Callable[..., Any], chunk: Iterable[tuple[Any, ...]]
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    """Call a function for each tuple of arguments; one task of a ``map`` with chunks."""
    rest = iter(chunk)
    results = [fn(*args) for args in itertools.islice(rest, 1)]
    if results and type(results[0]) is CoroutineType:
        return awaited_in_turn(results[0], (fn(*args) for args in rest))
    results += [fn(*args) for args in rest]
    return results


def run_items(
    fn: Callable[..., Any], items: Iterable[Any]
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    """The same for a ``map`` over one iterable."""
    rest = iter(items)
    results = [fn(item) for item in itertools.islice(rest, 1)]
    if results and type(results[0]) is CoroutineType:
        return awaited_in_turn(results[0], (fn(item) for item in rest))
    results += [fn(item) for item in rest]
    return results


async def awaited_in_turn(first: Any, rest: Iterator[Any]) -> list[Any]:
    """Return what coroutines return, none of which is made before the one in front has ended."""
    value = await first
    others = [await result if type(result) is CoroutineType else result for result in rest]
    return [value, *others]


def run_seeded_chunk(
    fn: Callable[..., Any], chunk: list[tuple[Any, ...]]
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    """The same, where each call has random numbers of its own."""
    from mirai_executor._random_streams import in_turn

    return run_chunk(fn, in_turn(chunk))


def run_seeded_items(
    fn: Callable[..., Any], items: list[Any]
) -> list[Any] | Coroutine[Any, Any, list[Any]]:
    """The same, for a ``map`` over one iterable."""
    from mirai_executor._random_streams import in_turn

    return run_items(fn, in_turn(items))


def chunks(items: Iterable[S], size: int) -> Iterator[list[S]]:
    """Cut what a ``map`` goes over into lists of at most ``size``."""
    rest = iter(items)
    return iter(lambda: list(itertools.islice(rest, size)), [])


_SEEDED = {run_chunk: run_seeded_chunk, run_items: run_seeded_items}


def map_submitter(
    face: "MappingExecutor",
    fn: Callable[..., Any],
    items: Iterable[Any],
    chunksize: int = 1,
    run: Callable[..., Any] | None = None,
) -> "Callable[[], Future[Any] | None]":
    """Return what submits one task of a map after the other; with a seed, with its numbers.

    Args:
        face: The executor, or a view of one.
        fn: The function.
        items: What it goes over.
        chunksize: How many items share a task.
        run: Calls the function with each item of a chunk; None if there are no chunks, and each
            item is the arguments of a call.
    """
    streams = face._root()._streams
    beside = NOTHING_BESIDE if streams is None else streams.of_map(chunksize)
    if run is None:
        return submitter(face, fn, iter(items), beside)
    run = run if streams is None else _SEEDED[run]
    return submitter(face, partial(run, fn), zip(chunks(items, chunksize)), beside)


def submitter(
    face: "MappingExecutor",
    fn: Callable[..., T],
    calls: Iterator[tuple[Any, ...]],
    beside: Iterator[dict[str, Any]] = NOTHING_BESIDE,
) -> "Callable[[], Future[T] | None]":
    """Return what submits one call after the other by an executor, or a view of one.

    Args:
        face: The executor, or the view.
        fn: The function.
        calls: The arguments of each call.
        beside: What goes along with each: its random numbers, if there is a seed.
    """
    # Weakly: a map that is half consumed must not keep a dropped executor alive. A view is made
    # again each time: `executor.with_options(...).map(...)` drops it at once.
    root = weakref.ref(face._root())
    options = None if root() is face else face._options
    fn = face._host.take(fn)
    view: Any = type(face)

    def submit_next() -> "Future[T] | None":
        executor = root()
        if executor is None or (args := next(calls, None)) is None:
            return None
        face: Any = executor if options is None else view(executor, options)
        try:
            # By its public name: tqdm replaces it on the instance.
            return face.submit(fn, *args, **next(beside))  # type: ignore[no-any-return]
        except TypeError as error:
            from ._ends import in_its_place  # for the few that are futures

            return in_its_place(face, error)

    return submit_next


class MapResults(Iterator[T], Generic[T]):
    """Yields the results of a ``map`` in order; keeps no reference to those it has yielded.

    Threads that share it get each result once: whoever has waited for one, takes it, or goes on to
    the next one if another thread was faster. But if it looks ahead only so far, it submits as it
    is read, and belongs to one thread at a time, as the iterables do.

    Args:
        submit_next: Submits one more call and returns its future, or None when there are none
            left. Held only as long as it is needed.
        first: How many calls to submit at once; None for all.
        timeout: Seconds from now in which every result has to be there.
    """

    _watch: "Watch | None" = None

    def __init__(
        self,
        submit_next: Callable[[], "Future[T] | None"],
        first: int | None,
        timeout: float | None,
    ) -> None:
        self._deadline = None if timeout is None else Deadline(timeout)
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
        if GOES_ON:
            return self._result_or_error()
        try:
            return self._result()
        except StopIteration:  # others may hold what they have just submitted
            raise
        except BaseException as error:
            self.close(interrupted=isinstance(error, KeyboardInterrupt))
            raise

    def be_watched(self, watch: "Watch") -> None:
        """Have a bar show how far the tasks are, while they are waited for."""
        self._watch = watch
        for future in self._futures:
            watch.follow(future)

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
        if self._watch is not None:
            self._watch.follow(future)
        return True

    def _first(self) -> "Future[T]":
        """Return the first future, after a bar has moved until it has ended."""
        while True:
            try:
                future = self._futures[0]
            except IndexError:  # other threads have taken all since this one has looked
                if not self._look_ahead():
                    raise StopIteration from None
                continue
            if self._watch is not None and not future.done():
                future.add_done_callback(self._watch.wake)
                self._watch.wait(future.done, self._deadline)  # if in vain, others say so
            return future

    def _takes(self, future: "Future[T]") -> bool:
        """Take the first future out; False if another thread was faster."""
        if self._watch is not None:
            self._watch.forget(future)
        try:
            self._futures.remove(future)
        except ValueError:
            return False
        return True

    def _left(self) -> float | None:
        return None if self._deadline is None else self._deadline.left

    def _result_or_error(self) -> T:
        """Take the next result, or raise the error of its call and go on behind it.

        What is not an error of a call, such as that too much time has passed, ends the map.
        """
        while True:
            try:
                future = self._first()
                with contextlib.suppress(CancelledError):  # that is an end like others
                    future.exception(self._left())  # a TimeoutError here is not the call's
            except StopIteration:
                raise
            except BaseException as error:
                self.close(interrupted=isinstance(error, KeyboardInterrupt))
                raise
            try:
                if self._takes(future):
                    return future.result()
            except StopIteration as error:
                raise RuntimeError("generator raised StopIteration") from error  # as below
            finally:
                del future

    def _result(self) -> T:
        while True:
            future = self._first()
            try:
                result = future.result(self._left())
            except StopIteration as error:  # it would end the caller's loop, in silence
                if self._takes(future):
                    raise RuntimeError("generator raised StopIteration") from error  # as PEP 479
            except BaseException as error:
                if not self._is_of_another(future, error):
                    raise
            else:
                if self._takes(future):
                    return result
            finally:
                # A future that failed holds its exception, whose traceback holds this frame.
                del future

    def _is_of_another(self, future: "Future[T]", error: BaseException) -> bool:
        """Tell whether another thread has taken a future, and with it the error that it has."""
        is_its_own = future.done() and not isinstance(error, KeyboardInterrupt)
        return is_its_own and not self._takes(future)


def flatten(results: Iterator[list[T]]) -> Iterator[T]:
    """Yield the items of lists one by one; keeps no reference to those it has yielded."""
    for items in results:
        items.reverse()
        while items:
            yield items.pop()


def total_for(progress: "Progress", iterables: tuple[Iterable[Any], ...]) -> int | None:
    """Return how many results a ``map`` over these will have; None if nobody knows.

    Raises:
        TypeError: What was asked for cannot show progress.
    """
    from mirai_executor._progress import check_progress

    check_progress(progress)
    if all(hasattr(type(iterable), "__len__") for iterable in iterables):
        return min(map(len, iterables), default=0)  # type: ignore[arg-type]  # they have one
    return None


def in_view(
    items: Iterator[T],
    tasks: MapResults[Any],
    progress: "Progress",
    total: int | None,
    *,
    counts_tasks: bool,
) -> Iterator[T]:
    """Yield the results of a ``map``; they are counted by whatever shows progress.

    Args:
        items: Its results.
        tasks: Those of its tasks.
        progress: What the caller has asked for.
        total: How many results there will be; None if nobody knows.
        counts_tasks: Whether each task has one of them.
    """
    from mirai_executor._progress import Counter, bar_for, counted

    bar = bar_for(progress, total)  # not before: what map raises leaves none
    if bar is None:
        return items
    counter: Counts = Counter(bar)
    if bar.shows_parts:
        from mirai_executor._observing._watching import Watch

        counter = watch = Watch(bar, counts_tasks=counts_tasks)
        tasks.be_watched(watch)
    if GOES_ON:
        from ._map_on import Watched

        return Watched(items, counter)
    return counted(items, counter)
