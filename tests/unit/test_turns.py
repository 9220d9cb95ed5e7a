"""Turns of threads: one at a time, and none that an interrupt makes last for ever."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from live.strikes import Strike, strikes
from mirai_executor import MiraiExecutor
from mirai_executor._maps._pool_results import OpenWork, Ordered
from mirai_executor._turns import Turns

SECONDS = 20.0


def takes_a_turn(turns: Turns) -> bool:
    """Tell whether another thread gets one."""
    has_had = threading.Event()

    def take() -> None:
        with turns.take():
            has_had.set()

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    return has_had.wait(SECONDS)


def test_one_thread_at_a_time_has_a_turn() -> None:
    turns, inside, seen = Turns(), list[int](), list[int]()

    def work() -> None:
        for _ in range(200):
            with turns.take():
                inside.append(0)
                seen.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 1600


def test_a_thread_may_take_another_turn_in_its_own() -> None:
    turns = Turns()
    with turns.take():
        with turns.take():
            pass
        others = threading.Thread(target=lambda: turns.take().__enter__())
        others.start()
        others.join(0.01)
        assert others.is_alive()  # the turn was the outer one
    others.join(SECONDS)
    assert not others.is_alive()


def test_a_turn_that_was_taken_and_never_entered_is_over() -> None:
    turns = Turns()
    turns.take()  # as if an interrupt had come between the two
    assert takes_a_turn(turns)


@pytest.mark.parametrize("body", [lambda: None, lambda: [].pop], ids=["a step", "two"])
def test_an_interrupt_at_any_opcode_leaves_others_their_turns(body: Callable[[], object]) -> None:
    turns, count = Turns(), 0

    def take() -> None:
        with turns.take():
            body()

    for strike in strikes(take):
        assert takes_a_turn(turns), strike.where
        count += 1
    assert count > 20


def hold(turns: Turns, held: threading.Event, over: threading.Event) -> None:
    with turns.take():
        held.set()
        over.wait(SECONDS)


def take_soon(turns: Turns, over: threading.Event) -> None:
    """Wait for a turn, of which the one before is about to end."""
    threading.Timer(0.02, over.set).start()
    with turns.take():
        pass


def test_an_interrupt_at_any_opcode_of_who_waits_leaves_others_their_turns() -> None:
    for n in range(1, 60):
        turns = Turns()
        held, over = threading.Event(), threading.Event()
        thread = threading.Thread(target=hold, args=(turns, held, over))
        thread.start()
        assert held.wait(SECONDS)
        strike = Strike(n, partial(take_soon, turns, over))
        over.set()
        thread.join(SECONDS)
        assert takes_a_turn(turns), strike.where
        assert strike.where or n > 40


def twice(call: Callable[[], object]) -> None:
    call()
    call()  # since 3.13, no opcode of the first one is traced


@pytest.mark.parametrize("where", ["inline", "imap"])
def test_an_interrupt_at_any_opcode_of_who_is_in_a_turn_stops_no_other_thread(where: str) -> None:
    count = 0

    def another(call: Callable[[], object]) -> bool:
        done = threading.Event()
        threading.Thread(target=lambda: (call(), done.set())[0], daemon=True).start()  # type: ignore[func-returns-value]
        return done.wait(SECONDS)

    for n in range(1, 400, 3):
        if where == "inline":
            executor = MiraiExecutor(mode="inline", initializer=int)
            call: Callable[[], object] = executor._host._prepared  # type: ignore[attr-defined]
        else:
            call = Ordered(lambda: None, None, OpenWork(lambda: False)).feed
        for strike in strikes(partial(twice, call), n, 10_000):
            assert another(call), strike.where
            count += 1
    assert count > 10
