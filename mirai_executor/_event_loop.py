"""Runs coroutines to their end, one after the other, in an event loop of this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator

T = TypeVar("T")

_PATIENCE = 1.0  # seconds for what a coroutine has left running to end once it is cancelled


class EventLoop:
    """An event loop that is made for the first coroutine, and stays for others.

    What is bound to it, such as a pool of connections, can be used by several coroutines. What one
    of them has started and left running is cancelled when it ends, as ``asyncio.run`` does. Where
    the thread that asks has a loop that runs, as inline tasks may, another thread runs this one.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._was_asked = self._was_told = False  # to stop: this, and the coroutine itself

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine; return what it returns.

        Raises:
            KeyboardInterrupt: It was stopped.
            BaseException: What it raises.
        """
        try:
            return self._run(coroutine)
        finally:
            self.end_rest()

    def iterate(self, values: AsyncIterator[Any]) -> Iterator[Any]:
        """Yield what an asynchronous generator yields; the event loop stands still in between."""

        async def next_value() -> Any:
            return await anext(values)

        async def close() -> None:
            if (aclose := getattr(values, "aclose", None)) is not None:
                await aclose()

        try:
            while True:
                try:
                    value = self._run(next_value())
                except StopAsyncIteration:
                    return
                yield value
                del value
        finally:
            self._run(close())
            self.end_rest()

    def stop(self) -> bool:
        """Cancel the coroutine that runs; from a handler of signals.

        Returns:
            False if there is none, or if it has not noticed that it was cancelled before: it runs
            code that never comes back to the event loop.
        """
        if self._task is None or self._loop is None:
            return False
        if not self._was_asked:
            self._was_asked = True
            self._loop.call_soon_threadsafe(self._tell)
            return True
        return self._was_told

    def opened(self) -> asyncio.AbstractEventLoop:
        """Return the event loop itself; made if there is none."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop

    def close(self) -> None:
        """Close the event loop; the next coroutine gets another one."""
        loop, self._loop = self._loop, None
        if loop is not None:
            _complete(loop, loop.shutdown_default_executor())
            loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = self.opened()
        self._was_asked = self._was_told = False
        self._task = loop.create_task(coroutine)
        try:
            _complete(loop, asyncio.wait([self._task]))
            return self._task.result()  # so that its error has no frames of asyncio's
        except asyncio.CancelledError:
            if self._was_asked:
                raise KeyboardInterrupt from None
            raise
        except KeyboardInterrupt:
            self._give_up()
            raise
        finally:
            self._task = None

    def _tell(self) -> None:
        self._was_told = True
        if self._task is not None:
            self._task.cancel()

    def end_rest(self) -> None:
        """Cancel what coroutines have left running, and wait a little for that."""
        if (loop := self._loop) is None:
            return
        if rest := asyncio.all_tasks(loop):
            for task in rest:
                task.cancel()
            _complete(loop, asyncio.wait(rest, timeout=_PATIENCE))

    def _give_up(self) -> None:
        """End what runs, and the loop, which an interrupt may have struck at any point."""
        loop, task = self._loop, self._task
        self.end_rest()
        self._loop = None
        if task is not None and task.done() and not task.cancelled():
            task.exception()  # that is known
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # of a loop that was struck
                loop.close()


def _complete(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[T]) -> T:
    """Run a loop until something has come to its end."""
    try:
        asyncio.get_running_loop()
        is_free = False
    except RuntimeError:
        is_free = True
    if is_free:
        return loop.run_until_complete(awaitable)
    return _in_a_thread(lambda: loop.run_until_complete(awaitable))


def _in_a_thread(step: Callable[[], T]) -> T:
    """Do something on another thread, and wait for that."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            outcome.append(step())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()
    return outcome[0]
