"""How the host thread waits: when it spins for a result, and what it sees meanwhile."""

from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mirai_executor._host._poller import Poller


@pytest.fixture
def inbox() -> deque[int]:
    return deque()


@pytest.fixture
def poller(inbox: deque[int]) -> Iterator[Any]:
    poller = Poller(inbox, spins=True)
    yield poller
    poller.close()


class Spinner:
    """Notes what is asked of it, and looks as often as it is told."""

    def __init__(self, looks: int) -> None:
        self.happened: list[str] = []
        self._looks = looks

    def spin(self, look: Any) -> Any:
        self.happened.append("spin")
        for _ in range(self._looks):
            if (found := look()) is not None:
                return found
        return None

    def learn(self, _: float) -> None:
        self.happened.append("learn")


def test_who_is_called_ends_the_wait(poller: Any) -> None:
    poller.wake()
    (hear,) = poller.wait(0, list)
    hear()
    assert poller.look() == []


def test_an_item_of_the_inbox_ends_the_wait(poller: Any, inbox: deque[int]) -> None:
    inbox.append(1)
    assert poller.wait(0, list) == poller.wait(1, list) == poller.wait(2, list) == []


def test_time_ends_the_wait(poller: Any) -> None:
    assert poller.wait(0, lambda: [0.0]) == []
    assert not poller.asleep


@pytest.mark.parametrize("happens", ["call", "item", "nothing"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_only_the_result_of_a_single_task_is_spun_for(
    poller: Any, inbox: deque[int], count: int, happens: str
) -> None:
    spinner = poller._spinner = Spinner(looks=3)
    asleep: list[bool] = []

    def deadlines() -> list[float]:
        asleep.append(True)
        return [0.0]

    def select(timeout: float) -> list[Any]:
        # Something happens during the look, not before it.
        if happens == "item":
            inbox.append(1)
        return [(SimpleNamespace(data=print), 1)] if happens == "call" else []

    poller.selector, real = SimpleNamespace(select=select), poller.selector
    try:
        found = poller.wait(count, deadlines)
    finally:
        poller.selector = real
    assert found == ([print] if happens == "call" else [])
    spins = count == 1
    assert spinner.happened == ["spin", "learn"] * spins
    assert bool(asleep) is not (spins and happens != "nothing")


def test_who_has_a_closed_poller_wakes_nobody() -> None:
    poller = Poller((), spins=False)
    poller.close()
    poller.wake()
    assert poller.waker is None
