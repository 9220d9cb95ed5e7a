"""What takes its time: streams, and what coroutines can do; what that takes is imported then."""

from collections.abc import AsyncIterable, Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from ._arguments import check_callable, check_count, check_sources
from ._host import Host, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ._lifetime import HostOwner
    from ._streams import Stream

__all__ = ["AsyncFace"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncFace(Executor):
    """Of an executor, or of a view of one, the methods for streams and for coroutines."""

    _host: Host
    _limits: Limits

    def _root(self) -> "HostOwner":
        raise NotImplementedError

    def stream(
        self,
        fn: Callable[P, Iterable[T] | AsyncIterable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> "Stream[T]":
        """Run a generator on a daemon, and return an iterator over its values as they come.

        The generator is never more than 16 values ahead of those that have been taken; set another
        number with ``with_options(buffer=4)``. Whoever leaves the loop over it early, or calls
        ``close()``, cancels the task. At the end of the executor's ``with`` block, streams that
        are open are cancelled. Safe from any thread, and every keyword argument belongs to ``fn``.

        Args:
            fn: A generator function, or a function that returns another iterable.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            An iterator, and an asynchronous one. It raises what the generator raises, behind the
            values that came before. ``retries`` have no effect.

        Raises:
            TypeError: ``fn`` is not callable.
            RuntimeError: The executor has been shut down.
            LaunchError: No daemon can be started.

        Example:
            >>> def squares(n):
            ...     for i in range(n):
            ...         yield i * i
            >>> with MiraiExecutor(1) as executor:
            ...     for square in executor.stream(squares, 3):
            ...         print(square)
            0
            1
            4
        """
        from ._streams import open_stream  # few programs have any

        root = self._root()
        root._check_open()  # noqa: SLF001 - this is a part of it
        check_callable("stream", fn)
        return open_stream(root, self._limits, fn, args, kwargs)

    def stream_map(
        self,
        fn: Callable[..., Any],
        *sources: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
    ) -> "AsyncGenerator[Any, None]":
        """Map a function over what comes in time; return an asynchronous iterator over results.

        For coroutines of asyncio. An item is pulled from the sources only when fewer than
        ``buffersize`` tasks are ahead of the results that have been taken: a slow consumer slows
        down the sources, and sources and daemons may be endless and slow. Whoever leaves the loop
        early cancels what is under way; ``contextlib.aclosing`` makes sure that this is at once.

        Args:
            fn: Called with one item of each source, on a daemon; it may be an ``async def``.
            *sources: Iterables, asynchronous ones or others. The shortest one ends the map. The
                event loop waits for each item of one that is not asynchronous.
            buffersize: How many tasks may be ahead; by default, twice the number of daemons.

        Returns:
            An asynchronous generator of results in the order of the items. An exception of a task,
            or of a source, is raised in its place, and ends it.

        Raises:
            TypeError: ``fn`` is not callable, or a source is not iterable.
            ValueError: ``buffersize`` is smaller than 1.

        Example:
            >>> import asyncio
            >>> async def numbers():
            ...     for n in (2, 3):
            ...         await asyncio.sleep(0.01)
            ...         yield n
            >>> async def main():
            ...     async with MiraiExecutor(2) as executor:
            ...         async for square in executor.stream_map(pow, numbers(), [2, 2]):
            ...             print(square)
            >>> asyncio.run(main())
            4
            9
        """
        from ._stream_map import stream_map  # as above

        check_callable("stream_map", fn)
        check_sources(sources)
        check_count("buffersize", buffersize, least=1, optional=True)
        most = 2 * self._root().size if buffersize is None else buffersize
        return stream_map(partial(self.submit, self._host.take(fn)), sources, most)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Do as at the end of a ``with`` block, while the event loop goes on.

        If the block is cancelled, or the wait at its end, queued and running tasks are cancelled.
        """
        from ._awaiting import leave  # with asyncio

        await leave(self.__exit__, self._abort, exc_type)

    def _abort(self) -> None:
        """Stop queued and running work; the one of an executor that this is a view of goes on."""
