"""What ``mirai_map`` returns: the futures of all its elements, which are collected as one.

::

    elements ── send ──► futures ── end, in any order ──► on_result, on_error, on_progress
       ▲                    │
       └── retry_failed ────┴─► collect, iterate, await: values by place, or by key
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from sys import modules
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from mirai_executor._arguments import check_flags, check_seconds
from mirai_executor._host import TRACES
from mirai_executor._progress import Counter, bar_for, counted
from mirai_executor._typing import NamedTuple

from ._chunks import sender_for
from ._elements import Elements, check_call, elements_of, function_of
from ._ends import Futures, error_of, flattened
from ._late_futures import LateFutures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from mirai_executor._progress import Progress
    from mirai_executor._submitting import Submitter


class ElementSender(Protocol):
    """Sends elements."""

    def send(self, values: Sequence[Any]) -> Sequence[Any]:
        """Submit a call with each of them; return their futures."""

    def cancel_all(self) -> None:
        """Cancel what it has made of them, before their futures are cancelled."""


T = TypeVar("T")


class MapListeners(NamedTuple):
    """What is called when elements end; None for what nobody wants to hear."""

    on_result: Callable[[Any, Any], object] | None = None
    on_error: Callable[[Any, BaseException], object] | None = None
    on_progress: Callable[[int, int], object] | None = None

    def check(self) -> None:
        """Require functions.

        Raises:
            TypeError: One of them cannot be called.
        """
        for name, listener in zip(self._fields, self, strict=True):
            if not (listener is None or callable(listener)):
                raise TypeError(f"{name} must be a function or None, not {listener!r:.60}")


def start_map(
    face: Submitter,
    xs: Any,
    fn: Callable[..., T],
    fixed: tuple[Iterable[Any], Mapping[str, Any] | None],
    timeout: float | None,
    listeners: MapListeners,
) -> MiraiMap[T]:
    """Submit a call for each element, and return their map; what is wrong is raised at once."""
    args, kwargs = fixed
    check_call(fn, args, kwargs)
    check_seconds("timeout", timeout, optional=True)
    listeners.check()
    elements = elements_of(xs)
    call = function_of(fn, elements, tuple(args), dict(kwargs or {}))
    if timeout is not None:
        face = face.with_options(run_timeout=timeout)

    def start() -> MiraiMap[T]:
        return MiraiMap(elements, sender_for(face, fn, call), listeners)

    if TRACES not in modules:
        return start()
    from mirai_executor._around._tracing import traced_map

    return traced_map(face._root(), fn, start)


class MiraiMap(Generic[T]):
    """The elements of a :func:`mirai_map`, which run, are collected and are cancelled as one.

    Iterating yields the values in the order of the elements, each as soon as it is there, and
    raises the error of the first one, in that order, that has failed; so does ``async for``.
    ``await`` returns what :meth:`collect` does; cancelling it cancels the map. All methods are
    safe from any thread.

    An exception of an element has a note that says of which, and is otherwise the task's own.

    Example:
        >>> with MiraiExecutor(2) as executor:
        ...     squares = executor.mirai_map([1, 2, 3], pow, args=(2,))
        ...     len(squares), list(squares), squares.collect()
        (3, [1, 4, 9], [1, 4, 9])
    """

    def __init__(self, elements: Elements, sender: ElementSender, listeners: MapListeners) -> None:
        self._elements = elements
        self._names = elements.names()
        self._sender = sender
        self._listeners = listeners
        self._ended = itertools.count(1)
        sent: Any = sender.send(elements.values)
        are_ready = isinstance(sent, (Futures, LateFutures))
        self._futures: Futures[T] | LateFutures = sent if are_ready else Futures(sent)
        self._listen(self._places())

    # Questions

    def __len__(self) -> int:
        return len(self._futures)

    @property
    def futures(self) -> list[Future[T]] | dict[Any, Future[T]]:
        """The future of each element, in a dict by their keys if they have some, else in a list.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     squares = executor.mirai_map({"a": 2, "b": 3}, pow, args=(2,))
            ...     squares.futures["b"].result()
            9
        """
        shaped: list[Future[T]] | dict[Any, Future[T]] = self._shaped(list(self._futures))
        return shaped

    def done(self) -> bool:
        """Tell whether all elements have ended, in whatever way. Never waits.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     squares = executor.mirai_map([1, 2], pow, args=(2,))
            >>> squares.done()
            True
        """
        return all(map(self._futures.is_done, self._places()))

    def failed(self) -> dict[Any, Any]:
        """Return the elements that have failed or been cancelled so far. Never waits.

        Returns:
            A dict from the key of each, or from its place if there are no keys, to the element
            itself; a row of a frame is a dict. What failed can run again by
            :meth:`retry_failed`, or as a map of its own, with another function or more time:
            ``mirai_map(squares.failed(), fn)`` has the same keys.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     numbers = executor.mirai_map(["1", "one"], int)
            ...     numbers.collect(stop=False)[0], numbers.failed()
            (1, {1: 'one'})
        """
        places = self._failed_places()
        return {self._names[place]: self._elements.values[place] for place in places}

    # Collecting

    def collect(self, *, flat: bool = False, progress: Progress = False, stop: bool = True) -> Any:
        """Wait for all elements, and return their values.

        Args:
            flat: Whether values that are lists, tuples, ranges, sets or arrays are put one behind
                the other, by one level, in one list; other values are single items of it.
            progress: How to show how many have ended: True, a label, a function that is called
                with how many have ended and how many there are, or an object with ``update()``.
                See :meth:`MiraiExecutor.map`.
            stop: True raises the first error, that is, the earliest, as soon as it occurs, and
                cancels all other elements, running ones too; if several have failed by then, the
                one that comes first in the order of the elements. A cancelled element does not end
                the others: its CancelledError is raised once all have ended, if no element has
                failed. False returns each error in the place of its value.

        Returns:
            A list in the order of the elements; if they have keys, and not with ``flat``, a dict.

        Raises:
            BaseException: The first error, with a note that says to which element it belongs.
            CancelledError: An element was cancelled, and none has failed.
            TypeError: ``progress`` cannot show progress, or ``flat`` or ``stop`` is not a boolean.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.mirai_map({"a": 2, "b": 3}, range).collect(flat=True)
            [0, 1, 0, 1, 2]
        """
        check_flags(flat=flat, stop=stop)
        try:
            failed = self._wait(progress, stop=stop)
        except KeyboardInterrupt:
            self._cancel_interrupted()
            raise
        if stop and failed is not None:
            self.cancel()
            self._value(failed)
        found = self._futures.values()
        if found is None:
            found = self._values() if stop else [self._outcome(at) for at in self._places()]
        return flattened(found) if flat else self._shaped(found)

    def _values(self) -> list[T]:
        """Return the values of all, which have ended, or raise the error of one."""
        with suppress(CancelledError):
            return [self._value(place) for place in self._places()]
        return [self._value(self._first_failure())]  # another may say why; this raises

    def _first_failure(self) -> int:
        """Return the place of the first that has failed, or else of one that was cancelled."""
        places = self._failed_places()
        return next((place for place in places if self._has_failed(place)), places[0])

    def _has_failed(self, place: int) -> bool:
        """Tell whether one that has ended did so in an error, and was not just cancelled."""
        error = self._futures.error_of(place)
        return error is not None and not isinstance(error, CancelledError)

    def _wait(self, progress: Progress, *, stop: bool) -> int | None:
        """Wait until all have ended, or one has failed; return its place if others have not."""
        if progress is not False:
            for place in self._ended_in_view(progress):
                if stop and self._has_failed(place):
                    return place
            return None
        return None if self._futures.wait(stop=stop) else self._first_failure()

    def _ended_in_view(self, progress: Progress) -> Iterator[int]:
        """Yield the places of those that have ended, as they end, and show how many have."""
        bar = bar_for(progress, len(self))
        if bar is None:
            return self._futures.ended()
        if not bar.shows_parts:
            return counted(self._futures.ended(), Counter(bar))
        from mirai_executor._observing._watching import (
            ended_in_view,  # only where tasks may move a bar
        )

        places = {future: place for place, future in enumerate(self._futures)}
        return (places[future] for future in ended_in_view(set(places), None, bar))

    def _cancel_interrupted(self) -> None:
        if self._futures.cancels_on_interrupt:
            self.cancel()

    def _places(self) -> range:
        return range(len(self._futures))

    def __iter__(self) -> Iterator[T]:
        for place in self._places():
            yield self._value(place)

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def __aiter__(self) -> AsyncIterator[T]:
        import asyncio

        for place in self._places():
            if self._futures.has_value(place):
                yield self._value(place)
                continue
            try:
                value = await asyncio.wrap_future(self._futures[place])
            except Exception as error:
                self._noted(error, place)
                raise
            yield value

    async def _awaited(self) -> Any:
        try:
            await self._futures.waited()
        except BaseException:
            self.cancel()
            raise
        return self.collect()  # which finds all it needs

    # Steering

    def cancel(self) -> int:
        """Cancel all elements that have not ended, and stop those that run. Never waits.

        Returns:
            How many are cancelled now.

        Example:
            >>> import time
            >>> with MiraiExecutor(1) as executor:
            ...     naps = executor.mirai_map([60, 60], time.sleep)
            ...     naps.cancel(), naps.done()
            (2, True)
        """
        self._sender.cancel_all()
        return self._futures.cancel()

    def retry_failed(self) -> MiraiMap[T]:
        """Run the elements again that have failed or been cancelled so far. Never waits.

        Their new futures take the place of the old ones; values that are there stay.

        Returns:
            This map itself.

        Raises:
            RuntimeError: The executor has been shut down. Nothing has changed.

        Example:
            >>> import os
            >>> with MiraiExecutor(1) as executor:
            ...     values = executor.mirai_map(["ANSWER"], lambda name: os.environ[name])
            ...     failed = values.collect(stop=False)
            ...     done = executor.everywhere("import os; os.environ['ANSWER'] = '42'")
            ...     values.retry_failed().collect()
            ['42']
        """
        places = self._failed_places()
        again = self._sender.send([self._elements.values[place] for place in places])
        self._ended = itertools.count(1 + len(self._futures) - len(places))
        if not isinstance(self._futures, Futures):
            self._futures = Futures(self._futures)
        for place, future in zip(places, again, strict=True):
            self._futures[place] = future
        self._listen(places)
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a map belongs to the process that has submitted its elements; send what its "
            "collect() returns instead"
        )

    def __repr__(self) -> str:
        done = sum(map(self._futures.is_done, self._places()))
        return f"<MiraiMap {done} of {len(self._futures)} done>"

    # One element

    def _listen(self, places: Sequence[int]) -> None:
        if self._listeners != MapListeners():
            for place in places:
                tell = functools.partial(self._tell, place)
                self._futures[place].add_done_callback(tell)

    def _tell(self, place: int, future: Future[T]) -> None:
        on_result, on_error, on_progress = self._listeners
        name = self._names[place]
        try:
            if on_result is None and on_error is None:
                return
            error = error_of(future)
            if error is None and on_result is not None:
                on_result(name, future.result())
            elif error is not None and on_error is not None:
                on_error(name, self._noted(error, place))
        finally:
            if on_progress is not None:
                on_progress(next(self._ended), len(self._futures))

    def _failed_places(self) -> list[int]:
        futures = self._futures
        done = filter(futures.is_done, self._places())
        return [place for place in done if futures.error_of(place) is not None]

    def _outcome(self, place: int) -> Any:
        """Return the value of an element that has ended, or its error."""
        error = self._futures.error_of(place)
        return self._futures.value(place) if error is None else self._noted(error, place)

    def _value(self, place: int) -> T:
        try:
            return self._futures.value(place)
        except Exception as error:
            self._noted(error, place)
            raise

    def _noted(self, error: BaseException, place: int) -> BaseException:
        key = "" if self._elements.keys is None else f" (key {self._names[place]!r:.200})"
        note = f"This is of element {place}{key} of mirai_map()."
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        return error

    def _shaped(self, found: list[Any]) -> Any:
        keys = self._elements.keys
        return found if keys is None else dict(zip(keys, found, strict=True))
