"""The gate before a queue with a bound: who is let in, who is told, and what is left of it."""

import functools
import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from live.strikes import Strike
from mirai_executor._core import TaskId
from mirai_executor._host import Gate

A, B, C, D, E = map(TaskId, range(1, 6))
SECONDS = 20


def may_not_wait() -> bool:
    return False


def test_who_may_not_wait_passes_the_bound_unless_it_only_tries() -> None:
    gate = Gate(10)
    assert gate.enter(A, 9, None, may_not_wait)

    def enter() -> bool:
        return gate.enter(B, 9, None, may_not_wait)

    assert gate.try_to(enter) is None
    assert gate.picture() == (9, 9, 10)
    assert enter()
    assert gate.picture() == (18, 18, 10)


def test_who_only_tries_and_is_turned_away_pickles_nothing_where_all_is_full() -> None:
    gate = Gate(10)
    gate.enter(A, 10, None, may_not_wait)
    assert gate.try_to(lambda: pytest.fail("it was pickled")) is None


def test_what_goes_wrong_while_somebody_tries_is_raised_and_the_next_one_may_wait_again() -> None:
    gate = Gate(10)
    with pytest.raises(ZeroDivisionError):
        gate.try_to(lambda: 1 // 0)
    gate.enter(A, 10, None, may_not_wait)
    assert not gate.enter(B, 1, 0.0, lambda: True)


def test_a_gate_that_is_closed_lets_everything_through_and_who_waits_hears_of_it() -> None:
    gate = Gate(10)
    gate.enter(A, 10, None, may_not_wait)
    called: list[int] = []
    gate.when_room(B, lambda: called.append(1))
    assert not called
    gate.close()
    gate.admit()
    gate.when_room(B, lambda: called.append(2))
    assert (called, gate.enter(B, 5, None, may_not_wait)) == ([1, 2], True)


def test_in_a_forked_child_nobody_is_told_and_nobody_waits() -> None:
    gate = Gate(10)
    gate.enter(A, 10, None, may_not_wait)
    called: list[int] = []
    gate.when_room(B, lambda: called.append(1))
    gate.forget()
    gate.leave([A])
    assert not called
    gate.when_room(B, lambda: called.append(2))
    assert called == [2]


def test_who_was_turned_away_waits_for_room_for_that_call() -> None:
    gate, called = Gate(10), list[int]()
    gate.enter(A, 5, None, may_not_wait)
    assert gate.try_to(lambda: gate.enter(B, 6, None, may_not_wait)) is None
    gate.when_room(B, lambda: called.append(1))
    assert not called
    gate.leave([A])
    assert called == [1]


def test_threads_that_enter_at_once_never_pass_the_bound_and_all_come_in() -> None:
    gate, count, most = Gate(10), 200, list[int]()
    inbox: queue.SimpleQueue[TaskId | None] = queue.SimpleQueue()

    def submit(first: int) -> None:
        for number in range(first, first + count):
            assert gate.enter(TaskId(number), 3, SECONDS, lambda: True)
            most.append(gate.picture()[0])
            inbox.put(TaskId(number))
        inbox.put(None)

    threads = [threading.Thread(target=submit, args=(n * count,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        while (task := inbox.get(timeout=SECONDS)) is not None:
            gate.leave([task])
    for thread in threads:
        thread.join()
    assert (len(most), max(most) <= 9) == (4 * count, True)
    assert gate.picture()[:2] == (0, 9)
    assert (gate._sizes, gate._told) == ({}, {})


def test_many_calls_that_nobody_has_noted_yet_go_with_their_gate() -> None:
    gate = Gate(10)
    for number in range(20_000):  # a chain of them: to free it must not recurse
        gate.enter(TaskId(number), 1, None, may_not_wait)
    gate.leave(map(TaskId, range(19_999)))
    assert gate.picture() == (1, 20_000, 10)
    for number in range(20_000):
        gate.enter(TaskId(number), 1, None, may_not_wait)
    del gate


def twice(enter: Callable[[TaskId], object]) -> None:
    """Do it for two tasks: since 3.13, no opcode of a function's first call is traced."""
    for task in (B, E):
        enter(task)


# Of ten bytes, six are taken.
LOOKS: dict[str, Callable[[Gate], object]] = {
    "enter": lambda gate: twice(lambda task: gate.enter(task, 2, None, may_not_wait)),
    "enter and wait": lambda gate: twice(lambda task: gate.enter(task, 5, 1e-6, lambda: True)),
    "try": lambda gate: twice(
        lambda task: gate.try_to(lambda: gate.enter(task, 2, None, may_not_wait))
    ),
    "try in vain": lambda gate: twice(
        lambda task: gate.try_to(lambda: gate.enter(task, 5, None, may_not_wait))
    ),
    "when there is room": lambda gate: twice(lambda task: gate.when_room(task, int)),
    "picture": lambda gate: twice(lambda _: gate.picture()),
    "close": lambda gate: twice(lambda _: gate.close()),
}


def struck(look: Callable[[Gate], object]) -> Iterator[tuple[Gate, str]]:
    """Look at one gate after the other, and be interrupted one opcode later each time."""
    n = misses = 0
    while misses < 5:  # one is not the end, see strikes()
        n += 1
        gate = Gate(10)
        gate.enter(A, 6, None, may_not_wait)
        strike = Strike(n, functools.partial(look, gate))
        if strike.where:
            assert strike.was_heard(), (strike.where, strike.error)
            twice(gate.give_up)  # as whoever submits does then
            yield gate, strike.where
        misses = 0 if strike.where else misses + 1
    assert n > 15


def all_goes_on(gate: Gate, entered: list[bool]) -> None:
    gate.leave([A])
    entered.append(gate.enter(C, 10, SECONDS, lambda: True))


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_an_interrupt_at_any_opcode_holds_up_no_other_thread_and_takes_no_room(
    look: Callable[[Gate], object],
) -> None:
    for gate, where in struck(look):
        entered: list[bool] = []
        thread = threading.Thread(target=all_goes_on, args=(gate, entered), daemon=True)
        thread.start()
        thread.join(SECONDS)
        assert (entered, gate.picture()[0]) == ([True], 10), where
        if not gate.is_closed:  # who was interrupted while trying, may wait again
            assert not gate.enter(D, 1, 0.0, lambda: True), where
            gate.give_up(D)
        gate.leave([C])
        assert (gate.picture()[0], gate._sizes, gate._told) == (0, {}, {}), where
