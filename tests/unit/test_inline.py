"""``mode="inline"``: tasks run in this process, on copies of what they are given."""

import asyncio
import bdb
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, wait
from typing import Any

import numpy as np
import pytest

from mirai_executor import LaunchError, MiraiExecutor, PayloadError, daemons, mirai

Executor = Callable[..., MiraiExecutor]


@pytest.fixture
def inline() -> Iterator[MiraiExecutor]:
    threads = threading.active_count()
    with MiraiExecutor(2, mode="inline") as executor:
        yield executor
        assert threading.active_count() == threads


def test_a_task_has_run_in_the_submitting_thread_when_submit_returns(
    inline: MiraiExecutor,
) -> None:
    def where() -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    future = inline.submit(where)
    assert (future.done(), future.cancel()) == (True, False)
    assert future.result() == where()


def test_every_way_to_submit_and_to_wait_works(inline: MiraiExecutor) -> None:
    assert list(inline.map(lambda x: 2 * x, range(5), chunksize=2)) == [0, 2, 4, 6, 8]
    assert inline.with_options(timeout=1, retries=1).submit(abs, -1).result() == 1
    assert inline.submit_source("x + 1", x=3).result() == 4
    assert inline.submit(lambda: inline.submit(abs, -2).result()).result() == 2
    future = inline.submit(abs, -3)
    assert wait([future]).done == {future}
    assert list(as_completed([future])) == [future]

    async def awaited() -> int:
        return await asyncio.wrap_future(inline.submit(abs, -4))

    assert asyncio.run(awaited()) == 4


def test_a_coroutine_finds_room_at_once(inline: MiraiExecutor) -> None:
    asyncio.run(inline.room())
    with MiraiExecutor(mode="inline", memory=1) as bounded:
        asyncio.run(bounded.room())
        future = bounded.try_submit(len, b"more than that")
        assert future is not None
        assert future.result() == 14


def test_a_coroutine_that_takes_values_of_an_endless_stream_can_be_cancelled(
    inline: MiraiExecutor,
) -> None:
    async def main() -> None:
        has_begun = asyncio.Event()

        async def take() -> None:
            async for _ in inline.stream(itertools.count):
                has_begun.set()

        taking = asyncio.ensure_future(take())
        await has_begun.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking

    asyncio.run(main())
    assert inline.submit(abs, -1).result() == 1


def test_everywhere_runs_once_and_code_stays_in_main(inline: MiraiExecutor) -> None:
    names = vars(sys.modules["__main__"])
    try:
        (done,) = inline.everywhere("set_inline = x", x=[1])
        assert (done.result(), names["set_inline"]) == (None, [1])
        assert inline.submit_source("set_inline").result() == [1]
    finally:
        names.pop("set_inline", None)


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def increase(self) -> "Counter":
        self.count += 1
        return self


def filled(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    array.fill(1)
    return array


def test_arguments_results_and_the_objects_of_methods_are_copies(inline: MiraiExecutor) -> None:
    items, counter, array = [1], Counter(), np.zeros(50_000)
    assert inline.submit(lambda given: given.append(2), items).result() is None
    assert inline.submit(items.append, 3).result() is None
    changed = inline.submit(counter.increase).result()
    full = inline.submit(filled, array).result()
    assert (items, counter.count, changed.count) == ([1], 0, 1)
    assert (array.sum(), full.sum(), full.flags.writeable) == (0, 50_000, True)
    shared = inline.share(array)
    assert not inline.submit(lambda given: given.flags.writeable, shared).result()


def test_what_cannot_be_pickled_fails_as_with_daemons(inline: MiraiExecutor) -> None:
    error = inline.submit(id, threading.Lock()).exception()
    assert isinstance(error, PayloadError)
    assert "cannot pickle args[0]" in str(error)
    error = inline.submit(lambda: threading.Lock()).exception()
    assert isinstance(error, PayloadError)
    assert "cannot pickle result" in str(error)


def test_an_error_is_the_one_that_was_raised_with_its_frames(inline: MiraiExecutor) -> None:
    def fail(seen: int) -> None:
        raise ValueError(seen)

    error = inline.submit(fail, 3).exception()
    assert isinstance(error, ValueError)
    assert error.__cause__ is None
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_locals == {"seen": 3}
    told = inline.with_options(post_mortem=True).submit(fail, 4).exception()
    assert not hasattr(told, "__notes__"), "it has its frames"
    assert inline.submit(sys.exit, 3).exception().args == (3,)  # type: ignore[union-attr]  # it has


@pytest.mark.parametrize("end", [KeyboardInterrupt, bdb.BdbQuit])
def test_an_interrupt_and_the_end_of_a_debugger_leave_submit(
    inline: MiraiExecutor, end: type[BaseException]
) -> None:
    def stop() -> None:
        raise end

    with pytest.raises(end):
        inline.submit(stop)
    assert inline.submit(abs, -1).result() == 1
    assert inline.status().executing == 0


def test_an_initializer_runs_once_before_the_first_task() -> None:
    calls: list[int] = []
    with MiraiExecutor(mode="inline", initializer=calls.append, initargs=(1,)) as executor:
        assert (calls, executor.status().connections) == ([], 0)
        executor.wait_ready(0)
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
        status = executor.status()
        assert (calls, status.connections, status.completed) == ([1], 1, 2)
        assert (status.rows[0].pid, status.rows[0].state) == (os.getpid(), "ready")


def test_an_initializer_that_raises_fails_all_tasks() -> None:
    def load() -> None:
        raise ValueError("no model")

    with MiraiExecutor(mode="inline", initializer=load) as executor:
        error = executor.submit(abs, -1).exception()
        assert str(error) == "the initializer failed: ValueError: no model"
        with pytest.raises(LaunchError, match="no model"):
            executor.submit(abs, -1)


def test_an_initializer_may_submit_tasks() -> None:
    held: list[Any] = []

    def begin() -> None:
        held.append(held[0].submit(abs, -1).result())

    with MiraiExecutor(mode="inline", initializer=begin) as executor:
        held.append(executor)
        assert executor.submit(abs, -2).result() == 2
    assert held[1] == 1


@pytest.mark.parametrize("end", [MiraiExecutor.shutdown, MiraiExecutor.kill_workers])
def test_after_its_end_it_takes_no_task(end: Callable[[MiraiExecutor], None]) -> None:
    executor = MiraiExecutor(mode="inline")
    future = executor.submit(abs, -1)
    end(executor)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, -1)
    assert future.result() == 1


def test_mirai_runs_inline_too() -> None:
    options: Any = {"mode": "inline"}
    with daemons(1, **options):
        assert mirai(os.getpid).result() == os.getpid()
