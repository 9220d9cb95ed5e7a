"""A map of elements as one: what they are, and how they are collected, told of and cancelled.

In this process (``mode="inline"``) and with futures that the test ends itself.
"""

import asyncio
import itertools
import pickle
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from mirai_executor import (
    MiraiExecutor,
    MiraiMap,
    as_completed,
    collect,
    race,
    stop_mirai,
    unresolved,
)
from mirai_executor._maps._elements import elements_of
from mirai_executor._maps._mirai_map import MapListeners


class PandasFrame:
    """As much of a frame of pandas as is looked at."""

    def __init__(self, columns: Sequence[Any], rows: Sequence[Any], index: Sequence[Any]) -> None:
        self.columns, self.rows, self.index = columns, rows, index

    def itertuples(self, index: bool, name: str | None) -> Iterator[tuple[Any, ...]]:
        assert (index, name) == (False, None)
        return iter(self.rows)


class PandasSeries:
    """As much of a series of pandas as is looked at."""

    def __init__(self, items: list[Any], index: list[Any]) -> None:
        self._items, self.index = items, index

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def to_frame(self) -> NoReturn:
        raise NotImplementedError


class PolarsFrame:
    def __init__(self, columns: Sequence[str], rows: Sequence[Any]) -> None:
        self.columns, self.rows = columns, rows

    def iter_rows(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)


class ByHand:
    """Sends elements nowhere: the test ends their futures."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def map(self, xs: Any, **listeners: Any) -> MiraiMap[Any]:
        return MiraiMap(elements_of(xs), self, MapListeners(**listeners))

    def send(self, values: Sequence[Any]) -> list[Future[Any]]:
        new: list[Future[Any]] = [Future() for _ in values]
        self.futures += new
        return new

    def cancel_all(self) -> None:
        pass


@pytest.fixture
def inline() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(1, mode="inline") as executor:
        yield executor


@pytest.fixture
def by_hand() -> ByHand:
    return ByHand()


def half(x: int) -> int:
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x // 2


# What the elements are


@pytest.mark.parametrize(
    ("xs", "expected"),
    [
        ([2, 4], [1, 2]),
        (range(2, 5, 2), [1, 2]),
        ((x for x in (2, 4)), [1, 2]),
        ({"a": 2, "b": 4}, {"a": 1, "b": 2}),
        (np.array([2, 4]), [1, 2]),
        ([], []),
        ({}, {}),
    ],
)
def test_elements_are_items_or_the_values_of_a_mapping_which_keep_their_keys(
    inline: MiraiExecutor, xs: Any, expected: Any
) -> None:
    halves = inline.mirai_map(xs, half)
    assert (halves.collect(), len(halves)) == (expected, len(expected))


def test_the_rows_of_an_array_are_positional_arguments(inline: MiraiExecutor) -> None:
    sums = inline.mirai_map(np.arange(6).reshape(3, 2), lambda a, b, c: a + b + c, args=(10,))
    assert sums.collect() == [11, 15, 19]


def named(x: int, y: str, *, z: int = 0) -> str:
    return f"{y}{x + z}"


def test_the_rows_of_a_frame_are_keyword_arguments(inline: MiraiExecutor) -> None:
    rows = [(1, "a"), (2, "b")]
    frame = PandasFrame(["x", "y"], rows, [0, 1])
    assert inline.mirai_map(frame, named).collect() == ["a1", "b2"]
    assert inline.mirai_map(PolarsFrame(["x", "y"], rows), named).collect() == ["a1", "b2"]
    assert inline.mirai_map(frame, named, kwargs={"z": 5}).collect() == ["a6", "b7"]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (["first", "second"], {"first": "a1", "second": "b2"}),
        (["same", "same"], ["a1", "b2"]),
        ([7, 3], ["a1", "b2"]),
    ],
)
def test_an_index_of_strings_has_the_keys_of_rows(
    inline: MiraiExecutor, index: list[Any], expected: Any
) -> None:
    frame = PandasFrame(["x", "y"], [(1, "a"), (2, "b")], index)
    assert inline.mirai_map(frame, named).collect() == expected


def test_an_index_of_strings_has_the_keys_of_items(inline: MiraiExecutor) -> None:
    named, numbered = PandasSeries([2, 4], ["a", "b"]), PandasSeries([2, 4], [0, 1])
    assert inline.mirai_map(named, half).collect() == {"a": 1, "b": 2}
    assert inline.mirai_map(numbered, half).collect() == [1, 2]


@pytest.mark.parametrize("columns", [["x", 0], ["x", "x"]])
def test_columns_that_cannot_be_arguments_are_refused(columns: list[Any]) -> None:
    with pytest.raises(TypeError, match="become names of arguments"):
        elements_of(PandasFrame(columns, [(1, 2)], [0]))


def test_what_is_the_same_for_all_comes_after_the_element(inline: MiraiExecutor) -> None:
    assert inline.mirai_map([1, 2], pow, args=[3]).collect() == [1, 8]
    assert inline.mirai_map(["1", "10"], int, kwargs={"base": 2}).collect() == [1, 2]


class Breaking:
    def __iter__(self) -> Iterator[int]:
        yield 1
        raise TypeError("its own")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (lambda e: e.mirai_map(half, [1]), r"write mirai_map\(xs, f\); got \[1\] as the function"),
        (lambda e: e.mirai_map([1], "half"), "a function that is called with each.* got 'half'"),
        (lambda e: e.mirai_map(5, half), "takes an iterable, a mapping, a frame or an array"),
        (lambda e: e.mirai_map(Breaking(), half), "its own"),
        (lambda e: e.mirai_map([1], half, args="ab"), "args must be a tuple"),
        (lambda e: e.mirai_map([1], half, args=5), "args must be a tuple"),
        (lambda e: e.mirai_map([1], half, kwargs=[1]), "kwargs must be a dict"),
        (lambda e: e.mirai_map([1], half, kwargs={1: 2}), "names of arguments as keys"),
        (lambda e: e.mirai_map([1], half, timeout="1"), "timeout must be .*seconds"),
        (lambda e: e.mirai_map([1], half, on_result=1), "on_result must be a function or None"),
        (lambda e: e.mirai_map([1], half).collect(progress=3), "progress must be True"),
        (lambda e: e.mirai_map([1], half).collect(stop="no"), "stop must be True or False"),
        (lambda e: e.mirai_map([1], half).collect(flat=None), "flat must be True or False"),
        (lambda e: e.map(half, [1], progress=3), "progress must be True"),
    ],
)
def test_a_wrong_argument_is_an_error_at_the_call(
    inline: MiraiExecutor, start: Callable[[MiraiExecutor], object], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        start(inline)


# Collecting


def test_errors_stay_in_place_if_nothing_is_to_stop(inline: MiraiExecutor) -> None:
    first, second, third = inline.mirai_map([2, 3, 4], half).collect(stop=False)
    assert (first, third) == (1, 2)
    assert isinstance(second, ValueError)
    assert second.__notes__ == ["This is of element 1 of mirai_map()."]


def test_the_earliest_error_is_raised_with_its_key_and_the_others_are_cancelled(
    by_hand: ByHand,
) -> None:
    halves = by_hand.map({"first": 0, "second": 1, "third": 2})
    by_hand.futures[1].set_exception(ValueError("odd"))
    with pytest.raises(ValueError, match="odd") as raised:
        halves.collect()
    assert raised.value.__notes__ == ["This is of element 1 (key 'second') of mirai_map()."]
    assert [future.cancelled() for future in by_hand.futures] == [True, False, True]
    with pytest.raises(ValueError, match="odd") as again:
        halves.collect()
    assert len(again.value.__notes__) == 1  # however often it is collected


@pytest.mark.parametrize("progress", [False, lambda *_: None])
def test_an_error_says_more_than_that_another_element_was_cancelled(
    by_hand: ByHand, progress: Any
) -> None:
    three = by_hand.map(range(3))
    cancelled, failed, running = by_hand.futures
    cancelled.cancel()
    cancelled.set_running_or_notify_cancel()
    failed.set_exception(ValueError("odd"))
    for _ in range(2):  # while one runs, and once all have ended
        with pytest.raises(ValueError, match="odd"):
            three.collect(progress=progress)
        assert running.cancelled()


@pytest.mark.parametrize("in_view", [False, True])
def test_that_an_element_was_cancelled_is_raised_once_all_others_have_their_values(
    by_hand: ByHand, *, in_view: bool
) -> None:
    three = by_hand.map({"a": 1, "b": 2, "c": 3})
    first, cancelled, last = by_hand.futures
    first.set_result(1)
    cancelled.cancel()
    cancelled.set_running_or_notify_cancel()
    both = threading.Event()  # have been seen

    def end_last() -> None:
        both.wait()
        last.set_result(3)

    other = threading.Thread(target=end_last)
    other.start()
    if not in_view:
        both.set()
    with pytest.raises(CancelledError) as raised:
        three.collect(progress=in_view and (lambda done, _: both.set() if done == 2 else None))
    both.set()
    other.join()
    assert last.result() == 3
    assert raised.value.__notes__ == ["This is of element 1 (key 'b') of mirai_map()."]


def test_flat_puts_values_behind_each_other_by_one_level(inline: MiraiExecutor) -> None:
    values = [[1, [2]], (3,), "ab", {4: 5}, range(6, 8), np.array([8, 9]), np.float64(1.5), None]
    flat = inline.mirai_map(values, lambda x: x).collect(flat=True)
    assert flat == [1, [2], 3, "ab", {4: 5}, 6, 7, 8, 9, 1.5, None]
    assert inline.mirai_map({"a": [1], "b": [2]}, list).collect(flat=True) == [1, 2]


def test_progress_counts_elements_as_they_end(by_hand: ByHand) -> None:
    told: list[tuple[int, int | None]] = []
    squares = by_hand.map(range(2))
    by_hand.futures[1].set_result(1)
    by_hand.futures[0].set_exception(ValueError())
    squares.collect(stop=False, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_ways_to_collect_go_together(inline: MiraiExecutor) -> None:
    told: list[tuple[int, int | None]] = []
    parts = inline.mirai_map({"a": 2, "b": -1, "c": 1}, lambda n: [[n]] * n or divmod(n, 0))
    first, again, error, last = parts.collect(
        flat=True, stop=False, progress=lambda *numbers: told.append(numbers)
    )
    assert (first, again, last, told[-1]) == ([2], [2], [1], (3, 3))
    assert isinstance(error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError) as raised:
        parts.collect(flat=True, progress=lambda *numbers: told.append(numbers))
    assert raised.value.__notes__ == ["This is of element 1 (key 'b') of mirai_map()."]


def test_iterating_goes_by_place_and_ends_at_the_first_error(inline: MiraiExecutor) -> None:
    values = iter(inline.mirai_map([2, 4, 5, 6], half))
    assert list(itertools.islice(values, 2)) == [1, 2]
    with pytest.raises(ValueError, match="5 is odd") as raised:
        next(values)
    assert raised.value.__notes__ == ["This is of element 2 of mirai_map()."]


# Running again


def test_what_has_failed_can_run_again(by_hand: ByHand) -> None:
    texts = by_hand.map({"a": 1, "b": 2, "c": 3})
    one, two, three = by_hand.futures
    one.set_result("one")
    two.set_exception(OSError())
    three.cancel()
    assert texts.failed() == {"b": 2, "c": 3}
    assert texts.retry_failed() is texts
    assert (texts.failed(), texts.done(), len(by_hand.futures)) == ({}, False, 5)
    by_hand.futures[3].set_result("two")
    by_hand.futures[4].set_result("three")
    assert texts.collect() == {"a": "one", "b": "two", "c": "three"}


def test_a_row_that_has_failed_runs_again_as_a_row(inline: MiraiExecutor, tmp_path: Path) -> None:
    frame = PandasFrame(["name"], [("text",)], ["only"])
    texts = inline.mirai_map(frame, lambda name: (tmp_path / name).read_text())
    assert texts.failed() == {"only": {"name": "text"}}
    (tmp_path / "text").write_text("there")
    assert texts.retry_failed().collect() == {"only": "there"}


# Listeners


def test_listeners_hear_of_each_element_by_its_key_or_place(by_hand: ByHand) -> None:
    heard: list[Any] = []
    by_hand.map(
        {"a": 1, "b": 2, "c": 3},
        on_result=lambda key, value: heard.append((key, value)),
        on_error=lambda key, error: heard.append((key, type(error), error.__notes__)),
        on_progress=lambda done, total: heard.append((done, total)),
    )
    one, two, three = by_hand.futures
    two.set_result(4)
    one.set_exception(ValueError())
    three.cancel()
    of_a, of_c = (
        [f"This is of element {place} (key {key!r}) of mirai_map()."]
        for place, key in ((0, "a"), (2, "c"))
    )
    a, c = ("a", ValueError, of_a), ("c", CancelledError, of_c)
    assert heard == [("b", 4), (1, 3), a, (2, 3), c, (3, 3)]


def test_progress_goes_on_where_elements_run_again(by_hand: ByHand) -> None:
    heard: list[Any] = []
    texts = by_hand.map([1, 2], on_progress=lambda *told: heard.append(told))
    by_hand.futures[0].set_exception(OSError())
    by_hand.futures[1].set_result(2)
    texts.retry_failed()
    by_hand.futures[2].set_result(1)
    assert heard == [(1, 2), (2, 2), (2, 2)]


def test_an_error_of_a_listener_is_logged_and_hurts_nobody(
    by_hand: ByHand, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Any] = []
    texts = by_hand.map([1], on_result=divmod, on_progress=lambda *told: heard.append(told))
    by_hand.futures[0].set_result(0)
    assert (texts.collect(), heard) == ([0], [(1, 1)])
    assert "ZeroDivisionError" in caplog.text


# As one


def test_all_are_cancelled_as_one(by_hand: ByHand) -> None:
    texts = by_hand.map(range(3))
    by_hand.futures[1].set_result("there")
    assert repr(texts) == "<MiraiMap 1 of 3 done>"
    assert (texts.cancel(), texts.done()) == (2, True)


def test_awaiting_returns_what_collecting_does(inline: MiraiExecutor) -> None:
    async def both() -> None:
        assert await inline.mirai_map({"a": 2}, half) == {"a": 1}
        assert await inline.mirai_map([], half) == []
        assert [value async for value in inline.mirai_map([2, 4], half)] == [1, 2]
        with pytest.raises(ValueError, match="3 is odd") as raised:
            await inline.mirai_map([2, 3], half)
        assert raised.value.__notes__ == ["This is of element 1 of mirai_map()."]
        with pytest.raises(ValueError, match="3 is odd"):
            async for _ in inline.mirai_map([3], half):
                pass

    asyncio.run(both())


def test_what_can_be_awaited_can_be_told(inline: MiraiExecutor) -> None:
    for can_be in (inline.submit(abs, -1), inline.mirai_map([-1], abs)):
        assert isinstance(can_be, Awaitable)
    for cannot in (1, inline.map(abs, [-1])):
        assert not isinstance(cannot, Awaitable)


def test_who_stops_awaiting_cancels_the_map(by_hand: ByHand) -> None:
    async def stop() -> None:
        texts = by_hand.map(range(2))

        async def wait() -> None:
            await texts

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)  # one turn, in which it begins
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(stop())
    assert all(future.cancelled() for future in by_hand.futures)


def test_an_error_while_others_still_run_cancels_them_when_awaited(by_hand: ByHand) -> None:
    async def fail() -> None:
        texts = by_hand.map(range(3))
        asyncio.get_running_loop().call_soon(by_hand.futures[2].set_exception, ValueError("late"))
        with pytest.raises(ValueError, match="late"):
            await texts

    asyncio.run(fail())
    assert [future.cancelled() for future in by_hand.futures] == [True, True, False]


def test_what_takes_futures_takes_a_map(inline: MiraiExecutor, by_hand: ByHand) -> None:
    halves = inline.mirai_map({"a": 2, "b": 4}, half)
    assert collect(halves) == {"a": 1, "b": 2}
    assert collect([halves, 3]) == [{"a": 1, "b": 2}, 3]
    assert (unresolved(halves), unresolved(by_hand.map([1]))) == (False, True)
    assert stop_mirai(halves) == {"a": False, "b": False}
    assert {future.result() for future in as_completed(halves)} == {1, 2}
    assert race(halves) == 0


def test_a_map_that_is_sent_to_a_daemon_is_refused_with_what_to_do(by_hand: ByHand) -> None:
    with pytest.raises(TypeError, match=r"send what its collect\(\) returns instead"):
        pickle.dumps(by_hand.map([1]))


# Progress of others


def test_map_collect_and_as_completed_show_progress(inline: MiraiExecutor) -> None:
    told: list[Any] = []

    def tell(*numbers: object) -> None:
        told.append(numbers)

    assert list(inline.map(pow, [1, 2], (2, 2, 2), progress=tell)) == [1, 4]
    assert list(inline.map(abs, iter([-1]), progress=tell, chunksize=2)) == [1]
    futures = [inline.submit(abs, -1), inline.submit(abs, -2)]
    assert collect({"futures": futures}, progress=tell) == {"futures": [1, 2]}
    assert len(list(as_completed(futures, progress=tell))) == 2
    assert told == [(1, 2), (2, 2), (1, None), *2 * [(1, 2), (2, 2)]]


def test_collect_with_progress_raises_the_first_error_in_order(inline: MiraiExecutor) -> None:
    futures = [inline.submit(half, n) for n in (2, 3, 5)]
    with pytest.raises(ValueError, match="3 is odd"):
        collect(futures, progress=lambda done, total: None)
