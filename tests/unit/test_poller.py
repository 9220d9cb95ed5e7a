"""How the host thread waits, and what ends the wait."""

import math
import time
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mirai_executor import _nowait
from mirai_executor._host._poller import Poller


@pytest.fixture
def inbox() -> deque[int]:
    return deque()


@pytest.fixture
def poller(inbox: deque[int]) -> Iterator[Any]:
    poller = Poller(inbox)
    yield poller
    poller.close()


def test_who_is_called_ends_the_wait(poller: Any) -> None:
    poller.wake()
    (hear,) = poller.wait(0, math.inf)
    hear()
    assert poller.look() == []


def test_an_item_of_the_inbox_ends_the_wait(poller: Any, inbox: deque[int]) -> None:
    inbox.append(1)
    assert poller.wait(0, math.inf) == poller.wait(1, math.inf) == poller.wait(2, math.inf) == []


def test_time_ends_the_wait(poller: Any) -> None:
    assert poller.wait(0, 0.0) == []
    assert not poller.asleep


@pytest.mark.parametrize("days", [30.0, 1e300])
def test_a_moment_that_lies_farther_ahead_than_a_selector_can_wait_is_waited_for(
    poller: Any, days: float
) -> None:
    poller.wake()
    assert len(poller.wait(0, time.monotonic() + 86400.0 * days)) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_with_nothing_there_but_one_task_at_most_the_thread_sleeps_without_a_look_before(
    poller: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    def ready(_: object) -> None:
        raise AssertionError("looked")

    monkeypatch.setattr(_nowait, "ready", ready)
    assert poller.wait(count, 0.0) == []
    with pytest.raises(AssertionError, match="looked"):
        poller.wait(2, 0.0)


@pytest.mark.parametrize("happens", ["many tasks", "many items", "many sleeps"])
def test_what_takes_long_to_load_is_loaded_for_a_burst_or_a_long_life(
    poller: Any, inbox: deque[int], monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    loaded: list[bool] = []
    monkeypatch.setattr(_nowait, "load", lambda: loaded.append(True))
    inbox.append(1)
    poller.wait(1, math.inf)
    assert not loaded
    inbox.extend([2] if happens == "many items" else [])
    for _ in range(20 if happens == "many sleeps" else 1):
        poller.wait(2 if happens == "many tasks" else 1, 0.0)
    assert loaded == [True]


def test_while_it_sleeps_it_has_to_be_woken(poller: Any, inbox: deque[int]) -> None:
    def select(_: float | None) -> list[Any]:
        asleep.append(poller.asleep)
        return []

    asleep: list[bool] = []
    poller.selector, real = SimpleNamespace(select=select), poller.selector
    try:
        poller.wait(1, math.inf)
    finally:
        poller.selector = real
    assert asleep == [True]
    assert not poller.asleep


def test_who_has_a_closed_poller_wakes_nobody() -> None:
    poller = Poller(())
    poller.close()
    poller.wake()
    assert poller.waker is None
