"""How a thread that sleeps is woken, and how often."""

import os
import posix
import select
import selectors

import pytest

from mirai_executor import _waiting
from mirai_executor._waiting import Deadline, Waker


def is_woken(waker: Waker) -> bool:
    return bool(select.select([waker], [], [], 0)[0])


def test_a_thread_that_has_been_woken_is_not_woken_again_before_it_has_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waker = Waker()
    waker.wake()

    def write(*_: object) -> int:
        raise AssertionError("woken twice")

    with monkeypatch.context() as patch:
        patch.setattr(posix, "write", write)
        waker.wake()
    waker.hear()
    assert not is_woken(waker)
    waker.wake()
    assert is_woken(waker)


def test_a_call_that_was_heard_while_it_was_made_does_not_swallow_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waker = Waker()
    write = os.write

    def write_and_be_heard(fd: int, data: bytes) -> int:
        count = write(fd, data)
        waker.hear()
        return count

    with monkeypatch.context() as patch:
        patch.setattr(posix, "write", write_and_be_heard)
        waker.wake()
    assert not is_woken(waker)
    waker.wake()
    assert is_woken(waker)


def test_a_call_that_an_interrupt_has_ended_does_not_swallow_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waker = Waker()

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(posix, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            waker.wake()
    waker.wake()
    assert is_woken(waker)


def test_a_deadline_waits_for_a_descriptor_or_until_it_has_passed() -> None:
    reads, writes = os.pipe()
    assert not Deadline(0.0).wait_for(reads, selectors.EVENT_READ)
    assert Deadline(0.0).wait_for(writes, selectors.EVENT_READ | selectors.EVENT_WRITE)
    os.write(writes, b"x")
    assert Deadline(60.0).wait_for(reads, selectors.EVENT_READ)
    os.close(reads)
    os.close(writes)


def test_a_deadline_that_is_days_away_is_waited_for_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    def select(_: object, seconds: float) -> list[object]:
        waits.append(seconds)  # in which nothing becomes ready
        return []

    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    deadline = Deadline(100_000.0, clock=lambda: sum(waits))
    assert not deadline.wait_for(-1, selectors.EVENT_READ)
    assert waits == [_waiting.LONGEST, 100_000.0 - _waiting.LONGEST]
