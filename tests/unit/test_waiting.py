"""How a thread that sleeps is woken, and how often."""

import os
import posix
import select

import pytest

from mirai_executor._waiting import Waker


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
