"""The gate before a queue with a bound: who is let in, who is told, and what is left of it."""

import threading

import pytest

from mirai_executor._core import TaskId
from mirai_executor._host import Gate

A, B = TaskId(1), TaskId(2)


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


def test_a_gate_that_is_closed_lets_everything_through_and_tells_at_once() -> None:
    gate = Gate(10)
    gate.enter(A, 10, None, may_not_wait)
    called: list[int] = []
    gate.when_room(B, lambda: called.append(1))
    assert not called
    gate.close()
    gate.when_room(B, lambda: called.append(2))
    assert (called, gate.enter(B, 5, None, may_not_wait)) == ([1, 2], True)


def test_in_a_forked_child_nobody_waits_for_a_lock_of_the_parent() -> None:
    gate = Gate(10)
    gate.enter(A, 10, None, may_not_wait)
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with gate._lock:
            is_held.set()
            may_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait()
    called: list[int] = []
    try:
        gate.forget()
        gate.when_room(B, lambda: called.append(1))
    finally:
        may_go.set()
        thread.join()
    assert called == [1]
