"""Threads that share the iterator of a map take each result once."""

import collections
import threading
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from mirai_executor._maps import _map
from mirai_executor._maps._map import MapResults

PATIENCE = 30.0


class WatchedFuture(Future[int]):
    """Tells that a thread is about to wait for it."""

    def __init__(self, waits: threading.Semaphore) -> None:
        super().__init__()
        self._waits = waits

    def result(self, timeout: float | None = None) -> int:
        self._waits.release()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._waits.release()
        return super().exception(timeout)


class Sharing:
    """Threads that take all results of one map.

    Args:
        count: How many elements the map has.
        buffersize: How many there are at once.
    """

    def __init__(self, count: int, buffersize: int | None) -> None:
        self.waits = threading.Semaphore(0)
        self.futures = [WatchedFuture(self.waits) for _ in range(count)]
        rest = iter(self.futures)
        self.results: MapResults[int] = MapResults(lambda: next(rest, None), buffersize, None)
        self.taken: list[Any] = []
        self._threads = [threading.Thread(target=self._take_all) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _take_all(self) -> None:
        while True:
            try:
                self.taken.append(next(self.results))
            except StopIteration:
                return
            except (ZeroDivisionError, CancelledError) as error:
                self.taken.append(type(error))

    def both_wait(self) -> None:
        for _ in self._threads:
            assert self.waits.acquire(timeout=PATIENCE)

    def end(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture(params=[False, True], ids=["ends after an error", "goes on after one"])
def goes_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(_map, "GOES_ON", request.param)
    return bool(request.param)


@pytest.mark.usefixtures("goes_on")
@pytest.mark.parametrize("buffersize", [None, 1])
def test_each_result_is_taken_by_one_of_the_threads(buffersize: int | None) -> None:
    sharing = Sharing(5, buffersize)
    sharing.both_wait()  # for the same one, perhaps
    for n, future in enumerate(sharing.futures):
        future.set_result(n)
    sharing.end()
    assert sorted(sharing.taken) == [0, 1, 2, 3, 4]


def test_an_error_is_raised_for_one_of_the_threads(goes_on: bool) -> None:
    sharing = Sharing(2, None)
    sharing.both_wait()
    sharing.futures[1].set_result(1)
    sharing.futures[0].set_exception(ZeroDivisionError())
    sharing.end()
    assert sharing.taken.count(ZeroDivisionError) == 1
    if goes_on:
        assert sharing.taken.count(1) == 1
    assert len(sharing.taken) <= 2


@pytest.mark.usefixtures("goes_on")
def test_a_thread_that_finds_nothing_left_cancels_nothing_of_another_one() -> None:
    mine, of_another = WatchedFuture(threading.Semaphore(0)), Future[int]()
    results: MapResults[int] = MapResults(iter((mine, None)).__next__, None, None)

    def find_nothing() -> Any:
        results._futures = collections.deque([of_another])  # it has just been submitted
        raise StopIteration

    results._first = find_nothing  # type: ignore[method-assign]  # at the narrowest moment
    with pytest.raises(StopIteration):
        next(results)
    assert not of_another.cancelled()
    of_another.set_result(1)
