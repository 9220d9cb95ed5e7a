"""``stream_map``: results in order, as many tasks ahead as there is room for, and none left."""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from live.mischief import run
from mirai_executor import MiraiExecutor


@pytest.fixture(scope="module")
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(2) as executor:
        executor.wait_ready()
        yield executor


class Source:
    """Counts without an end, and knows how far it has come, and whether it has been closed."""

    def __init__(self) -> None:
        self.given = 0
        self.is_closed = False

    async def numbers(self) -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(0)
                self.given += 1
                yield self.given - 1
        finally:
            self.is_closed = True


async def triple(x: int) -> int:
    await asyncio.sleep(0)
    return 3 * x


def sleep_less_and_less(n: int) -> int:
    time.sleep(0.1 if n == 0 else 0)
    return n


def test_results_come_in_the_order_of_the_items(executor: MiraiExecutor) -> None:
    async def main() -> list[Any]:
        first = [n async for n in executor.stream_map(sleep_less_and_less, range(20))]
        two = executor.stream_map(pow, Source().numbers(), [2, 2, 2], buffersize=1)
        coroutines = executor.with_options(timeout=60).stream_map(triple, range(3))
        return [first, [n async for n in two], [n async for n in coroutines]]

    assert run(main()) == [list(range(20)), [0, 1, 4], [0, 3, 6]]


class Numbers:
    """An asynchronous iterable that can travel."""

    def __aiter__(self) -> AsyncIterator[int]:
        return Source().numbers()


async def first_two(numbers: Numbers) -> AsyncIterator[int]:
    async for n in numbers:
        if n == 2:
            return
        yield n


def test_a_stream_over_what_comes_in_time_is_a_map_unless_a_generator_is_to_have_it(
    executor: MiraiExecutor,
) -> None:
    async def main() -> tuple[list[Any], Source, list[Any]]:
        source = Source()
        async with contextlib.aclosing(
            executor.stream(triple, source.numbers(), buffer=3)
        ) as results:
            mapped = [await anext(results) for _ in range(2)]
        return mapped, source, [n async for n in executor.stream(first_two, Numbers())]

    mapped, source, streamed = run(main())
    assert (mapped, streamed) == ([0, 3], [0, 1])
    assert source.given <= 2 + 3 + 1
    assert source.is_closed
    with pytest.raises(ValueError, match="buffer must be >= 1"):
        executor.stream(triple, Numbers(), buffer=0)


def test_no_more_is_pulled_than_there_is_room_for(executor: MiraiExecutor) -> None:
    async def main() -> tuple[int, Source]:
        source, most = Source(), 0
        async with contextlib.aclosing(
            executor.stream_map(abs, source.numbers(), buffersize=3)
        ) as results:
            async for n in results:
                await asyncio.sleep(0.001)  # there is time to pull more
                most = max(most, source.given - (n + 1))
                if n == 30:
                    break
        return most, source

    most, source = run(main())
    assert 0 < most <= 3
    assert source.is_closed


def test_a_result_does_not_wait_for_the_next_item(executor: MiraiExecutor) -> None:
    async def slow() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(3600)

    async def main() -> int:
        async with contextlib.aclosing(executor.stream_map(abs, slow())) as results:
            return await anext(results)

    assert run(main()) == 1


def fail_at_two(n: int) -> int:
    if n == 2:
        raise ValueError("two")
    return n


def test_an_error_of_a_task_or_of_a_source_is_raised_in_its_place(executor: MiraiExecutor) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise KeyError("source")

    async def main() -> None:
        source = Source()
        results = executor.stream_map(fail_at_two, source.numbers())
        assert [await anext(results), await anext(results)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            await anext(results)
        assert source.is_closed
        with pytest.raises(KeyError, match="source"):
            [n async for n in executor.stream_map(abs, failing())]

    run(main())


def announce_and_wait(fifo: Path) -> None:
    with fifo.open("wb") as opened:
        opened.write(b"x")
    time.sleep(3600)


def test_who_is_cancelled_stops_all_that_is_under_way(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")

    async def consume() -> None:
        async for _ in executor.stream_map(announce_and_wait, itertools.repeat(fifo)):
            pass

    async def main() -> None:
        consumer = asyncio.ensure_future(consume())
        await asyncio.to_thread(fifo.read_bytes)  # one of them runs
        consumer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await consumer

    run(main())
    assert [future.result() for future in [executor.submit(abs, -n) for n in range(4)]] == [
        *range(4)
    ]


def test_bad_arguments_are_errors_at_the_call(executor: MiraiExecutor) -> None:
    with pytest.raises(TypeError, match="stream_map"):
        executor.stream_map("no function", [1])  # type: ignore[arg-type]  # that is asked
    with pytest.raises(TypeError, match="7 is not iterable"):
        executor.stream_map(abs, 7)  # type: ignore[arg-type]  # likewise
    with pytest.raises(ValueError, match="buffersize"):
        executor.stream_map(abs, [1], buffersize=0)
