"""Maps a function over what comes in time: pulls no more of it than daemons are to be given."""

from __future__ import annotations

import asyncio
import collections
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from mirai_executor._observing._awaiting import result_of, running_loop

from ._ends import in_its_place

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from concurrent.futures import Future

    from mirai_executor._submitting import Submitter

T = TypeVar("T")

_END = object()


def comes_in_time(argument: object, fn: Callable[..., Any]) -> bool:
    """Tell whether a function is to be called with each item of an argument, not with that."""
    return hasattr(type(argument), "__aiter__") and not (
        inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn)
    )


def submitter_of(face: Submitter, fn: Callable[..., T]) -> Callable[[tuple[Any, ...]], Future[T]]:
    """Return what submits a call of a function with some arguments."""

    def submit(arguments: tuple[Any, ...]) -> Future[T]:
        try:
            return face.submit(fn, *arguments)
        except TypeError as error:
            return in_its_place(face, error)

    return submit


async def stream_map(
    submit: Callable[[tuple[Any, ...]], Future[T]], sources: tuple[Any, ...], most: int
) -> AsyncGenerator[T, None]:
    """Yield results in the order of the arguments; whoever stops to take them, stops the tasks.

    Args:
        submit: Submits a call with some arguments.
        sources: Iterables, asynchronous or not, with the arguments.
        most: How many tasks may be ahead of the results that have been taken.
    """
    running_loop()
    arguments = _Arguments(sources)
    tasks: collections.deque[asyncio.Task[T]] = collections.deque()  # each waits for a future
    pulling: asyncio.Task[Any] | None = None
    try:
        while True:
            if pulling is None and len(tasks) < most and not arguments.are_over:
                pulling = asyncio.ensure_future(arguments.pull())
            waits_for = [task for task in (pulling, *[*tasks][:1]) if task is not None]
            if not waits_for:
                return
            await asyncio.wait(waits_for, return_when=asyncio.FIRST_COMPLETED)
            if pulling is not None and pulling.done():
                found, pulling = pulling.result(), None
                if found is not _END:
                    tasks.append(asyncio.ensure_future(result_of(submit(found))))
            elif tasks and tasks[0].done():
                yield tasks.popleft().result()
    finally:
        rest = [task for task in (pulling, *tasks) if task is not None]
        for task in reversed(rest):  # queued ones first: none is to start
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await arguments.close()


class _Arguments:
    """Pulls the arguments of one call after the other; the shortest source ends it."""

    def __init__(self, sources: tuple[Any, ...]) -> None:
        self._iterators = [
            aiter(source) if hasattr(type(source), "__aiter__") else iter(source)
            for source in sources
        ]
        self.are_over = False

    async def pull(self) -> Any:
        """Return the next ones, as a tuple; _END if there are none."""
        try:
            return tuple([await _next_of(iterator) for iterator in self._iterators])
        except (StopAsyncIteration, _Over):
            self.are_over = True
            return _END

    async def close(self) -> None:
        """Let generators leave their blocks, if they are asynchronous: nobody else would."""
        for iterator in self._iterators:
            if (aclose := getattr(iterator, "aclose", None)) is not None:
                await aclose()


class _Over(Exception):  # noqa: N818 - no error: a coroutine cannot raise StopIteration
    """An iterator has come to its end."""


async def _next_of(iterator: Any) -> Any:
    if hasattr(type(iterator), "__anext__"):
        return await anext(iterator)
    item = next(iterator, _END)
    if item is _END:
        raise _Over
    return item
