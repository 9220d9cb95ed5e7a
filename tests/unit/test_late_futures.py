"""The futures of elements that end by chunks: made late, they are what others are."""

import asyncio
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, as_completed, wait
from itertools import count
from typing import Any

import pytest

from mirai_executor._host import Options
from mirai_executor._maps._late_futures import LateFutures
from mirai_executor.daemon._elements import FAILED, PICKLED, PLAIN, SKIPPED

SOON = 20.0


class FakeHost:
    def __init__(self) -> None:
        self._ids = count(10)
        self.owns = False

    def next_id(self) -> int:
        return next(self._ids)

    def owns_this_thread(self) -> bool:
        return self.owns

    def call_soon(self, step: Callable[[], None]) -> None:
        step()


class Stops:
    """Notes what is to be stopped."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, bool]] = []

    def stop(self, futures: LateFutures, place: int, *, running: bool) -> None:
        self.noted.append((place, running))


class Elements:
    """Elements whose chunks are ended by the test, as the host thread would."""

    def __init__(self, size: int, options: Options = Options()) -> None:  # noqa: B008 - never changes
        self.host, self.stops = FakeHost(), Stops()
        host: Any = self.host
        self.futures = LateFutures(list(range(size)), host, options, self.stops)
        self.futures.begin("chunk")

    def end(self, places: Any, outcomes: list[Any], how: bytes = b"") -> None:
        self.futures.put_all(places, how, outcomes)

    def end_all(self, places: Any, outcomes: list[Any], how: bytes = b"") -> None:
        self.end(places, outcomes, how)
        self.futures.end("chunk")

    @property
    def made(self) -> list[int]:
        return sorted(self.futures._made)


def pickled(error: BaseException) -> bytes:
    from mirai_executor._payload.daemon import encode_error

    return encode_error(error)


def test_values_come_without_a_future_being_made() -> None:
    elements = Elements(3)
    assert [elements.futures.has_value(at) for at in range(3)] == [False] * 3
    elements.end_all(range(3), [4, pickle.dumps([5]), "six"], bytes([PLAIN, PICKLED, PLAIN]))
    futures = elements.futures
    assert futures.wait(stop=True)
    assert futures.values() == [4, [5], "six"]
    assert [futures.value(at) for at in range(3)] == [4, [5], "six"]
    assert [futures.error_of(at) for at in range(3)] == [None] * 3
    assert list(futures.ended()) == [0, 1, 2]
    assert (futures.cancel(), elements.made) == (0, [])


def test_a_value_is_the_same_object_for_all_who_ask() -> None:
    elements = Elements(2)
    before = elements.futures[0]
    elements.end_all(range(2), [pickle.dumps([1]), pickle.dumps([2])], bytes([PICKLED] * 2))
    futures = elements.futures
    assert futures.value(0) is before.result() is futures[0].result()
    assert futures.value(1) is futures[1].result() is futures.value(1)


def test_a_future_ends_whether_it_was_made_before_its_chunk_ended_or_later() -> None:
    elements = Elements(3)
    first = elements.futures[0]
    told: list[Any] = []
    first.add_done_callback(told.append)
    assert not first.done()
    elements.end_all(range(3), [1, 2, 3])
    assert (first.result(SOON), told) == (1, [first])
    assert elements.futures[0] is first
    assert wait(elements.futures, SOON).not_done == set()
    assert sorted(future.result() for future in as_completed(elements.futures, SOON)) == [1, 2, 3]


def test_slices_and_places_from_the_end_are_those_of_a_list() -> None:
    futures = Elements(3).futures
    assert futures[-1] is futures[2]
    assert futures[1:] == [futures[1], futures[2]] == list(futures)[1:]
    with pytest.raises(IndexError):
        futures[3]


def test_what_has_not_begun_ends_later_and_elsewhere() -> None:
    elements = Elements(4)
    elements.futures.begin("rest")
    elements.end_all(range(4), [1, 2])
    assert [elements.futures.is_done(at) for at in range(4)] == [True, True, False, False]
    elements.end([3, 2], [4, 3])
    elements.futures.end("rest")
    assert elements.futures.values() == [1, 2, 3, 4]


def test_errors_are_of_futures_and_end_a_wait_that_stops_at_them() -> None:
    elements = Elements(4)
    elements.futures.begin("another")
    outcomes = [1, pickled(ValueError("two")), None, 4]
    elements.end_all(range(4), outcomes, bytes([PLAIN, FAILED, SKIPPED, PLAIN]))
    futures = elements.futures
    assert not futures.wait(stop=True)  # all have not ended
    assert futures.values() is None
    assert str(futures.error_of(1)) == "two"
    assert isinstance(futures.error_of(2), CancelledError)
    assert (futures.value(0), futures.value(3), elements.made) == (1, 4, [1, 2])
    done, _ = wait(futures, SOON, FIRST_EXCEPTION)
    assert len(done) == 4


def test_a_value_that_cannot_be_unpickled_is_an_error_of_its_element() -> None:
    elements = Elements(2)
    elements.end_all(range(2), [pickle.dumps([0]), b"\x80no pickle"], bytes([PICKLED] * 2))
    assert elements.futures.values() is None
    assert elements.futures.value(0) == [0]
    error = elements.futures.error_of(1)
    assert error is not None
    with pytest.raises(type(error)) as raised:
        elements.futures.value(1)
    assert raised.value is error is elements.futures[1].exception()


def test_who_waits_for_all_is_told_by_the_last_chunk() -> None:
    elements = Elements(2)
    elements.futures.begin("another")
    over: list[bool] = []
    begun = threading.Event()

    def wait_for_all() -> None:
        begun.set()
        over.append(elements.futures.wait(stop=False))

    waiting = threading.Thread(target=wait_for_all)
    waiting.start()
    begun.wait(SOON)
    elements.end(range(1), [1])
    elements.futures.end("chunk")
    assert over == []
    elements.end(range(1, 2), [2])
    elements.futures.end("another")
    waiting.join(SOON)
    assert over == [True]


def test_the_host_thread_is_told_that_it_would_wait_for_itself() -> None:
    elements = Elements(1)
    elements.host.owns = True
    with pytest.raises(RuntimeError, match="wait for itself"):
        elements.futures.wait(stop=True)
    with pytest.raises(RuntimeError, match="wait for itself"):
        elements.futures.value(0)


def test_a_coroutine_that_waits_is_told_and_stops_nothing_itself() -> None:
    elements = Elements(2)

    async def wait_for_all() -> None:
        waiting = asyncio.ensure_future(elements.futures.waited())
        await asyncio.sleep(0)
        elements.end_all(range(2), [1, 2])
        await waiting
        elements.futures.begin("again")
        waiting = asyncio.ensure_future(elements.futures.waited())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(wait_for_all())
    assert elements.stops.noted == []


def test_places_are_told_as_their_elements_end() -> None:
    elements = Elements(3)
    ended = elements.futures.ended()
    elements.end([2], [3])
    assert next(ended) == 2
    later = threading.Thread(target=elements.end_all, args=(range(2), [1, 2]))
    later.start()
    assert list(ended) == [0, 1]
    later.join()


def test_a_future_stops_its_own_element_whose_value_then_comes_too_late() -> None:
    elements = Elements(3)
    second = elements.futures[1]
    assert second.cancel()
    assert elements.stops.noted == [(1, True)]
    assert elements.futures.is_cancelled(1)
    elements.end_all(range(3), [1, 2, 3])
    assert second.cancelled()
    assert wait([second], SOON).done == {second}
    assert elements.futures.values() is None
    assert isinstance(elements.futures.error_of(1), CancelledError)


def test_all_are_cancelled_but_those_that_have_ended_from_last_to_first() -> None:
    elements = Elements(4)
    elements.end(range(1, 2), [2])
    assert elements.futures.cancel() == 3
    assert elements.stops.noted == [(3, True), (2, True), (0, True)]


def test_futures_have_the_options_of_their_map() -> None:
    elements = Elements(2, Options(cancel_running=False, cancel_on_interrupt=True))
    assert elements.futures.cancels_on_interrupt
    future = elements.futures[0]
    assert future.start()
    assert not future.cancel()
    assert elements.stops.noted == [(0, False)]


def test_an_element_that_becomes_a_task_ends_with_its_future() -> None:
    elements = Elements(2)
    future = elements.futures.begin_task(1)
    elements.end_all(range(1), [1])
    assert not elements.futures.is_done(1)
    future.set_exception(OSError())
    assert elements.futures.wait(stop=False)
    assert list(elements.futures.ended()) == [0, 1]
    assert isinstance(elements.futures.error_of(1), OSError)


def test_nothing_of_a_map_is_left_to_the_garbage_collector() -> None:
    class Value:
        pass

    elements = Elements(2)
    value = Value()
    gone = weakref.ref(value)
    futures: list[Future[Any]] = list(elements.futures)
    elements.end_all(range(2), [value, 1])
    del value, elements, futures
    gc.disable()
    try:
        assert gone() is None
    finally:
        gc.enable()
