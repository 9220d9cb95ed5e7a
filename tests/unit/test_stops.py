"""Tasks that were asked to stop: they are asked again, ever more seldom, until they have ended."""

from mirai_executor._local._stops import Stops


def times_asked(stops: Stops[str], until: float) -> list[float]:
    """Let time pass; return when somebody was asked, in milliseconds."""
    asked: list[float] = []

    def ask(_: str) -> bool:
        asked.append(round(1000 * now))
        return True

    while (now := min(stops.deadlines(), default=until)) < until:
        stops.insist(now, ask)
    return asked


def test_a_task_is_asked_again_after_pauses_that_double() -> None:
    stops: Stops[str] = Stops()
    stops.add("task", 1.0)
    assert times_asked(stops, until=1.7) == [1020, 1060, 1140, 1300, 1620]


def test_a_task_that_has_ended_is_not_asked_again() -> None:
    stops: Stops[str] = Stops()
    stops.add("task", 1.0)
    stops.add("other", 1.5)
    stops.discard("task")
    stops.discard("unknown")
    assert times_asked(stops, until=1.6) == [1520, 1560]


def test_a_task_that_cannot_be_asked_is_forgotten() -> None:
    stops: Stops[str] = Stops()
    stops.add("task", 1.0)
    stops.insist(1.01, lambda _: False)
    assert stops.asked, "it was not asked yet"
    stops.insist(1.02, lambda _: False)
    assert not stops.asked
