"""A future has what somebody needs of it, made when they do, and each end is told once."""

import concurrent.futures
import gc
import itertools
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any, cast

import pytest

from mirai_executor import futures
from mirai_executor._core import TaskId
from mirai_executor.futures import MiraiFuture

PATIENCE = 30.0


class Nobody:
    def cancel(self, task: TaskId, *, running: bool) -> None:
        pass


def new_future() -> MiraiFuture[int]:
    return MiraiFuture(TaskId(1), Nobody())


def end(future: MiraiFuture[int], finish: Callable[[MiraiFuture[int]], None]) -> None:
    """Do what a host does with a task that has been sent."""
    if not future.start():
        future.end_cancelled()
        return
    try:
        finish(future)
    except InvalidStateError:
        future.end_cancelled()


def with_a_value(future: MiraiFuture[int]) -> None:
    future.set_value(7)


def with_bytes(future: MiraiFuture[int]) -> None:
    future.set_outcome(int, "7", failed=False)


ENDS = [with_a_value, with_bytes]


def wait_for(future: MiraiFuture[int]) -> bool:
    """Tell whether it has been cancelled."""
    try:
        assert future.result(PATIENCE) == 7
    except CancelledError:
        return True
    return False


def wait_beside_another(future: MiraiFuture[int]) -> bool:
    other = new_future()
    other.cancel()
    other.end_cancelled()
    done, _ = concurrent.futures.wait([future, other], PATIENCE)
    assert done == {future, other}
    return future.cancelled()


def be_called(future: MiraiFuture[int]) -> bool:
    calls: list[bool] = []
    called = threading.Semaphore(0)

    def call(_: object) -> None:
        calls.append(future.cancelled())
        called.release()

    future.add_done_callback(call)
    assert called.acquire(timeout=PATIENCE)
    assert len(calls) == 1
    return calls[0]


def cancel(future: MiraiFuture[int]) -> bool:
    claimed = future.cancel()
    assert wait_for(future) is claimed
    return claimed


LOOKS = [wait_for, wait_beside_another, be_called, cancel]


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("finish", ENDS)
@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_when_it_ends_hears_of_it_once(
    look: Callable[[MiraiFuture[int]], bool], finish: Callable[[MiraiFuture[int]], None]
) -> None:
    rounds = 300
    waiting = [new_future() for _ in range(rounds)]
    gate = threading.Barrier(3)
    said: list[list[bool]] = [[], []]

    def look_at_all(mine: list[bool]) -> None:
        for future in waiting:
            gate.wait(PATIENCE)
            mine.append(look(future))

    threads = [threading.Thread(target=look_at_all, args=(mine,)) for mine in said]
    for thread in threads:
        thread.start()
    moments = random.Random(7)
    for future in waiting:
        gate.wait(PATIENCE)
        for _ in range(moments.randrange(60)):
            threading.get_ident()
        end(future, finish)
    for thread in threads:
        thread.join(PATIENCE)
    assert said[0] == said[1] == [future.cancelled() for future in waiting]
    if look is not cancel:
        assert not any(said[0])


@pytest.mark.parametrize("finish", ENDS)
def test_it_ends_once(finish: Callable[[MiraiFuture[int]], None]) -> None:
    for again, asked_before in itertools.product(ENDS, [False, True]):
        future = new_future()
        if asked_before:
            future.add_done_callback(id)
        assert future.start()
        assert future.start()  # a retry
        finish(future)
        with pytest.raises(InvalidStateError):
            again(future)
        assert not future.start()
        assert not future.cancel()
        future.end_cancelled()
        assert future.result() == 7


@pytest.mark.parametrize("finish", ENDS)
def test_one_that_is_cancelled_takes_no_result(
    finish: Callable[[MiraiFuture[int]], None],
) -> None:
    for has_started in (False, True):
        future = new_future()
        if has_started:
            future.start()
        assert future.cancel()
        assert not future.start()
        with pytest.raises(InvalidStateError):
            finish(future)
        future.end_cancelled()
        with pytest.raises(CancelledError):
            future.result()


def test_a_forked_child_can_use_futures_though_a_thread_of_the_parent_was_at_one() -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with futures._common_lock:
            held.set()
            go_on.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE)
    try:
        if not (pid := os.fork()):
            future = new_future()
            end(future, with_a_value)
            os._exit(future.result())
        _, status = os.waitpid(pid, 0)
    finally:
        go_on.set()
        thread.join()
    assert os.waitstatus_to_exitcode(status) == 7


def test_no_garbage_is_collected_while_all_others_wait() -> None:
    # It runs any code, which may wait for a future that needs the same lock.
    def note(phase: str, info: object) -> None:
        held.append(futures._common_lock._is_owned())  # type: ignore[attr-defined]

    held: list[bool] = []
    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    gc.callbacks.append(note)
    try:
        for finish in ENDS:
            for _ in range(50):
                future = new_future()
                assert not future.done()
                end(future, finish)
                end(new_future(), finish)
                assert future.result() == 7
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*thresholds)
    assert held
    assert not any(held)


def test_what_the_standard_library_looks_for_is_there() -> None:
    future = cast("Any", new_future())
    with future._condition:
        assert (future._waiters, future._done_callbacks) == ([], [])
        assert future._state == "PENDING"
