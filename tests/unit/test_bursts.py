"""When submissions that follow each other let the host thread run."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from mirai_executor._host import Host, _host_thread

_HOST: Any = Host


class Burst:
    """A host whose thread runs only when it is let, and then takes in all that waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turns: list[int] = []  # after which submission since the host was idle
        self.takes_in_at_once = False
        self._submitted = self._idle_at = 0
        self.host: Any = SimpleNamespace(
            _inbox=[],
            _threads=["host"],
            _open_task=tuple,
            _turn=_host_thread._FEW,
            _next_turn=_host_thread._FEW,
            _finished=False,
        )
        self._reactor = SimpleNamespace(needs_waking=True, wake=self._wake)
        self._loop = self.host._loop = SimpleNamespace(is_idle=True, reactor=self._reactor)
        self.host._put = partial(_HOST._put, self.host)
        self.host._give_turn = partial(_HOST._give_turn, self.host)
        monkeypatch.setattr(
            _host_thread, "time", SimpleNamespace(sleep=self._run)
        )  # of no other thread

    def _wake(self) -> None:
        self._reactor.needs_waking = False
        if self.takes_in_at_once:
            self.take_in()

    def _run(self, _: float) -> None:
        self.turns.append(self._submitted - self._idle_at)
        self.take_in()

    def take_in(self) -> None:
        """Have the host thread run."""
        self._reactor.needs_waking = self._loop.is_idle = False
        self.host._inbox.clear()

    def rest(self) -> None:
        """Have all tasks end, and the host thread sleep."""
        self.take_in()
        self._reactor.needs_waking = self._loop.is_idle = True
        self._idle_at = self._submitted
        self.turns.clear()

    def submit(self, count: int) -> None:
        for _ in range(count):
            self._submitted += 1
            _HOST._accept(self.host, (self._submitted,))


def test_a_burst_lets_the_host_run_soon_and_then_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = Burst(monkeypatch)
    burst.submit(1200)
    assert burst.turns == [17, 49, 113, 241, 497, 753, 1009]


@pytest.mark.parametrize("before", [1, 15, 100, 1010, 1100, 1250, 20_000])
def test_each_burst_begins_like_the_first_one(
    monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    burst = Burst(monkeypatch)
    burst.submit(before)
    burst.rest()
    burst.submit(300)
    assert burst.turns == [17, 49, 113, 241]


def test_a_burst_begins_anew_though_its_first_task_is_taken_in_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = Burst(monkeypatch)
    burst.submit(1100)
    burst.rest()
    burst.takes_in_at_once = True
    burst.submit(300)
    assert burst.turns == [33, 97, 225], "after 1, there was nothing to let go of"


def test_tasks_one_by_one_never_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    burst = Burst(monkeypatch)
    for _ in range(1000):
        burst.submit(1)
        burst.take_in()
    assert burst.turns == []


def test_a_burst_does_not_pause_where_the_host_runs_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    burst = Burst(monkeypatch)
    for _ in range(1000):
        burst.submit(8)
        burst.take_in()
    assert burst.turns == []
