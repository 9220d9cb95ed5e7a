"""What moves a bar while tasks run: what they say of themselves, and their ends."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from mirai_executor import MiraiFuture, Progress
from mirai_executor._core import TaskId
from mirai_executor._host._messages import Message
from mirai_executor._maps._map import MapResults
from mirai_executor._observing._watching import Watch, ended_in_view
from mirai_executor._payload.daemon import encode_value
from mirai_executor._progress import counted
from mirai_executor._waiting import Deadline


class FakeBar:
    """Keeps what it is to show."""

    shows_parts = True

    def __init__(self) -> None:
        self.shown: list[tuple[int, float, str]] = []
        self.is_closed = False

    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        self.shown.append((done, running, text))

    def close(self) -> None:
        self.is_closed = True


class FakeHost:
    """Its thread is the one that asks, unless that would have to wait."""

    owns = False

    def cancel(self, task: TaskId, *, running: bool) -> None: ...

    def owns_this_thread(self) -> bool:
        return self.owns

    def call_soon(self, step: Callable[[], None]) -> None:
        step()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def new_future(id_: int = 1) -> MiraiFuture[Any]:
    return MiraiFuture(TaskId(id_), FakeHost())


def say(future: MiraiFuture[Any], said: object) -> None:
    is_progress = isinstance(said, Progress)
    value = tuple(said) if isinstance(said, Progress) else said
    future.listener()(Message(bytes(encode_value(value).blob), is_progress))


def shown_for(*said: object, counts_tasks: bool = True) -> list[tuple[int, float, str]]:
    """Return what a bar shows of a task after each thing that it says."""
    clock, bar, future = Clock(), FakeBar(), new_future()
    watch = Watch(bar, counts_tasks=counts_tasks, clock=clock)
    watch.follow(future)
    for one in said:
        clock.now += 1
        say(future, one)
        assert not watch.wait(lambda: False, Deadline(0.0, clock))  # no time to wait
    return bar.shown


@pytest.mark.parametrize(
    ("said", "part", "text"),
    [
        (Progress(1, 4), 0.25, ""),
        (Progress(1, 4, "a quarter"), 0.25, "a quarter"),
        (Progress(5, 4), 1.0, ""),
        (Progress(-1, 4), 0.0, ""),
        (Progress(float("nan"), 4), 0.0, ""),
        (Progress(1, 0), 0.0, ""),
        (Progress(10**400, 3, "much"), 0.0, "much"),
        (Progress(10**400), 0.0, ""),
        (Progress(7), 0.0, "7"),
        (Progress(7, None, "pages"), 0.0, "pages"),
        ("a line", 0.0, "a line"),
        ("two\nlines\x1b[2J", 0.0, r"two\nlines\x1b[2J"),
        ("x" * 100, 0.0, "x" * 60 + "…"),
    ],
)
def test_a_bar_shows_what_is_done_of_a_task_and_its_words(
    said: object, part: float, text: str
) -> None:
    assert shown_for(said) == [(0, part, text)]


def test_words_leave_what_is_done_as_it_is() -> None:
    assert shown_for(Progress(1, 2, "a"), "b", Progress(3)) == [
        (0, 0.5, "a"),
        (0, 0.5, "b"),
        (0, 0.5, "3"),
    ]


@pytest.mark.parametrize("said", [["a", "list"], 7, "x" * 1000])
def test_a_report_that_is_no_line_of_text_moves_nothing(said: object) -> None:
    assert shown_for(said) == []


def test_where_a_task_is_no_single_thing_of_those_counted_only_its_words_are_shown() -> None:
    assert shown_for(Progress(1, 2, "a"), counts_tasks=False) == [(0, 0.0, "a")]


def test_several_tasks_are_added_and_the_last_one_has_the_word() -> None:
    clock, bar, futures = Clock(), FakeBar(), [new_future(n) for n in range(3)]
    watch = Watch(bar, clock=clock)
    for future in futures:
        watch.follow(future)
    say(futures[1], Progress(1, 2, "one"))
    say(futures[0], Progress(1, 4, "none"))
    assert not watch.wait(lambda: False, Deadline(0.0, clock))
    watch.forget(futures[0])
    watch.count()
    say(futures[2], Progress(1, 8))
    clock.now = 1.0
    assert not watch.wait(lambda: False, Deadline(0.0, clock))
    assert bar.shown == [(0, 0.75, "none"), (1, 0.5, "one"), (1, 0.625, "one")]


def test_a_count_that_a_bar_may_have_passed_over_is_shown_once_more_while_nothing_comes() -> None:
    clock, bar, future = Clock(), FakeBar(), new_future()
    watch = Watch(bar, clock=clock)
    watch.follow(future)
    say(future, Progress(1, 2))
    assert not watch.wait(lambda: False, Deadline(0.0, clock))
    for ended in (future, new_future(2)):  # one that never said anything
        watch.forget(ended)
        watch.count()
    clock.now = 1.0
    assert not watch.wait(lambda: False, Deadline(0.0, clock))
    assert bar.shown == [(0, 0.5, ""), (1, 0, ""), (2, 0, ""), (2, 0, "")]


def test_a_bar_moves_ten_times_a_second_at_most_and_what_was_said_last_is_not_lost() -> None:
    clock, bar, future = Clock(), FakeBar(), new_future()
    watch = Watch(bar, clock=clock)
    watch.follow(future)
    for done in range(1, 5):
        say(future, Progress(done, 8))
        assert not watch.wait(lambda: False, Deadline(0.0, clock))
    say(future, "words")  # the part has not been shown yet
    clock.now = 0.11
    assert not watch.wait(lambda: False, Deadline(0.0, clock))
    assert bar.shown == [(0, 0.125, ""), (0, 0.5, "words")]


def test_what_was_said_too_soon_is_shown_while_nothing_more_comes() -> None:
    bar, future = FakeBar(), new_future()
    watch = Watch(bar)
    watch.follow(future)
    say(future, Progress(1, 4))
    watch.wait(lambda: len(bar.shown) == 1, None)
    say(future, Progress(2, 4))
    assert watch.wait(lambda: len(bar.shown) == 2, None)  # by time alone
    assert bar.shown[1] == (0, 0.5, "")


def test_a_bar_takes_nothing_from_who_listens_later_and_begins_with_the_last_progress() -> None:
    future, heard = new_future(), list[Any]()
    say(future, Progress(1, 2))
    say(future, ["a", "report"])
    bar = FakeBar()
    watch = Watch(bar)
    watch.follow(future)
    watch.wait(lambda: bool(bar.shown), None)
    say(future, "a line")
    future.on_report(heard.append)
    assert bar.shown == [(0, 0.5, "")]
    assert heard == [["a", "report"], "a line", Progress(1, 2)]


def test_futures_come_as_they_end_and_time_that_has_run_out_is_told_as_the_standard_does() -> None:
    bar, ours, theirs = FakeBar(), new_future(), Future[int]()
    futures = ended_in_view({ours, theirs}, 0.05, bar)
    theirs.set_result(1)
    assert next(futures) is theirs
    with pytest.raises(TimeoutError, match=r"^1 \(of 2\) futures unfinished$"):
        next(futures)
    assert bar.shown == [(1, 0.0, "")]
    assert bar.is_closed


def test_a_future_that_ends_later_wakes_who_waits() -> None:
    bar, future = FakeBar(), new_future()
    threading.Timer(0.01, future.set_value, [7]).start()
    assert [one.result() for one in ended_in_view({future}, None, bar)] == [7]
    assert bar.shown == [(1, 0.0, "")]


class StruckBar(FakeBar):
    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        raise KeyboardInterrupt


def test_an_interrupt_cancels_what_is_to_be_cancelled_then() -> None:
    host, ended = FakeHost(), Future[int]()
    stopped = MiraiFuture[int](TaskId(1), host, cancel_on_interrupt=True)
    left = MiraiFuture[int](TaskId(2), host)
    ended.set_result(1)
    with pytest.raises(KeyboardInterrupt):
        next(ended_in_view({stopped, left, ended}, None, StruckBar()))
    assert (stopped.cancelled(), left.cancelled()) == (True, False)


def test_in_a_callback_nobody_waits_for_itself() -> None:
    future = new_future()
    FakeHost.owns = True
    try:
        with pytest.raises(RuntimeError, match="callback"):
            next(ended_in_view({future}, None, FakeBar()))
    finally:
        FakeHost.owns = False


def test_results_of_a_map_are_watched_and_its_time_is_its_own() -> None:
    bar, futures = FakeBar(), [new_future(1), new_future(2)]
    rest = iter(futures)
    results: MapResults[int] = MapResults(lambda: next(rest, None), None, 0.05)
    watch = Watch(bar)
    results.be_watched(watch)
    say(futures[0], Progress(1, 2))
    say(futures[1], Progress(1, 4))
    watch.wait(lambda: bool(bar.shown), None)
    futures[0].set_value(1)
    shown = counted(results, watch)
    assert next(shown) == 1
    with pytest.raises(TimeoutError):
        next(shown)
    # How often the same is shown again is a matter of time.
    assert [it for it, _ in itertools.groupby(bar.shown)] == [(0, 0.75, ""), (1, 0.25, "")]
    assert bar.is_closed
    assert futures[1].cancelled()


def test_a_map_that_looks_ahead_watches_what_it_submits_later() -> None:
    bar, futures = FakeBar(), [new_future(1), new_future(2)]
    rest = iter(futures)
    results: MapResults[int] = MapResults(lambda: next(rest, None), 1, None)
    watch = Watch(bar)
    results.be_watched(watch)
    futures[0].set_value(1)
    assert next(results) == 1
    say(futures[1], Progress(1, 2))
    watch.wait(lambda: bool(bar.shown), None)
    assert bar.shown == [(0, 0.5, "")]
