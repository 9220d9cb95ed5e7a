"""What a reactor waits for, what it calls then, and in which order."""

import contextlib
import os
import selectors
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor import _nowait
from mirai_executor._waiting import Reactor, Timer

READ = selectors.EVENT_READ


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reactor(clock: Clock) -> Iterator[Any]:
    made = Reactor(keeps_gil=True, clock=clock)
    yield made
    made.close()


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Give the ends to read of two pipes in which something waits."""
    ends = [os.pipe() for _ in range(2)]
    for _, writes in ends:
        os.write(writes, b"x")
    yield [reads for reads, _ in ends]
    for end in ends:
        for fd in end:
            with contextlib.suppress(OSError):
                os.close(fd)


def pass_time(reactor: Any, clock: Clock, until: float) -> None:
    """Have all happen that is due until then, each at its moment."""
    while (due := reactor.next_deadline()) <= until:
        clock.now = due
        reactor.turn()
    clock.now = until


# Time


def test_timers_are_called_in_the_order_of_their_moments_and_of_their_making(
    reactor: Any, clock: Clock
) -> None:
    said: list[tuple[str, float]] = []
    for name, when in [("c", 103.0), ("a", 101.0), ("b", 102.0), ("d", 103.0)]:
        reactor.call_at(when, lambda name=name: said.append((name, clock.now)))
    pass_time(reactor, clock, 110.0)
    assert said == [("a", 101.0), ("b", 102.0), ("c", 103.0), ("d", 103.0)]


def test_a_timer_is_called_once_and_not_before_its_moment(reactor: Any, clock: Clock) -> None:
    said: list[str] = []
    timer = reactor.call_in(1.0, lambda: said.append("rang"))
    clock.now = 100.9
    reactor.turn(until=clock.now)
    assert not said
    clock.now = 101.5
    reactor.turn(until=clock.now)
    reactor.turn(until=clock.now)
    assert said == ["rang"]
    assert timer.is_over


@pytest.mark.parametrize("when", ["before", "by another timer", "by a descriptor"])
def test_a_timer_that_was_cancelled_is_not_called(
    reactor: Any, clock: Clock, pipes: list[int], when: str
) -> None:
    said: list[str] = []
    timers: list[Timer] = []
    if when == "by another timer":
        reactor.call_in(1.0, lambda: timers[0].cancel())
    timer = reactor.call_in(1.0, lambda: said.append("rang"))
    timers.append(timer)
    if when == "before":
        timer.cancel()
    if when == "by a descriptor":  # which comes in while the reactor is late
        reactor.register(pipes[0], READ, timer.cancel)
    clock.now = 105.0
    reactor.turn(until=clock.now)
    assert said == []
    assert reactor.next_deadline() == float("inf")


@pytest.mark.parametrize(
    "moments",
    [(102.0, 103.0, 104.0), (104.0, 102.0, 104.0), (100.5, 104.0), (103.0, 107.0, 104.0)],
)
def test_a_timer_can_be_moved_again_and_again(
    reactor: Any, clock: Clock, moments: tuple[float, ...]
) -> None:
    said: list[float] = []
    timer = reactor.call_at(101.0, lambda: said.append(clock.now))
    for when in moments:
        reactor.move(timer, when)
    reactor.call_at(103.5, lambda: said.append(-1.0))
    pass_time(reactor, clock, 110.0)
    assert said == [-1.0, 104.0]


def test_a_timer_may_make_the_next_one(reactor: Any, clock: Clock) -> None:
    said: list[float] = []

    def ring() -> None:
        said.append(clock.now)
        reactor.call_in(1.0, ring)

    reactor.call_in(1.0, ring)
    pass_time(reactor, clock, 103.0)
    assert said == [101.0, 102.0, 103.0]


@pytest.mark.parametrize("days", [30.0, 1e300, float("inf")])
def test_a_moment_that_lies_farther_ahead_than_a_selector_can_wait_is_waited_for(
    reactor: Any, clock: Clock, days: float
) -> None:
    reactor.call_in(86400.0 * days, lambda: None)
    reactor.wake()
    assert reactor.turn() is False


def test_a_turn_tells_whether_the_moment_has_come_that_it_was_to_return_at(
    reactor: Any, clock: Clock
) -> None:
    assert reactor.turn(until=clock.now)
    reactor.put(lambda: None)
    assert not reactor.turn(until=clock.now + 1.0)


# Descriptors


def test_who_is_ready_is_called_until_nobody_waits_for_him(reactor: Any, pipes: list[int]) -> None:
    said: list[int] = []
    for fd in pipes:
        reactor.register(fd, READ, lambda fd=fd: said.append(fd))
    reactor.turn()
    reactor.unregister(pipes[0])
    reactor.turn()
    assert sorted(said) == sorted([*pipes, pipes[1]])
    assert set(pipes) & set(reactor.get_map()) == {pipes[1]}
    with pytest.raises(KeyError):
        reactor.unregister(pipes[0])


@pytest.mark.parametrize("is_burst", [False, True])
def test_who_is_let_go_by_a_callback_is_not_called_though_he_was_ready(
    reactor: Any, pipes: list[int], is_burst: bool
) -> None:
    said: list[int] = []

    def hear(fd: int) -> None:
        said.append(fd)
        other = sum(pipes) - fd
        reactor.unregister(other)
        os.close(other)

    for fd in pipes:
        reactor.register(fd, READ, lambda fd=fd: hear(fd))
    reactor.turn(is_burst=is_burst)
    assert len(said) == 1


def test_an_error_of_a_callback_ends_the_turn_and_loses_nothing_else(
    reactor: Any, clock: Clock, pipes: list[int]
) -> None:
    said: list[str] = []
    reactor.register(pipes[0], READ, lambda: 1 / 0)
    reactor.call_in(1.0, lambda: said.append("rang"))
    reactor.put(lambda: said.append("put"))
    with pytest.raises(ZeroDivisionError):
        reactor.turn()
    reactor.unregister(pipes[0])
    clock.now = 102.0
    reactor.turn()
    assert said == ["put", "rang"]


def test_nothing_is_called_after_a_stop(reactor: Any, clock: Clock, pipes: list[int]) -> None:
    said: list[str] = []

    def stop() -> None:
        said.append("stop")
        reactor.stop()

    for fd in pipes:
        reactor.register(fd, READ, stop)
    reactor.call_at(clock.now, stop)
    reactor.put(stop)
    reactor.run()
    assert said == ["stop"]


# Other threads


def test_what_another_thread_puts_in_ends_the_wait_and_is_called_in_order(reactor: Any) -> None:
    said: list[Any] = []

    def put() -> None:
        for i in range(100):
            reactor.put(lambda i=i: said.append((i, threading.current_thread())))
        reactor.put(reactor.stop)

    thread = threading.Thread(target=put)
    thread.start()
    reactor.run()
    thread.join()
    assert said == [(i, threading.main_thread()) for i in range(100)]


def test_while_it_sleeps_it_has_to_be_woken_once(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed: list[bool] = []

    def select(_: float | None) -> list[Any]:
        needed.append(reactor.needs_waking)
        reactor.wake()
        needed.append(reactor.needs_waking)
        return []

    with monkeypatch.context() as patch:
        patch.setattr(reactor._selector, "select", select)
        reactor.turn()
    assert needed == [True, False]
    assert not reactor.needs_waking


def test_an_item_that_is_there_already_ends_the_wait(reactor: Any) -> None:
    said: list[str] = []
    for is_burst in (False, True):
        reactor.put(lambda: said.append("called"))
        reactor.turn(is_burst=is_burst)
    assert said == 2 * ["called"]


def test_who_has_a_closed_reactor_wakes_nobody() -> None:
    reactor = Reactor()
    timer = reactor.call_in(1.0, reactor.stop)
    reactor.close()
    reactor.wake()
    reactor.put(lambda: None)
    assert not reactor.needs_waking
    assert timer.is_over, "it would hold what it calls"


def test_a_signal_that_is_handled_ends_no_wait(reactor: Any) -> None:
    said: list[str] = []

    def handle(*_: object) -> None:
        said.append("signal")
        reactor.put(lambda: said.append("called"))

    before = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Timer(0.0, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        sender.start()
        reactor.turn()
        sender.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert said == ["signal", "called"]


def test_a_forked_child_that_lets_go_leaves_its_parents_alone(
    reactor: Any, pipes: list[int]
) -> None:
    said: list[int] = []
    reactor.register(pipes[0], READ, lambda: said.append(pipes[0]))
    if not (pid := os.fork()):
        try:
            reactor.close()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    reactor.turn()
    assert said == [pipes[0]]


# The lock of the interpreter


def test_with_nothing_there_but_one_task_at_most_the_thread_sleeps_without_a_look_before(
    reactor: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ready(_: object) -> None:
        raise AssertionError("looked")

    monkeypatch.setattr(_nowait, "ready", ready)
    reactor.turn(clock.now)
    reactor.put(lambda: None)
    reactor.turn(clock.now)
    with pytest.raises(AssertionError, match="looked"):
        reactor.turn(clock.now, is_burst=True)


@pytest.mark.parametrize("happens", ["many tasks", "many items", "many sleeps"])
def test_what_takes_long_to_load_is_loaded_for_a_burst_or_a_long_life(
    reactor: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(_nowait, "load", lambda: loaded.append(True))
    reactor.put(lambda: None)
    reactor.turn(clock.now)
    assert not loaded
    for _ in range(2 if happens == "many items" else 0):
        reactor.put(lambda: None)
    for _ in range(20 if happens == "many sleeps" else 1):
        reactor.turn(clock.now, is_burst=happens == "many tasks")
    assert loaded == [True]


def test_who_has_no_use_for_the_lock_never_loads_what_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(_nowait, "load", lambda: loaded.append(True))
    reactor = Reactor()
    for _ in range(20):
        reactor.turn(time.monotonic(), is_burst=True)
    reactor.close()
    assert loaded == []
