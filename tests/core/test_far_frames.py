"""Daemons that are far away: they stay busy, and little is lost with one of them."""

import heapq
import itertools

import pytest

from mirai_executor._core import (
    Command,
    DaemonId,
    DaemonReady,
    Dispatcher,
    Event,
    Policy,
    RecallTasks,
    RoundTripMeasured,
    SendTasks,
    TaskId,
    TasksReturned,
    TaskSubmitted,
)

from .shorthand import result_arrived

A, B = DaemonId(1), DaemonId(2)
KIND = 1
ATLANTIC = 0.15  # seconds of a round trip


def far(daemons: int, seconds: float, round_trip: float, **policy: float) -> Dispatcher:
    """Return a dispatcher of idle daemons, to which tasks are known to take so many seconds."""
    dispatcher = Dispatcher(Policy(0, launches=False, **policy))  # type: ignore[arg-type]  # those of Policy
    for _ in range(daemons):
        daemon = dispatcher.adopt_daemon(0)
        dispatcher.handle(RoundTripMeasured(daemon, round_trip), 0)
        dispatcher.handle(DaemonReady(daemon), 0)
    for number in (901, 902, 903):
        task = TaskId(number)
        (command,) = dispatcher.handle(TaskSubmitted(task, kind=KIND), 0)
        assert isinstance(command, SendTasks)
        dispatcher.handle(result_arrived(command.daemon, task, seconds=seconds), 0)
    return dispatcher


def submit(dispatcher: Dispatcher, count: int, now: float = 0) -> list[Command]:
    events: list[Event] = [TaskSubmitted(TaskId(n), kind=KIND) for n in range(1, count + 1)]
    return dispatcher.handle_all(events, now)


def sizes(commands: list[Command]) -> list[int]:
    return [len(command.tasks) for command in commands if isinstance(command, SendTasks)]


@pytest.mark.parametrize(
    ("seconds", "round_trip", "frames"),
    [
        (20e-3, 1e-3, [1]),  # near: nothing is different
        (20e-3, ATLANTIC, [9, 9]),  # as much as fits into a round trip, and as much behind it
        (0.5, ATLANTIC, [1, 1]),  # who waits for a task after this one is idle for a quarter
        (0.7, ATLANTIC, [1]),  # for a sixth: that is no reason to have one wait
        (1 / 64, 60.0, [32, 32]),  # no more than may be lost
        (1e-6, ATLANTIC, [1024, 1024]),
    ],
)
def test_what_is_sent_fills_the_way_to_a_daemon_and_back(
    seconds: float, round_trip: float, frames: list[int]
) -> None:
    assert sizes(submit(far(1, seconds, round_trip), 5000)) == frames


def test_tasks_stay_alone_where_their_order_is_strict() -> None:
    assert sizes(submit(far(1, 20e-3, ATLANTIC, frame_time=0, ahead_below=0), 100)) == [1]


def test_daemons_share_what_would_fit_into_the_frame_of_one() -> None:
    assert sizes(submit(far(2, 20e-3, ATLANTIC), 8)) == [4, 4]


@pytest.mark.parametrize(("count", "is_recalled"), [(10, False), (18, True)])
def test_work_is_taken_back_from_afar_only_if_that_takes_less_time(
    count: int, is_recalled: bool
) -> None:
    dispatcher = far(1, 20e-3, ATLANTIC)
    assert sum(sizes(submit(dispatcher, count))) == count
    late = dispatcher.adopt_daemon(0.1)
    commands = dispatcher.handle(DaemonReady(late), 0.1)
    assert commands == ([RecallTasks(A)] if is_recalled else [])
    if is_recalled:
        back = tuple(TaskId(n) for n in range(6, count + 1))
        (sent,) = dispatcher.handle(TasksReturned(A, back), 0.25)
        assert isinstance(sent, SendTasks)
        assert sent.daemon == late
    dispatcher.check_invariants()


@pytest.mark.parametrize("round_trip", [0.02, ATLANTIC, 0.4])
@pytest.mark.parametrize("seconds", [2e-3, 20e-3, 0.1, 1.0])
def test_two_daemons_far_away_are_busy_for_four_fifths_of_the_time(
    seconds: float, round_trip: float
) -> None:
    """All of it is seen: also how the first tasks prove to be short, and who has the last ones."""
    count = int(2 * 15 / seconds)
    dispatcher = far(2, seconds, round_trip)
    free_at = dict.fromkeys((A, B), 0.0)
    arrivals: list[tuple[float, int, Event]] = []
    number = itertools.count()

    def carry_out(commands: list[Command], now: float) -> None:
        for command in commands:
            if isinstance(command, SendTasks):
                for task in command.tasks:
                    begins = max(now + round_trip / 2, free_at[command.daemon])
                    end = free_at[command.daemon] = begins + seconds
                    answer = result_arrived(command.daemon, task, seconds=seconds)
                    heapq.heappush(arrivals, (end + round_trip / 2, next(number), answer))

    carry_out(submit(dispatcher, count), 0)
    now = 0.0
    while arrivals:
        now, _, event = heapq.heappop(arrivals)
        carry_out(dispatcher.handle(event, now), now)
    assert dispatcher.view().completed == count + 3
    assert count * seconds / (2 * now) > 0.8
