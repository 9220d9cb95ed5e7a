"""Lets coroutines of asyncio wait for futures, and for the end of executors.

No event loop waits for a lock or a thread of ours: the host thread tells it of ends, and what has
to wait does so on another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")

_NO_LOOP = (
    "this needs a running event loop of asyncio, and there is none here; in trio, use a plain "
    "`with`, and await futures as the page about trio in the documentation shows"
)


async def result_of(future: Future[T]) -> T:
    """Wait for a task, and return its result; who stops to wait, stops the task.

    Raises:
        asyncio.CancelledError: The waiting was cancelled, or the task was.
        BaseException: What the task has raised.
        RuntimeError: No event loop of asyncio runs here.
    """
    if not future.done():
        arrival, wake = waker()
        future.add_done_callback(lambda _: wake())
        try:
            await arrival
        finally:
            if not future.done():  # by a cancellation, or as this coroutine is thrown away
                future.cancel()
    if future.cancelled():
        raise asyncio.CancelledError
    return future.result()


def waker() -> tuple[asyncio.Future[None], Callable[[], None]]:
    """Return what a coroutine can wait for, and what ends that; from any thread, at any time.

    Raises:
        RuntimeError: No event loop of asyncio runs here.
    """
    loop = running_loop()
    arrival = loop.create_future()

    def arrive() -> None:
        if not arrival.done():
            arrival.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
            loop.call_soon_threadsafe(arrive)

    return arrival, wake


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs here.

    Raises:
        RuntimeError: No event loop of asyncio runs here.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise RuntimeError(_NO_LOOP) from error


async def leave(
    end: Callable[..., object], abort: Callable[[], object], why: type[BaseException] | None
) -> None:
    """Do at the end of an ``async with`` what a ``with`` does, and let the event loop go on.

    Args:
        end: Called with the type of an exception, as ``__exit__`` is.
        abort: Called instead where the block, or this, is cancelled: it stops the work.
        why: The type of the exception by which the block is left.
    """
    if why is not None and issubclass(why, asyncio.CancelledError):
        await asyncio.to_thread(abort)
        return
    ending = asyncio.ensure_future(asyncio.to_thread(end, why, None, None))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.to_thread(abort)
        await asyncio.wait([ending])  # it has nothing to wait for any more
        raise
