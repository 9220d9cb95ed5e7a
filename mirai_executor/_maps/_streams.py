"""Hands on what a generator yields on a daemon, while it goes on, to who iterates over it here.

::

    daemon ── Items ──► host thread ── items of the StreamFuture ──► Stream ──► your loop
           ◄─ Credit ── host thread ◄─────────────── grant ────────────┘

A stream has no lock: the host thread appends, its one consumer takes, and who waits leaves word
first and then looks again.
"""

from __future__ import annotations

import collections
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast

from mirai_executor._around._options import beside_call
from mirai_executor._host import Item, OneShotEvent
from mirai_executor._mailbox import IN_A_CALLBACK
from mirai_executor._messages import run_stream
from mirai_executor._observing._reports import hear
from mirai_executor._payload import host as _payload
from mirai_executor._payload.common.entries import STREAM
from mirai_executor.futures import MiraiFuture

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirai_executor._host import Host, InlineHost, Message, Options
    from mirai_executor._lifetime import HostOwner

T = TypeVar("T")


class StreamFuture(MiraiFuture[Any]):
    """The future of a task that yields values. Its result is what the generator returns."""

    wake: Callable[[], None] | None = None  # whoever waits for the next value

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.items: collections.deque[Item] = collections.deque()
        self.add_done_callback(_wake)

    def listener(self) -> Callable[[Message | Item], None]:
        """Return what takes in what the task yields and reports; for the host."""
        return partial(_take_in, self)


def _take_in(future: StreamFuture, message: Message | Item) -> None:
    if isinstance(message, Item):
        future.items.append(message)
        _wake(future)
    else:
        hear(future, message)


def _wake(future: Any) -> None:
    if (wake := future.wake) is not None:
        wake()


class Stream(Iterator[T], AsyncIterator[T], Generic[T]):
    """The values that a task yields, as they come; returned by :meth:`MiraiExecutor.stream`.

    An iterator, and an asynchronous one in coroutines of asyncio. It belongs to one thread, or one
    coroutine, at a time. What the task raises is raised behind the values that it has yielded
    before; if its daemon is lost, that is a :class:`DaemonLostError`. After an error, and after
    :meth:`close`, there are no more values.

    A stream that is closed, or dropped by its last owner, as by leaving a loop over it, cancels
    its task. So does a coroutine that is cancelled while it waits for the next value.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     with executor.stream(range, 3) as stream:
        ...         next(stream), list(stream)
        (0, [1, 2])
    """

    def __init__(self, future: MiraiFuture[Any], host: Host, owner: object, buffer: int) -> None:
        self._future = future
        self._host = host
        self._owner: object | None = owner  # an executor that is dropped would end its streams
        self._batch = max(1, buffer // 2)  # values whose taking is told at once
        self._taken = 0
        self._is_over = False
        self._returned: Any = None

    @property
    def future(self) -> MiraiFuture[Any]:
        """The future of the task, to cancel it, or to hear what it reports.

        Its result is what the generator returns; it has ended once all values are there, whether
        or not they have been taken.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     stream = executor.stream(range, 2)
            ...     list(stream), stream.future.done()
            ([0, 1], True)
        """
        return self._future

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            while not self._is_over:
                if (item := self._next_item()) is not None:
                    return self._value_of(item)
                if not self._is_over:
                    self._wait()
        except KeyboardInterrupt:
            if self._future._cancels_on_interrupt:
                self.close()
            raise
        raise StopIteration(self._returned)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._is_over:
            if (item := self._next_item()) is not None:
                return self._value_of(item)
            if not self._is_over:
                await self._arrival()
        raise StopAsyncIteration

    def close(self) -> None:
        """Cancel the task, unless it has ended, and drop the values that have not been taken.

        Never waits. Safe from any thread, and to call again.

        Example:
            >>> import itertools
            >>> with MiraiExecutor(1) as executor:
            ...     stream = executor.stream(itertools.count)
            ...     next(stream)
            ...     stream.close()
            ...     list(stream), stream.future.cancelled()
            0
            ([], True)
        """
        self._is_over = True
        self._future.cancel()
        self._drop()

    async def aclose(self) -> None:
        """Do as :meth:`close`; for ``contextlib.aclosing``.

        Example:
            >>> import asyncio, contextlib
            >>> async def main():
            ...     with MiraiExecutor(1) as executor:
            ...         stream = executor.stream(range, 9)
            ...         async with contextlib.aclosing(stream):
            ...             return [await anext(stream), await anext(stream)]
            >>> asyncio.run(main())
            [0, 1]
        """
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.__dict__.get("_is_over", True):
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a stream belongs to the process that has opened it; send a list of its values instead"
        )

    def __repr__(self) -> str:
        return f"<Stream of {self._future!r}>"

    # How values come

    def _items(self) -> collections.deque[Item]:
        items: collections.deque[Item] = self._future.items  # type: ignore[attr-defined]  # of a StreamFuture
        return items

    def _next_item(self) -> Any:
        """Return the next item, if it has come; None if not, or if there is no other."""
        has_ended = self._future.done()  # first: what came before the end, is there then
        if items := self._items():
            return items.popleft()
        if has_ended:
            self._end()
        return None

    def _value_of(self, item: Any) -> T:
        self._taken += 1
        if self._taken == self._batch:
            self._taken = 0
            self._host.call_soon(partial(item.grant, self._batch))
        views: Any = item.outcome.buffers  # in place of where they lie, by now
        try:
            value: T = _payload.decode_value(item.outcome.payload, buffers=views)
        except BaseException:
            self.close()
            raise
        return value

    def _end(self) -> None:
        """Take in that there is no other value, and why not."""
        self._is_over = True
        self._drop()
        try:
            self._returned = self._future.result()
        except StopIteration as error:  # it would end the caller's loop, in silence
            raise RuntimeError("generator raised StopIteration") from error  # as PEP 479 has it

    def _drop(self) -> None:
        self._owner = None
        self._items().clear()

    def _has_news(self) -> bool:
        return bool(self._items()) or self._future.done()

    def _wait(self) -> None:
        if self._host.owns_this_thread():
            raise RuntimeError(IN_A_CALLBACK)
        event = OneShotEvent()
        self._future.wake = event.come  # type: ignore[attr-defined]  # as above
        if not self._has_news():
            event.wait()

    async def _arrival(self) -> None:
        import asyncio

        from mirai_executor._observing._awaiting import waker

        arrival, wake = waker()
        self._future.wake = wake  # type: ignore[attr-defined]  # as above
        try:
            if not self._has_news():
                await arrival
        except BaseException:
            self.close()
            raise
        if self._future.cancelled() and not self._items():
            self.close()
            raise asyncio.CancelledError


class InlineStream(Stream[T]):
    """The same in this process: each value is made when it is asked for."""

    def __init__(
        self, future: MiraiFuture[Any], host: InlineHost, owner: object, source: Iterator[T]
    ) -> None:
        super().__init__(future, host, owner, 1)
        self._source: Iterator[T] | None = source

    async def __anext__(self) -> T:
        from asyncio import sleep

        from mirai_executor._observing._awaiting import running_loop

        running_loop()
        try:
            await sleep(0)  # a value is always there: others have their turn, and may cancel this
        except BaseException:
            self.close()
            raise
        return await super().__anext__()

    def _next_item(self) -> Any:
        try:
            if self._source is not None and not self._future.done():
                return (next(self._source),)
        except StopIteration as end:
            self._future.set_result(end.value)
        except KeyboardInterrupt:  # it is for who has asked for the value
            self.close()
            raise
        except BaseException as error:
            self._future.set_exception(error)
        self._end()
        return None

    def close(self) -> None:
        """End the generator, and drop it."""
        super().close()
        if self._future.cancelled():
            self._future.end_cancelled()  # as there is no host thread

    def _value_of(self, item: Any) -> T:
        value: T = item[0]
        return value

    def _drop(self) -> None:
        self._owner = None
        if (source := self._source) is not None:
            self._source = None
            source.close()  # type: ignore[attr-defined]  # a generator


def open_stream(
    owner: HostOwner,
    options: Options,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Stream[Any]:
    """Submit a function whose values are wanted as they come.

    Args:
        owner: The executor.
        options: What has been told of its tasks.
        fn: The function, which returns a generator or another iterable.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    host = owner._host
    # What has been taken, cannot come twice.
    options = options.changed(limits=options.limits.changed(retries=0, concurrency=1))
    future = StreamFuture(
        host.next_id(),
        host,
        cancel_running=options.cancel_running,
        cancel_on_interrupt=options.cancel_on_interrupt,
    )
    if options.on_report is not None:
        future.on_report(options.on_report)
    host.streams[future.id] = future
    future.add_done_callback(lambda _: host.streams.pop(future.id, None))
    given = beside_call(owner, future, fn, {}, options)
    if host.is_inline:
        here = cast("InlineHost", host)
        values = here.pull(future, fn, args, kwargs, given.get(STREAM))
        return InlineStream(future, here, owner, values)
    host.submit(
        future.id, future, run_stream, (fn, options.buffer, args, kwargs), given, options.limits
    )
    return Stream(future, host, owner, options.buffer)
