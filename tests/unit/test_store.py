"""Copies what is large in a call at its submission, up to a budget, and later beyond that."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor import _arena
from mirai_executor._arena import whole
from mirai_executor._host import _store
from mirai_executor._host._store import BULKY, Deferred, Store

SIZE = 1 << 20
BUDGET = 3 * SIZE


@pytest.fixture(params=[True, False], ids=["shared", "in frames"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param and not _arena.available():
        pytest.skip("no shared memory here")
    monkeypatch.setattr(_store, "_BUDGET", BUDGET)
    store = Store(shared=request.param)
    yield store
    store.close()


def bytes_of(store: Store, buffer: Any) -> bytes:
    """Return what a buffer has copied, wherever it lies."""
    if isinstance(buffer, tuple):
        return bytes(store._pool().view(_arena.Place(*buffer)))
    return whole(buffer)


def fill(store: Store) -> list[int]:
    """Have a store copy until its budget is used up; return the tasks."""
    tasks: list[int] = []
    for task in itertools.count(1):
        _, buffers = store.take(task, b"x", [memoryview(bytearray(SIZE))], 0)
        if isinstance(buffers, Deferred):
            return tasks
        tasks.append(task)
    raise AssertionError


def test_calls_are_copied_at_submission_until_the_budget_is_used_up(store: Store) -> None:
    # The last one that is copied may pass it: else what is larger never would be.
    assert fill(store) == [1, 2, 3]
    store.let_go(2)
    data = bytearray(SIZE)
    blob, buffers = store.take(9, b"x", [memoryview(data)], 0)
    data[0] = 1
    assert (blob, bytes_of(store, buffers[0])) == (b"x", bytes(SIZE))


def test_beyond_the_budget_memory_is_copied_when_the_task_is_sent(store: Store) -> None:
    fill(store)
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(SIZE, dtype=numpy.uint8)
    blob, deferred = store.take(9, b"x", [memoryview(array)], 0)
    assert blob == b"x"
    array[0] = 1
    copied = store.copy(9, deferred, 0)
    array[1] = 1
    assert bytes_of(store, copied[0]) == bytes([1, 0]) + bytes(SIZE - 2)


def test_what_is_not_bulky_is_never_deferred(store: Store) -> None:
    fill(store)
    assert store.take(9, bytes(BULKY), (), 0) == (bytes(BULKY), ())


@pytest.mark.parametrize("apart", [True, False])
def test_equal_pieces_of_deferred_pickles_are_kept_once(store: Store, apart: bool) -> None:
    fill(store)
    body = bytes(range(256)) * 4096
    kept: list[Any] = []
    for task in range(4):
        pickle = body + b"%d" % task
        pieces = [pickle[at : at + BULKY] for at in range(0, len(pickle), BULKY)]
        blob, (last,) = (
            store.take(10 + task, b"", [pieces], 0)
            if apart
            else store.take(10 + task, pickle, (), 0)
        )
        assert blob == b""
        assert whole(last) == pickle
        kept.append(last)
    distinct = {id(piece): len(piece) for pieces in kept for piece in pieces}
    assert sum(distinct.values()) < len(body) + 100


def test_a_deferred_bytearray_can_change_its_size(store: Store) -> None:
    fill(store)
    data = bytearray(SIZE)
    _, deferred = store.take(9, b"x", [memoryview(data)], 0)
    data.extend(b"more")
    assert bytes_of(store, store.copy(9, deferred, 0)[0]) == bytes(SIZE)


def test_what_may_be_sent_again_stays_as_it_was_when_it_was_sent_first(store: Store) -> None:
    fill(store)
    _, deferred = store.take(9, b"x", [memoryview(b"a" * SIZE)], 1)
    assert store.copy(9, deferred, 1) == (b"a" * SIZE,)


@pytest.mark.parametrize("store", [True], indirect=True, ids=["shared"])
def test_shared_buffers_count_for_nothing(store: Store) -> None:
    fill(store)
    (view,) = store.share([memoryview(bytes(SIZE))])
    _, buffers = store.take(9, b"x", [view], 0)
    assert type(buffers) is tuple
