"""Calls with large arguments may wait by the hundred: they need little more memory than one."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import arrays, mischief
from live.mischief import SOON, running
from mirai_executor._host import _store
from mirai_executor._host._store import Store

SIZE = 1 << 20
BUDGET = 2 * SIZE
CALLS = 24


@pytest.fixture(autouse=True)
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store, "_BUDGET", BUDGET)


def sized(value: Any, number: int) -> tuple[int, int]:
    return len(value), number


def submit(executor: Any, value: Any, number: int) -> Any:
    return executor.submit(sized, value, number)


def submit_source(executor: Any, value: Any, number: int) -> Any:
    return executor.submit_source("len(value), number", value=value, number=number)


@pytest.mark.parametrize(
    ("how", "value"),
    [
        (submit, np.ones(SIZE, dtype=np.uint8)),
        (submit, np.ones(SIZE // 8, dtype=np.uint8)),  # too small to be a buffer of its own
        (submit, list(map(float, range(SIZE // 8)))),
        (submit, "text" * (SIZE // 4)),
        (submit_source, list(map(float, range(SIZE // 8)))),
    ],
    ids=["array", "small array", "list", "text", "list of code"],
)
def test_the_same_object_many_times_takes_little_more_memory_than_once(
    how: Callable[..., Any], value: Any, gate: Path
) -> None:
    with running(1) as executor:
        blocker = executor.submit(mischief.block_until_open, gate)
        tracemalloc.start()
        try:
            futures = [how(executor, value, number) for number in range(CALLS)]
            queued, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        pool = executor._host._store._made
        queued += 0 if pool is None else pool.size
        assert queued < BUDGET + 3 * SIZE
        gate.write_bytes(b"go")
        assert blocker.result(SOON) == b"go"
        assert [it.result(SOON) for it in futures] == [(len(value), n) for n in range(CALLS)]


def test_beyond_the_budget_a_task_sees_arrays_as_they_are_when_it_is_sent(gate: Path) -> None:
    array = np.zeros(SIZE, dtype=np.uint8)
    with running(1) as executor:
        blocker = executor.submit(mischief.block_until_open, gate)
        futures = [executor.submit(arrays.total, array) for _ in range(4)]
        array[0] = 1
        gate.write_bytes(b"go")
        assert blocker.result(SOON) == b"go"
        assert [future.result(SOON) for future in futures] == [0, 0, 1, 1]


def test_a_call_that_is_cancelled_before_it_is_sent_is_never_copied(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    copy = Store.copy

    def note(store: Store, task: int, *rest: Any) -> Any:
        copied.append(task)
        return copy(store, task, *rest)

    monkeypatch.setattr(Store, "copy", note)
    array = np.zeros(SIZE, dtype=np.uint8)
    with running(1) as executor:
        blocker = executor.submit(mischief.block_until_open, gate)
        futures = [executor.submit(arrays.total, array) for _ in range(6)]
        assert all(future.cancel() for future in futures[:-1])
        assert executor.status().awaiting == 1
        gate.write_bytes(b"go")
        assert blocker.result(SOON) == b"go"
        assert futures[-1].result(SOON) == 0
        assert copied == [futures[-1].id]


def test_a_call_for_which_there_is_no_memory_fails_and_no_other(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Store, "copy", fail)
    array = np.zeros(SIZE, dtype=np.uint8)
    with running(1) as executor:
        blocker = executor.submit(mischief.block_until_open, gate)
        *_, deferred = [executor.submit(arrays.total, array) for _ in range(3)]
        after = executor.submit(abs, -1)
        gate.write_bytes(b"go")
        assert blocker.result(SOON) == b"go"
        assert isinstance(deferred.exception(SOON), MemoryError)
        assert after.result(SOON) == 1


def test_a_deferred_call_is_retried_with_what_was_sent_first(tmp_path: Path, gate: Path) -> None:
    array = np.ones(SIZE, dtype=np.uint8)
    with running(1, output=False) as executor:
        blocker = executor.submit(mischief.block_until_open, gate)
        for _ in range(2):
            executor.submit(arrays.total, array)
        view = executor.with_options(retries=1)
        future = view.submit(arrays.spoil_and_die_once, tmp_path / "flag", array)
        gate.write_bytes(b"go")
        assert blocker.result(SOON) == b"go"
        assert future.result(SOON) == SIZE
