"""Who spins: only one who was answered at once, for a moment, and if nobody else needs it."""

import os
from types import SimpleNamespace

import pytest

from mirai_executor._spin import Spinner

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_yield"), reason="no sched_yield here")


class Looks:
    """Counts looks; finds something at one of them."""

    def __init__(self, until: int = 1 << 30) -> None:
        self.count = 0
        self._until = until

    def __call__(self) -> str | None:
        self.count += 1
        return "found" if self.count >= self._until else None


@pytest.fixture
def spinner(monkeypatch: pytest.MonkeyPatch) -> Spinner:
    """One that expects to be answered at once, with a clock of its own."""
    Clock.now, Clock.others = 100.0, 0.0
    monkeypatch.setattr("mirai_executor._spin.time", SimpleNamespace(perf_counter=Clock.tick))
    monkeypatch.setattr("mirai_executor._spin._yield", Clock.let_others_run)
    spinner = Spinner(allowed=True, rest=0.2)
    spinner.learn(50e-6)
    return spinner


class Clock:
    """Each look at it takes a microsecond, and other processes take what they want."""

    now = 0.0
    others = 0.0

    @classmethod
    def tick(cls) -> float:
        cls.now += 1e-6
        return cls.now

    @classmethod
    def let_others_run(cls) -> None:
        cls.now += cls.others


def test_what_comes_soon_is_found(spinner: Spinner) -> None:
    looks = Looks(until=20)
    assert spinner.spin(looks) == "found"
    assert looks.count == 20
    assert spinner.spin(Looks(until=1)) == "found"


def test_what_does_not_come_is_given_up_in_time(spinner: Spinner) -> None:
    looks = Looks()
    begun = Clock.now
    assert spinner.spin(looks) is None
    assert Clock.now - begun == pytest.approx(400e-6, abs=3e-6)
    assert spinner.spin(Looks(until=5)) == "found"  # the next time may be another


def test_who_has_waited_long_sleeps_at_once(spinner: Spinner) -> None:
    looks = Looks()
    spinner.learn(2e-3)
    assert spinner.spin(looks) is None
    spinner.learn(0.5e-3)
    assert looks.count == 0
    assert spinner.spin(Looks(until=2)) == "found"


def test_nobody_spins_at_first_nor_where_it_is_not_allowed(spinner: Spinner) -> None:
    looks = Looks()
    assert Spinner(allowed=True).spin(looks) is None
    single = Spinner(allowed=False)
    single.learn(0)
    assert single.spin(looks) is None
    assert looks.count == 0


def test_who_had_to_let_others_run_leaves_them_alone_for_a_while(spinner: Spinner) -> None:
    Clock.others = 3e-3  # a slice of time
    looks = Looks()
    assert spinner.spin(looks) is None
    assert looks.count == 1
    Clock.others = 0.0
    spinner.learn(50e-6)
    assert spinner.spin(looks) is None
    assert looks.count == 1
    Clock.now += 0.2
    assert spinner.spin(Looks(until=3)) == "found"


def test_who_takes_no_rest_goes_on(spinner: Spinner) -> None:
    eager = Spinner(allowed=True)
    eager.learn(50e-6)
    Clock.others = 150e-6
    assert eager.spin(Looks(until=3)) == "found"
    assert spinner.spin(Looks(until=3)) is None
