"""What few programs ask of an executor: a queue with a bound, random numbers, streams, coroutines.

What that takes is imported when they do.
"""

from collections.abc import AsyncIterable, Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from ._arguments import check_callable, check_count, check_sources
from ._host import Host, Options

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from numpy.random import SeedSequence

    from ._around._stream_order import RandomStreams
    from ._host import BoundedHost
    from ._lifetime import HostOwner
    from ._maps._streams import Stream
    from .futures import MiraiFuture

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class RareExecutor(Executor):
    """Of an executor, or of a view of one, the methods that most programs do without."""

    _host: Host
    _options: Options
    _streams: "RandomStreams | None" = None

    def _root(self) -> "HostOwner":
        raise NotImplementedError

    # A queue with a bound

    def submit_source(self, source: str, /, **variables: Any) -> "MiraiFuture[Any]":
        """Schedule Python code, given as a string, to run on a daemon."""
        raise NotImplementedError

    def try_submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "MiraiFuture[T] | None":
        """Do as :meth:`submit`, unless the queue has no room: then return None at once.

        Without the executor's ``memory``, there always is room. Safe from any thread. A call that
        is turned away takes no random numbers of a ``seed``.

        Args:
            fn: The function.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the call, or None.

        Raises:
            TypeError: ``fn`` is not callable; so with all errors of :meth:`submit`.

        Example:
            >>> with MiraiExecutor(1, memory=10_000_000) as executor:
            ...     future = executor.try_submit(pow, 2, 10)
            ...     None if future is None else future.result()
            1024
        """
        future: MiraiFuture[T] | None
        future = self._try_to(partial(self.submit, fn, *args, **kwargs))
        return future

    def try_submit_source(self, source: str, /, **variables: Any) -> "MiraiFuture[Any] | None":
        """Do as :meth:`submit_source`, unless the queue has no room: then return None at once.

        Args:
            source: The code.
            **variables: The names that the code can use, and their values.

        Returns:
            The future of the value, or None.

        Raises:
            TypeError: ``source`` is not a string; so with all errors of :meth:`submit_source`.

        Example:
            >>> with MiraiExecutor(1, memory=10_000_000) as executor:
            ...     future = executor.try_submit_source("x + 1", x=41)
            ...     None if future is None else future.result()
            42
        """
        future: MiraiFuture[Any] | None
        future = self._try_to(partial(self.submit_source, source, **variables))
        return future

    def _try_to(self, submit: Callable[..., Any]) -> Any:
        gate, streams = self._host.gate, self._root()._streams
        if gate is None:
            return submit()
        if streams is None:
            return gate.try_to(submit)
        stream = streams.next()
        future = None
        try:
            future = gate.try_to(partial(submit, **streams.beside(stream)))
        finally:
            if future is None:
                streams.put_back(stream)
        return future

    async def room(self) -> None:
        """Wait, in a coroutine of asyncio, until the queue has room.

        After a call that :meth:`try_submit` has turned away, this waits until there is room for
        one of that size. Others may be faster, so try again in a loop. Returns at once if the
        executor has no ``memory``.

        Raises:
            RuntimeError: The executor has been shut down, before or meanwhile.

        Example:
            >>> import asyncio
            >>> async def submit(executor, fn, *args):
            ...     while (future := executor.try_submit(fn, *args)) is None:
            ...         await executor.room()
            ...     return await asyncio.wrap_future(future)
            >>> with MiraiExecutor(1, memory=10_000_000) as executor:
            ...     asyncio.run(submit(executor, pow, 2, 10))
            1024
        """
        self._root()._check_open()
        if self._host.gate is None or self._host.is_inline:  # nothing waits there
            return
        from ._observing._awaiting import waker  # with asyncio

        host = cast("BoundedHost", self._host)
        arrival, wake = waker()
        id_ = host.next_id()
        try:
            host.call_when_room(id_, wake)
            await arrival
        finally:
            host.give_up_room(id_)
        self._root()._check_open()

    # Random numbers

    def _seed_with(self, seed: Any) -> None:
        if seed is not None:
            from ._around._stream_order import RandomStreams  # for those who ask for it

            self._streams = RandomStreams(seed)

    def next_stream(self) -> "SeedSequence | None":
        """Return random entropy for a use of your own, as the next task would have had it.

        It takes a place in the order of submission: no task gets the same stream. Safe from any
        thread.

        Returns:
            ``SeedSequence(seed, spawn_key=(index,))``, from which NumPy makes generators; None if
            the executor has no ``seed``.

        Raises:
            ImportError: NumPy is not installed. Nothing has changed.

        Example:
            >>> import numpy as np
            >>> with MiraiExecutor(2, seed=42) as executor:
            ...     executor.next_stream().spawn_key, executor.next_stream().spawn_key
            ...     np.random.default_rng(executor.next_stream()).integers(100).item()
            ((0,), (1,))
            70
        """
        streams = self._root()._streams
        if streams is None:
            return None
        from ._random_streams import seed_sequence

        stream = streams.next()
        try:
            return seed_sequence(stream)
        except ImportError:
            streams.put_back(stream)
            raise

    # Streams, and coroutines

    @overload
    def stream(
        self,
        fn: Callable[P, Iterable[T] | AsyncIterable[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> "Stream[T]": ...

    @overload
    def stream(
        self, fn: Callable[[S], Any], source: AsyncIterable[S], /, *, buffer: int = ...
    ) -> "AsyncGenerator[Any, None]": ...

    def stream(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run a generator on a daemon, and return an iterator over its values as they come.

        The generator is never more than 16 values ahead of those that have been taken; set another
        number with ``with_options(buffer=4)``. Whoever leaves the loop over it early, or calls
        ``close()``, cancels the task. At the end of the executor's ``with`` block, streams that
        are open are cancelled. Safe from any thread. Every keyword argument belongs to ``fn``, but
        for one: where ``fn`` is not a generator function and its only argument is an asynchronous
        iterable, ``stream(fn, source, buffer=4)`` calls it for each item, and returns what
        ``stream_map(fn, source, buffersize=4)`` does.

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
        from ._maps._stream_map import comes_in_time
        from ._maps._streams import open_stream  # few programs have any

        root = self._root()
        root._check_open()
        check_callable("stream", fn)
        if len(args) == 1 and kwargs.keys() <= {"buffer"} and comes_in_time(args[0], fn):
            buffer = kwargs.get("buffer", self._options.buffer)
            check_count("buffer", buffer, least=1)
            return self.stream_map(fn, *args, buffersize=buffer)
        return open_stream(root, self._options, fn, args, kwargs)

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
        from ._maps._stream_map import stream_map, submitter_of  # as above

        check_callable("stream_map", fn)
        check_sources(sources)
        check_count("buffersize", buffersize, least=1, optional=True)
        most = 2 * self._root().size if buffersize is None else buffersize
        face: Any = self  # a whole one
        return stream_map(submitter_of(face, self._host.take(fn)), sources, most)

    async def __aenter__(self) -> Self:
        from ._observing._awaiting import running_loop  # as above

        running_loop()  # here, and not only at the end of the block
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
        from ._observing._awaiting import leave  # with asyncio

        await leave(self.__exit__, self._abort, exc_type)

    def _abort(self) -> None:
        """Stop queued and running work; the one of an executor that this is a view of goes on."""
