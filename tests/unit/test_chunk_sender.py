"""What a chunk of elements knows of those that it runs."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from mirai_executor._host import Options
from mirai_executor._maps._chunks import Chunk, ChunkSender
from mirai_executor._maps._late_futures import LateFutures


class FakeFutures:
    ids = (11, 12, 13, 14, 15)


class FakeTask:
    id = 20


def test_what_has_begun_stands_up_to_the_last_element_that_a_daemon_began() -> None:
    futures: Any = FakeFutures()
    task: Any = FakeTask()
    chunk = Chunk(futures, [4, 1, 2], task)  # it was sent again
    assert [chunk.begun_at(20, element) for element in (15, 12, 13)] == [1, 2, 3]


def test_nothing_has_begun_of_a_chunk_whose_daemon_ended_before_its_first_element() -> None:
    futures: Any = FakeFutures()
    task: Any = FakeTask()
    assert Chunk(futures, range(2), task).begun_at(20, 15) == 0


def test_all_have_begun_of_a_chunk_whose_daemon_had_begun_another_one_or_nobody_knows() -> None:
    futures: Any = FakeFutures()
    task: Any = FakeTask()
    chunk = Chunk(futures, range(2, 5), task)
    assert [chunk.begun_at(21, 11), chunk.begun_at(None, 11), chunk.begun_at(20, None)] == [3] * 3


class QuickHost:
    """Ends a task that is cancelled before whoever cancels it goes on, as a host thread may."""

    connections = 2

    def __init__(self) -> None:
        self.sent: dict[int, Any] = {}
        self.next_id = itertools.count(1).__next__

    def take(self, call: Any) -> Any:
        return call

    def owns_this_thread(self) -> bool:
        return False

    def call_soon(self, step: Callable[[], None]) -> None:
        step()

    def submit(self, task: int, future: Any, *_: Any) -> None:
        self.sent[task] = future

    def cancel(self, task: int, *, running: bool) -> None:
        if running or self.sent[task].running() is False:
            self.sent[task].end_cancelled()


@pytest.fixture
def futures() -> LateFutures:
    host: Any = QuickHost()
    sender = ChunkSender(host, Options(), abs, kind=None)
    futures = LateFutures(range(4), host, Options(), sender)
    sender._send_chunk(range(4), futures)
    return futures


def test_the_others_of_a_chunk_are_sent_again_however_quickly_the_host_ends_it(
    futures: LateFutures,
) -> None:
    host: Any = futures._canceller._stopper._host  # type: ignore[attr-defined]
    assert futures[1].cancel()
    assert [futures.is_cancelled(place) for place in range(4)] == [False, True, False, False]
    assert set(host.sent) > {futures.ids[place] for place in (0, 2, 3)}


def test_no_element_of_a_chunk_that_had_begun_is_sent_again(futures: LateFutures) -> None:
    host: Any = futures._canceller._stopper._host  # type: ignore[attr-defined]
    chunk = futures.chunks[0]
    assert chunk.task.start()
    assert not futures[1].cancel_queued()
    assert chunk.task.cancel()
    assert [futures.is_cancelled(place) for place in range(4)] == [True] * 4
    assert list(host.sent) == [chunk.task.id]


def test_no_element_is_sent_again_when_all_of_them_are_cancelled(futures: LateFutures) -> None:
    sender: Any = futures._canceller._stopper
    host = sender._host
    host.cancel = lambda *_, **__: None  # the host thread is slower this time
    chunk = futures.chunks[0]
    sender.cancel_all()
    assert futures[3].cancel()
    chunk.task.end_cancelled()
    assert list(host.sent) == [chunk.task.id]
    assert [futures[place].cancelled() for place in range(4)] == [True] * 4


def test_an_element_that_is_stopped_while_its_chunk_is_split_never_becomes_a_task(
    futures: LateFutures,
) -> None:
    host: Any = futures._canceller._stopper._host  # type: ignore[attr-defined]
    assert futures[1].cancel()
    assert futures.ids[1] not in host.sent


def test_who_is_stopped_between_two_chunks_is_stopped_in_the_second_one(
    futures: LateFutures,
) -> None:
    sender: Any = futures._canceller._stopper
    host, stopped = sender._host, list[int]()
    left = [2, 3]
    futures.chunks[2] = futures.chunks[3] = None  # taken out of the first
    host.cancel = lambda task, **_: stopped.append(task)  # there is no such task yet
    assert futures[2].cancel()
    sender._send_chunk(left, futures)
    second = futures.chunks[3].task.id
    assert stopped == [futures.ids[2], second]  # and the third is sent again by itself


def test_the_rest_of_a_chunk_that_cannot_be_sent_again_ends_in_the_error(
    futures: LateFutures,
) -> None:
    sender: Any = futures._canceller._stopper
    chunk = futures.chunks[0]

    def refuse(*_: Any) -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    sender._host.submit = refuse
    chunk.take_out()
    sender._send_rest(chunk, 0)
    futures.end(chunk)
    assert futures.wait(stop=False)
    assert {type(futures[place].exception()) for place in range(4)} == {RuntimeError}
