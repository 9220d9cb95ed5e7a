"""Coroutines wait for futures and executors, and who stops to wait, stops the work."""

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

import pytest

from live.mischief import run
from mirai_executor import MiraiExecutor, MiraiFuture, daemons, mirai

T = TypeVar("T")


@pytest.fixture(scope="module")
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(1) as executor:
        executor.wait_ready()
        yield executor


def raise_stop_iteration() -> None:
    raise StopIteration(1)


def wait_for_byte(fifo: Path) -> bytes:
    with fifo.open("rb") as opened:
        return opened.read(1)


def announce(fifo: Path) -> int:
    fifo.write_bytes(b"x")
    time.sleep(0.3)
    return 1


async def awaited(future: MiraiFuture[T]) -> T:
    return await future


def test_a_coroutine_awaits_what_a_task_ends_in(executor: MiraiExecutor) -> None:
    async def main() -> list[int]:
        with pytest.raises(ValueError, match="invalid literal"):
            await executor.submit(int, "no number")
        with pytest.raises(RuntimeError, match="StopIteration"):  # else it would end in silence
            await executor.submit(raise_stop_iteration)
        ended = executor.submit(abs, -3)
        ended.result()
        return await asyncio.gather(*[executor.submit(abs, n) for n in (-1, -2)], ended)

    assert run(main()) == [1, 2, 3]


def test_what_needs_an_event_loop_of_asyncio_says_so_before_anything_happens(
    executor: MiraiExecutor,
) -> None:
    async def with_block() -> None:
        async with executor:
            pytest.fail("entered")

    async def with_profile() -> None:
        async with daemons(sync=True):
            pytest.fail("entered")

    async def room() -> None:
        with MiraiExecutor(1, memory=10) as bounded:
            await bounded.room()

    endless = executor.submit(time.sleep, 3600)
    waiting: list[Coroutine[Any, Any, Any]] = [
        with_block(),
        with_profile(),
        room(),
        awaited(endless),
        anext(executor.stream_map(abs, [1])),
    ]
    for coroutine in waiting:
        with pytest.raises(
            RuntimeError, match=r"running event loop of asyncio.*in trio, use a plain `with`"
        ):
            coroutine.send(None)
    daemons(0)
    endless.cancel()
    assert executor.submit(abs, -1).result() == 1


def test_who_stops_to_wait_stops_the_task(executor: MiraiExecutor) -> None:
    async def main() -> tuple[bool, int]:
        future = executor.submit(time.sleep, 3600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.1)
        return future.cancelled(), await executor.submit(abs, -1)  # the only daemon is free

    assert run(main()) == (True, 1)


def test_a_task_that_is_to_go_on_does_so_when_nobody_waits_for_it(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")

    async def main() -> MiraiFuture[int]:
        future = executor.with_options(cancel_running=False).submit(announce, fifo)
        wait_for_byte(fifo)  # it runs
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.01)
        return future

    assert run(main()).result() == 1


def test_a_task_that_others_cancel_is_cancelled_to_who_waits(executor: MiraiExecutor) -> None:
    async def main() -> None:
        future = executor.submit(time.sleep, 3600)
        waits = asyncio.ensure_future(awaited(future))
        await asyncio.sleep(0)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    run(main())


def test_a_coroutine_that_is_thrown_away_stops_its_task(executor: MiraiExecutor) -> None:
    async def main() -> MiraiFuture[Any]:
        future = executor.submit(time.sleep, 3600)
        coroutine = awaited(future)
        coroutine.send(None)
        coroutine.close()
        return future

    with pytest.raises(CancelledError):
        run(main()).result()


def test_without_an_event_loop_of_asyncio_an_error_says_what_to_do(
    executor: MiraiExecutor,
) -> None:
    future = executor.submit(time.sleep, 3600)
    with pytest.raises(RuntimeError, match="event loop of asyncio"):
        awaited(future).send(None)
    assert not future.done()
    future.cancel()


@pytest.mark.parametrize("options", [{}, {"mode": "inline"}], ids=["daemons", "inline"])
def test_the_end_of_a_block_waits_for_tasks(options: Any) -> None:
    async def main() -> MiraiFuture[int]:
        async with MiraiExecutor(1, **options) as executor:
            future = executor.submit(abs, -1)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(abs, -1)
        return future

    assert run(main()).done()


def test_the_event_loop_goes_on_at_the_end_of_a_block(tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "fifo")
    fifo = os.open(path, os.O_RDWR)

    async def write() -> None:
        os.write(fifo, b"x")

    async def main() -> MiraiFuture[bytes]:
        async with MiraiExecutor(1) as executor:
            future = executor.submit(wait_for_byte, path)
            writes = asyncio.ensure_future(write())  # which runs as soon as anything is awaited
        await writes
        return future

    assert run(main()).result() == b"x"
    os.close(fifo)


@pytest.mark.parametrize("where", ["in the block", "at its end"])
def test_a_block_that_is_cancelled_stops_its_tasks(where: str) -> None:
    futures: list[MiraiFuture[None]] = []

    async def block(submitted: asyncio.Event) -> None:
        async with MiraiExecutor(1) as executor:
            futures.extend([executor.submit(time.sleep, 3600) for _ in range(2)])
            submitted.set()
            if where == "in the block":
                await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.ensure_future(block(submitted := asyncio.Event()))
        await submitted.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    run(main())
    assert [future.cancelled() for future in futures] == [True, True]


def test_the_block_of_a_view_ends_nothing(executor: MiraiExecutor) -> None:
    async def main() -> int:
        async with executor.with_options(timeout=60) as view:
            pass
        return await view.submit(abs, -1)

    assert run(main()) == 1


def test_the_block_of_daemons_resets_their_profile() -> None:
    async def main() -> MiraiExecutor:
        async with daemons(1, compute="async") as executor:
            assert await mirai(abs, -1) == 1
        return executor

    executor = run(main())
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)
