"""Tasks that were asked to stop: they are asked again, ever more seldom, until they have ended."""

from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor._local._process import Stops
from mirai_executor._waiting import Reactor


class World:
    """Tasks that were asked to stop, who is there still, and a clock."""

    def __init__(self) -> None:
        self.now = 1.0
        self.reactor = Reactor(clock=lambda: self.now)
        self.stops: Stops[str] = Stops(self.reactor, self._ask)
        self.are_there = True
        self.asked: list[float] = []  # when, in milliseconds

    def _ask(self, _: str) -> bool:
        self.asked.append(round(1000 * self.now))
        return self.are_there

    def times_asked(self, until: float) -> list[float]:
        """Let time pass; return when somebody was asked, in milliseconds."""
        while (due := self.reactor.next_deadline()) < until:
            self.now = due
            self.reactor.turn()
        return self.asked


@pytest.fixture
def world() -> Iterator[Any]:
    made = World()
    yield made
    made.reactor.close()


def test_a_task_is_asked_again_after_pauses_that_double(world: World) -> None:
    world.stops.add("task")
    assert world.times_asked(until=1.7) == [1020, 1060, 1140, 1300, 1620]


def test_a_task_that_has_ended_is_not_asked_again(world: World) -> None:
    world.stops.add("task")
    world.now = 1.5
    world.stops.add("other")
    world.stops.discard("task")
    world.stops.discard("unknown")
    assert world.times_asked(until=1.6) == [1520, 1560]


def test_a_task_that_cannot_be_asked_is_forgotten(world: World) -> None:
    world.stops.add("task")
    world.are_there = False
    world.times_asked(until=1.01)
    assert world.stops.asked, "it was not asked yet"
    world.times_asked(until=1.03)
    assert not world.stops.asked
    assert world.asked == [1020]
