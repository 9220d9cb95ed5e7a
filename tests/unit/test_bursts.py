"""When submissions that follow each other let the host thread run."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from mirai_executor import _host
from mirai_executor._host import Host


class Burst:
    """A host whose thread runs only when it is let, and then takes in all that waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turns: list[int] = []  # after which submission
        self.submitted = 0
        self.loop = SimpleNamespace(is_idle=True)
        self.host: Any = SimpleNamespace(
            _inbox=[], _threads=[], _loop=self.loop, _turn=_host._FEW, _next_turn=_host._FEW
        )
        monkeypatch.setattr(time, "sleep", self._run)

    def _run(self, _: float) -> None:
        self.turns.append(self.submitted)
        self.take_in()

    def take_in(self) -> None:
        self.loop.is_idle = False
        self.host._inbox.clear()

    def submit(self, count: int) -> None:
        for _ in range(count):
            self.submitted += 1
            self.host._inbox.append(None)
            if self.submitted >= self.host._next_turn:
                Host._give_turn(self.host, self.submitted)


def test_a_burst_lets_the_host_run_soon_and_then_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = Burst(monkeypatch)
    burst.submit(1200)
    assert burst.turns == [16, 48, 112, 240, 496, 752, 1008]


def test_tasks_one_by_one_never_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    burst = Burst(monkeypatch)
    for _ in range(1000):
        burst.submit(1)
        burst.take_in()
        burst.loop.is_idle = True
    assert burst.turns == []
    burst.submit(100)
    assert burst.turns[0] <= 1000 + 32, "the next burst begins as the first one"


def test_a_burst_does_not_pause_where_the_host_runs_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = Burst(monkeypatch)
    for _ in range(1000):
        burst.submit(8)
        burst.take_in()
    assert burst.turns == []
