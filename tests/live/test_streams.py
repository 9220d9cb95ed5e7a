"""Generators as tasks: their values come while they go on, and no more than are wanted."""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirai_executor import (
    DaemonLostError,
    MiraiExecutor,
    MiraiFuture,
    PayloadError,
    TaskTimeoutError,
    report,
)

PLACES = ["here", "elsewhere", "inline"]


def count_to(n: int) -> Generator[int, None, str]:
    yield from range(n)
    return "all"


def arrays(n: int) -> Iterator[np.ndarray[Any, Any]]:
    for i in range(n):
        yield np.full(100_000, i)


def test_values_come_in_order_and_then_what_the_generator_returns(
    executor: MiraiExecutor,
) -> None:
    stream = executor.stream(count_to, 100)
    assert list(stream) == list(range(100))
    assert stream.future.result() == "all"
    assert list(stream) == []
    assert [int(a[-1]) for a in executor.stream(arrays, 20)] == list(range(20))
    assert list(executor.stream(sorted, [2, 1], reverse=True)) == [2, 1]


def wait_behind_the_first(fifo: Path) -> Iterator[str]:
    yield "first"
    yield fifo.read_text()


def test_a_value_comes_while_the_generator_goes_on(daemon: MiraiExecutor, tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    stream = daemon.stream(wait_behind_the_first, fifo)
    assert next(stream) == "first"
    assert not stream.future.done()
    fifo.write_text("second")
    assert list(stream) == ["second"]


def counted() -> Iterator[int]:
    for n in itertools.count():
        report(n)
        yield n


@pytest.mark.parametrize("buffer", [1, 4])
def test_a_generator_is_never_further_ahead_than_its_buffer(
    daemon: MiraiExecutor, buffer: int
) -> None:
    heard: list[int] = []
    is_full = threading.Event()

    def hear(n: int) -> None:
        heard.append(n)
        if n == buffer - 1:
            is_full.set()

    with daemon.with_options(buffer=buffer, on_report=hear).stream(counted) as stream:
        assert is_full.wait(60)
        taken = itertools.islice(stream, 50)
        leads = [heard[-1] - n for n in taken]  # n is the one that has been taken last
    assert max(leads) <= buffer


def fail_behind(n: int) -> Iterator[int]:
    yield from range(n)
    raise ValueError("at the end")


def test_an_error_comes_behind_the_values_before_it(executor: MiraiExecutor) -> None:
    stream = executor.stream(fail_behind, 3)
    assert list(itertools.islice(stream, 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="at the end"):
        next(stream)
    assert list(stream) == []


@pytest.mark.parametrize(
    ("fn", "error", "says"),
    [
        (lambda: 7, TypeError, "returned 7"),
        (lambda: [threading.Lock()], (PayloadError, TypeError), "lock"),
    ],
)
def test_what_cannot_be_streamed_says_so(
    executor: MiraiExecutor, fn: Callable[[], Any], error: Any, says: str
) -> None:
    with pytest.raises(error, match=says):
        list(executor.stream(fn))
    with pytest.raises(TypeError, match="stream"):
        executor.stream(7)  # type: ignore[call-overload]  # that is asked
    with pytest.raises(ValueError, match="buffer"):
        executor.with_options(buffer=0)


def crash_behind(n: int) -> Iterator[int]:
    yield from range(n)
    os._exit(1)


@pytest.mark.local_link("kills its only daemon")
def test_the_end_of_a_daemon_comes_behind_the_values_that_have_come() -> None:
    with MiraiExecutor(1) as executor:
        stream = executor.with_options(buffer=100, retries=1).stream(crash_behind, 50)
        assert list(itertools.islice(stream, 50)) == list(range(50))
        with pytest.raises(DaemonLostError):
            next(stream)


def note_the_end(path: Path) -> Iterator[int]:
    try:
        yield from itertools.count()
    finally:
        path.write_text("ended")


@pytest.mark.parametrize("how", ["close", "break", "with"])
def test_who_stops_to_take_values_ends_the_generator(
    executor: MiraiExecutor, tmp_path: Path, how: str
) -> None:
    stream = executor.stream(note_the_end, tmp_path / "end")
    future = stream.future
    if how == "break":
        for n in stream:
            if n == 40:
                break
        del stream
    elif how == "close":
        assert next(stream) == 0
        stream.close()
        assert list(stream) == []
    else:
        with stream:
            assert next(stream) == 0
    assert future.cancelled()
    assert executor.submit((tmp_path / "end").read_text).result() == "ended"


def test_a_stream_whose_task_is_cancelled_or_too_slow_raises_that(daemon: MiraiExecutor) -> None:
    stream = daemon.stream(itertools.count)
    assert next(stream) == 0
    stream.future.cancel()
    with pytest.raises(CancelledError):
        list(stream)
    limited = daemon.with_options(run_timeout=0.2).stream(itertools.count)
    with pytest.raises(TaskTimeoutError):
        list(limited)


def test_tasks_wait_behind_a_stream_that_nobody_takes_from(daemon: MiraiExecutor) -> None:
    stream = daemon.with_options(buffer=1).stream(count_to, 4)
    futures = [daemon.submit(abs, -n) for n in range(3)]
    assert list(stream) == [0, 1, 2, 3]
    assert [future.result() for future in futures] == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, {"mode": "inline"}], ids=["daemons", "inline"])
def test_the_end_of_an_executor_is_the_end_of_its_streams(options: Any) -> None:
    with MiraiExecutor(1, **options) as executor:
        stream = executor.stream(itertools.count)
        assert next(stream) == 0
    with pytest.raises(CancelledError):
        list(stream)


def test_an_executor_that_nobody_else_has_lives_as_long_as_its_stream() -> None:
    assert list(MiraiExecutor(1).stream(count_to, 40)) == list(range(40))


def test_a_program_ends_though_it_has_an_open_stream() -> None:
    program = (
        "import itertools; from mirai_executor import MiraiExecutor;"
        "stream = MiraiExecutor(1).stream(itertools.count); print(next(stream))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert (run.stdout, run.stderr) == ("0\n", "")


# In coroutines


def test_a_coroutine_takes_values_while_others_go_on(executor: MiraiExecutor) -> None:
    async def main() -> list[int]:
        first, second = executor.stream(count_to, 40), executor.stream(count_to, 3)
        taken = [n async for n in first]
        return taken + [n async for n in second]

    assert asyncio.run(main()) == [*range(40), *range(3)]


def wait_for_ever() -> Iterator[None]:
    threading.Event().wait()
    yield


def test_a_coroutine_that_is_cancelled_stops_the_generator(daemon: MiraiExecutor) -> None:
    async def main() -> MiraiFuture[Any]:
        stream = daemon.stream(wait_for_ever)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.1)
        return stream.future

    assert asyncio.run(main()).cancelled()
    assert daemon.submit(abs, -1).result() == 1


def test_a_stream_can_be_closed_in_a_coroutine(executor: MiraiExecutor) -> None:
    async def main() -> list[bool]:
        futures = []
        async with contextlib.aclosing(executor.stream(itertools.count)) as stream:
            assert await anext(stream) == 0
            futures.append(stream.future)
        async with executor.stream(itertools.count) as stream:
            futures.append(stream.future)
        return [future.cancelled() for future in futures]

    assert asyncio.run(main()) == [True, True]


def test_a_coroutine_hears_of_errors_and_of_cancellations(daemon: MiraiExecutor) -> None:
    async def main() -> None:
        stream = daemon.stream(fail_behind, 1)
        assert await anext(stream) == 0
        with pytest.raises(ValueError, match="at the end"):
            await anext(stream)
        endless = daemon.stream(wait_for_ever)
        asyncio.get_running_loop().call_later(0.05, endless.future.cancel)
        with pytest.raises(asyncio.CancelledError):
            await anext(endless)

    asyncio.run(main())
