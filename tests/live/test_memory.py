"""Where the queue has a bound, who submits waits until there is room, and never in vain."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import arrays, mischief
from live.mischief import SOON, running
from mirai_executor import (
    DaemonLostError,
    MemoryStatus,
    MiraiExecutor,
    TaskTimeoutError,
    daemons,
    mirai,
    try_mirai,
)

ROOM = 100_000
LOAD = b"x" * 60_000  # of which one has room in the queue


class Told(dict[Any, Any]):
    """What a gate knows of those who wait; says when somebody does."""

    def __init__(self) -> None:
        super().__init__()
        self.has_one = threading.Event()

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.has_one.set()


class Full:
    """An executor whose daemon is busy, and whose queue has room for no second load."""

    def __init__(self, executor: MiraiExecutor, path: Path) -> None:
        os.mkfifo(path)
        self.executor, self._path = executor, path
        self.blocker = executor.submit(mischief.block_until_open, path)
        self.queued = executor.submit(len, LOAD)
        gate = executor._host.gate
        assert gate is not None
        self.told = gate._told = Told()

    def wait_until_somebody_waits(self) -> None:
        assert self.told.has_one.wait(SOON)

    def go_on(self) -> None:
        self._path.write_bytes(b"go")

    def kill_daemon(self) -> None:
        gate = os.open(self._path, os.O_WRONLY)  # returns once the task is there to read
        os.kill(self.executor.status().rows[0].pid, signal.SIGKILL)
        os.close(gate)

    @property
    def memory(self) -> MemoryStatus:
        memory = self.executor.status().memory
        assert memory is not None
        return memory


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def full(tmp_path: Path, thread: object) -> Iterator[Full]:  # which ends after it
    with running(1, memory=ROOM, ordering="strict") as executor:
        yield Full(executor, tmp_path / "gate")
        executor.cancel_all()  # of a test that has failed


def waits(full: Full, thread: ThreadPoolExecutor, submit: Callable[..., Any]) -> Future[Any]:
    """Have another thread submit; return what it will return, once it waits."""
    waiting = thread.submit(submit, len, LOAD)
    full.wait_until_somebody_waits()
    assert not waiting.done()
    return waiting


def test_submit_waits_until_a_daemon_takes_a_task(full: Full, thread: ThreadPoolExecutor) -> None:
    waiting = waits(full, thread, full.executor.submit)
    assert len(LOAD) < full.memory.used <= full.memory.peak < ROOM == full.memory.capacity
    full.go_on()
    assert waiting.result(SOON).result(SOON) == len(LOAD)
    assert full.queued.result(SOON) == len(LOAD)
    assert (full.memory.used, full.memory.peak < ROOM) == (0, True)


def test_a_cancelled_task_makes_room(full: Full, thread: ThreadPoolExecutor) -> None:
    waiting = waits(full, thread, full.executor.submit)
    assert full.queued.cancel()
    assert not waiting.result(SOON).done()
    full.go_on()


def test_a_task_whose_time_is_over_makes_room(tmp_path: Path, thread: ThreadPoolExecutor) -> None:
    with running(1, memory=ROOM) as executor:
        brief = executor.with_options(timeout=0.2)
        full = Full(executor, tmp_path / "gate")
        full.queued.cancel()
        late = brief.submit(len, LOAD)
        waiting = waits(full, thread, executor.submit)
        assert isinstance(late.exception(SOON), TaskTimeoutError)
        full.go_on()
        assert waiting.result(SOON).result(SOON) == len(LOAD)


def test_who_waits_for_longer_than_the_timeout_has_a_future_that_says_so(full: Full) -> None:
    error = full.executor.with_options(timeout=0.05).submit(len, LOAD).exception(SOON)
    assert "no room in the queue 0.05 s after submission" in str(error)
    assert isinstance(error, TaskTimeoutError)
    assert not full.told
    full.go_on()
    assert full.executor.submit(len, LOAD).result(SOON) == len(LOAD)


def test_a_crash_makes_room(full: Full, thread: ThreadPoolExecutor) -> None:
    waiting = waits(full, thread, full.executor.submit)
    full.kill_daemon()
    assert isinstance(full.blocker.exception(SOON), DaemonLostError)
    assert waiting.result(SOON).result(SOON) == len(LOAD)


@pytest.mark.parametrize("how", ["shutdown", "kill_workers"])
def test_an_executor_that_ends_lets_nobody_wait(
    full: Full, thread: ThreadPoolExecutor, how: str
) -> None:
    waiting = waits(full, thread, full.executor.submit)
    if how == "shutdown":
        full.executor.shutdown(wait=False, cancel_futures=True)
    else:
        full.executor.kill_workers()
    with pytest.raises(RuntimeError, match="after shutdown"):
        waiting.result(SOON)
    if how == "shutdown":
        full.go_on()


def test_an_interrupt_ends_the_wait_and_nothing_is_queued(
    full: Full, request: pytest.FixtureRequest
) -> None:
    struck = threading.Event()

    def strike_once(*_: object) -> None:
        if not struck.is_set():
            struck.set()
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, strike_once)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupt() -> None:
        full.wait_until_somebody_waits()
        # A signal that comes after Python's last look, and before the wait, ends no wait.
        while not struck.wait(0.1):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            full.executor.submit(len, LOAD)
    finally:
        helper.join()
    assert (full.told, full.executor.status().awaiting) == ({}, 1)
    full.go_on()
    assert full.executor.submit(len, LOAD).result(SOON) == len(LOAD)


def test_a_callback_never_waits_but_passes_the_bound(full: Full) -> None:
    submitted: Future[Any] = Future()

    def submit(_: object) -> None:
        turned_away = full.executor.try_submit(len, LOAD * 2)
        both = [full.executor.submit(len, LOAD), full.executor.submit(len, LOAD)]
        submitted.set_result((turned_away, both, full.memory.used > ROOM))

    full.blocker.add_done_callback(submit)
    full.go_on()
    turned_away, both, is_beyond = submitted.result(SOON)
    assert turned_away is None or turned_away.result(SOON) == 2 * len(LOAD)
    assert is_beyond
    assert [it.result(SOON) for it in both] == [len(LOAD)] * 2


def test_try_submit_and_try_mirai_return_none_where_there_is_no_room(tmp_path: Path) -> None:
    with daemons(1, memory=ROOM) as executor:
        full = Full(executor, tmp_path / "gate")
        assert executor.try_submit(len, LOAD) is None
        assert executor.try_submit_source("len(x)", x=LOAD) is None
        assert (try_mirai(len, LOAD), try_mirai("len(x)", x=LOAD)) == (None, None)
        assert full.memory.used < ROOM
        small = executor.with_options(retries=1).try_submit(len, b"12")
        code = try_mirai("len(x)", x=b"12")
        full.go_on()
        for future in (small, code, mirai(len, b"12")):
            assert future is not None
            assert future.result(SOON) == 2


def test_a_call_that_is_turned_away_takes_no_random_numbers(tmp_path: Path) -> None:
    with running(1, memory=ROOM, seed=7) as executor:
        full = Full(executor, tmp_path / "gate")
        assert executor.try_submit(len, LOAD) is None
        assert executor.try_submit(len, LOAD[:50_000]) is None
        with pytest.raises(TypeError):
            executor.try_submit(None)  # type: ignore[arg-type]
        sequence = executor.next_stream()
        full.go_on()
    assert sequence is not None
    assert sequence.spawn_key == (2,)


def test_a_coroutine_waits_for_room_for_the_call_that_was_turned_away(full: Full) -> None:
    async def submit() -> tuple[int, int]:
        tries = 1
        while (future := full.executor.try_submit(len, LOAD)) is None:
            waiting = asyncio.ensure_future(full.executor.room())
            await asyncio.sleep(0)
            assert full.told
            if tries == 1:
                full.go_on()
            tries += 1
            await waiting
        return tries, await asyncio.wrap_future(future)

    async def both() -> Any:
        return await asyncio.wait_for(asyncio.gather(submit(), full.executor.room()), SOON)

    (tries, length), _ = asyncio.run(both())
    assert (tries, length) == (2, len(LOAD))
    asyncio.run(full.executor.room())  # there is


def test_a_coroutine_that_is_cancelled_waits_no_more(full: Full) -> None:
    async def give_up() -> None:
        assert full.executor.try_submit(len, LOAD) is None
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(full.executor.room(), 0.01)
        assert not full.told

    asyncio.run(give_up())
    full.go_on()


def test_a_coroutine_that_waits_for_room_hears_of_the_end(full: Full) -> None:
    async def end() -> None:
        assert full.executor.try_submit(len, LOAD) is None
        waiting = asyncio.ensure_future(full.executor.room())
        await asyncio.sleep(0)
        full.executor.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="after shutdown"):
            await waiting
        with pytest.raises(RuntimeError, match="after shutdown"):
            await full.executor.room()

    asyncio.run(end())
    full.go_on()


def test_a_map_submits_as_there_is_room() -> None:
    with running(2, memory=ROOM) as executor:
        loads = [LOAD] * 8
        assert list(executor.map(len, loads)) == [len(LOAD)] * 8
        assert list(executor.map(len, loads, buffersize=3)) == [len(LOAD)] * 8
        memory = executor.status().memory
    assert memory is not None
    assert memory.peak < ROOM


def test_arrays_count_as_they_are_and_are_copied_before_submit_returns(tmp_path: Path) -> None:
    array = np.zeros(1 << 20, dtype=np.uint8)
    with running(1, memory=3 << 20) as executor:
        shared = executor.share(array)
        full = Full(executor, tmp_path / "gate")
        futures = [executor.submit(arrays.total, array) for _ in range(2)]
        futures += [executor.submit(arrays.total, shared) for _ in range(4)]
        assert 2 << 20 < full.memory.used < (2 << 20) + ROOM
        array[:] = 1
        assert executor.try_submit(arrays.total, array) is None
        full.go_on()
        assert [it.result(SOON) for it in futures] == [0] * 6


def test_without_a_bound_there_always_is_room() -> None:
    with MiraiExecutor(1, mode="inline") as executor:
        assert executor.status().memory is None
        asyncio.run(executor.room())
        future = executor.try_submit(len, LOAD)
        assert future is not None
        assert future.result(SOON) == len(LOAD)
    with MiraiExecutor(1, mode="inline", memory=1) as executor:
        assert executor.submit(len, LOAD).result(SOON) == len(LOAD)
        assert executor.status().memory == MemoryStatus(0, 0, 1)
    for wrong, error in ((0, ValueError), ("1 MB", TypeError)):
        with pytest.raises(error, match="memory must be"):
            MiraiExecutor(1, memory=wrong)  # type: ignore[arg-type]
