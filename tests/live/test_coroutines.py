"""Tasks that are ``async def`` functions, and asynchronous generators as streams."""

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import loops
from mirai_executor import MiraiExecutor, MiraiInterrupt, Progress, progress, rng

PLACES = ["here", "inline"]


async def double(x: Any) -> Any:
    await asyncio.sleep(0)
    return x * 2


async def fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("in a coroutine")


async def count_to(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        progress(i)
        yield i


def test_a_coroutine_is_awaited_on_its_daemon(executor: MiraiExecutor) -> None:
    assert executor.submit(double, 2).result() == 4
    assert list[Any](executor.map(double, range(5))) == [0, 2, 4, 6, 8]
    large = executor.submit(double, np.ones(100_000)).result()
    assert large.sum() == 200_000
    assert executor.submit_source("double(4)", double=double).result() == 8


async def note_and_add(x: int, y: int = 0) -> int:
    UNDER_WAY.append(x)
    await asyncio.sleep(0)
    assert UNDER_WAY.pop() == x  # no other has begun
    if x < 0:
        raise ValueError(x)
    return x + y


UNDER_WAY: list[int] = []


@pytest.mark.parametrize("chunksize", [1, 2, 5])
def test_coroutines_of_a_chunk_are_awaited_one_after_the_other(
    executor: MiraiExecutor, chunksize: int
) -> None:
    fn: Any = note_and_add
    one = executor.map(fn, range(5), chunksize=chunksize)
    assert list[Any](one) == [*range(5)]
    two = executor.map(fn, range(5), range(5), chunksize=chunksize)
    assert list[Any](two) == [*range(0, 10, 2)]
    mixed = executor.map(lambda x: fn(x) if x % 2 == 0 else x, range(5), chunksize=5)
    assert list[Any](mixed) == [*range(5)]
    with pytest.raises(ValueError, match="-1"):
        list[Any](executor.map(fn, [1, -1, 1], chunksize=chunksize))
    with executor.as_pool() as pool:
        assert pool.map(fn, range(5), chunksize) == [*range(5)]
        assert pool.starmap(fn, [(1, 2), (3, 4)], chunksize) == [3, 7]


async def draw(_: int) -> float:
    await asyncio.sleep(0)
    return random.random()


def test_coroutines_of_a_chunk_have_random_numbers_of_their_own() -> None:
    drawn = []
    for chunksize in (1, 2, 4):
        with MiraiExecutor(1, seed=1, mode="inline") as executor:
            drawn.append(list[Any](executor.map(draw, range(4), chunksize=chunksize)))
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0])) == 4


def test_its_error_has_the_frames_of_the_coroutine_and_no_others(executor: MiraiExecutor) -> None:
    error = executor.submit(fail).exception()
    assert isinstance(error, ValueError)
    assert error.__context__ is None
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "fail"
    assert "run_until_complete" not in frames


def test_an_asynchronous_generator_is_a_stream(executor: MiraiExecutor) -> None:
    heard: list[Progress] = []
    stream = executor.with_options(on_report=heard.append).stream(count_to, 40)
    assert list(stream) == list(range(40))
    assert heard[0] == Progress(0)


def test_a_coroutine_of_asyncio_can_wait_for_one_in_this_process(executor: MiraiExecutor) -> None:
    async def main() -> tuple[int, list[int]]:
        return await executor.submit(double, 1), [n async for n in executor.stream(count_to, 3)]

    assert asyncio.run(main()) == (2, [0, 1, 2])


async def loop_of_this_task() -> int:
    asyncio.get_running_loop().create_task(asyncio.sleep(3600))
    return id(asyncio.get_running_loop())


def test_an_event_loop_stays_and_what_a_task_has_started_in_it_does_not(
    daemon: MiraiExecutor,
) -> None:
    assert len({daemon.submit(loop_of_this_task).result() for _ in range(3)}) == 1


def test_with_cleanup_each_task_has_an_event_loop_of_its_own() -> None:
    with MiraiExecutor(1, cleanup=True) as executor:
        assert executor.submit(double, 1).result() == 2
        assert executor.submit(double, 2).result() == 4


@pytest.mark.parametrize(
    ("fn", "how"), [(loops.wait_for_ever, "in order"), (loops.block, "by force")]
)
def test_a_coroutine_is_cancelled_and_one_that_does_not_notice_is_interrupted(
    daemon: MiraiExecutor,
    tmp_path: Path,
    fn: Callable[[Path, Path], Awaitable[None]],
    how: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    os.mkfifo(begun := tmp_path / "begun")
    future = daemon.submit(fn, begun, tmp_path / "ended")
    begun.read_text()
    future.cancel()
    assert daemon.submit((tmp_path / "ended").read_text).result() == how
    assert daemon.submit(double, 1).result() == 2
    assert daemon.info().cumulative == 1  # the daemon has survived it
    assert capfd.readouterr().err == ""


async def interrupt() -> None:
    raise KeyboardInterrupt


async def give_up() -> None:
    raise asyncio.CancelledError


def test_what_ends_a_coroutine_from_within_ends_the_task(daemon: MiraiExecutor) -> None:
    with pytest.raises(MiraiInterrupt):
        daemon.submit(interrupt).result()
    assert isinstance(daemon.submit(give_up).exception(), asyncio.CancelledError)
    assert daemon.submit(double, 1).result() == 2


def test_a_stream_of_an_asynchronous_generator_is_stopped_as_others_are(
    daemon: MiraiExecutor,
) -> None:
    with daemon.stream(count_to, 10**9) as stream:
        assert next(stream) == 0
    assert stream.future.cancelled()
    assert daemon.submit(double, 1).result() == 2


variable = ContextVar("variable", default=0)


async def inherit() -> tuple[int, int]:
    await asyncio.sleep(0)
    return variable.get(), int(rng().integers(10**9))


def test_context_variables_and_random_numbers_are_there_when_a_coroutine_runs() -> None:
    with MiraiExecutor(1, seed=42) as executor:
        variable.set(7)
        seen = executor.with_options(context=[variable]).submit(inherit).result()
        assert seen == (
            7,
            int(np.random.default_rng(np.random.SeedSequence(42).spawn(1)[0]).integers(10**9)),
        )
        assert executor.submit(inherit).result()[0] == 0


def test_a_note_with_the_variables_is_there_for_a_coroutine_too(daemon: MiraiExecutor) -> None:
    async def ratio(divisor: int) -> float:
        await asyncio.sleep(0)
        return 1 / divisor

    error = daemon.with_options(post_mortem=True).submit(ratio, 0).exception()
    assert "divisor = 0" in "".join(getattr(error, "__notes__", ()))


def report_from_a_thread() -> None:
    thread = threading.Thread(target=progress, args=(1,))
    thread.start()
    thread.join()
    progress(2)


def test_the_first_report_may_come_from_a_thread_of_a_task() -> None:
    heard: list[Progress] = []
    with MiraiExecutor(1) as executor:
        executor.with_options(on_report=heard.append).submit(report_from_a_thread).result()
    assert heard[-1] == Progress(2)
