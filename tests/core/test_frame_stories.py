"""Tasks that share a frame: which do, and what becomes of them."""

import pytest

from mirai_executor._core import (
    CancelRequested,
    Command,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsRequested,
    DismissDaemon,
    Dispatcher,
    Event,
    EverywhereRequested,
    FailTask,
    Failure,
    InterruptTask,
    LaunchDaemon,
    Policy,
    RecallTasks,
    ResolveTasks,
    RestartRequested,
    ResultsArrived,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
    TaskId,
    TasksReturned,
    TaskSubmitted,
)
from mirai_executor._core.messages import BroadcastId

from .shorthand import resolve, result_arrived, submitted

A, B = DaemonId(1), DaemonId(2)
SHORT, LONG = 1, 2  # kinds
HUNDRED = 100e-6  # seconds: a frame has room for four such tasks
FOUR_HUNDRED = 400e-6


class CheckedDispatcher(Dispatcher):
    """A dispatcher that looks itself over after every step."""

    def handle_all(self, events: list[Event], now: float) -> list[Command]:  # type: ignore[override]  # a list will do here
        commands = super().handle_all(events, now)
        self.check_invariants()
        return commands

    def handle(self, event: Event, now: float) -> list[Command]:
        return self.handle_all([event], now)

    def expire(self, now: float) -> list[Command]:
        commands = super().expire(now)
        self.check_invariants()
        return commands


def ids(first: int, last: int) -> tuple[TaskId, ...]:
    return tuple(TaskId(n) for n in range(first, last + 1))


def proven(daemons: int, seconds: float = HUNDRED, **options: object) -> Dispatcher:
    """Return a dispatcher of ready daemons that has seen three tasks of the kind SHORT."""
    options = {"frame_time": FOUR_HUNDRED, **options}
    dispatcher = CheckedDispatcher(Policy(daemons, **options))  # type: ignore[arg-type]  # those of Policy
    for command in dispatcher.handle(DaemonsRequested(daemons), 0):
        assert isinstance(command, LaunchDaemon)
        dispatcher.handle(DaemonReady(command.daemon), 0)
    for task in ids(901, 903):
        (command,) = dispatcher.handle(TaskSubmitted(task, kind=SHORT), 0)
        assert isinstance(command, SendTasks)
        dispatcher.handle(result_arrived(command.daemon, task, seconds=seconds), 0)
    return dispatcher


def submit(
    dispatcher: Dispatcher, tasks: tuple[TaskId, ...], kind: int | None = SHORT, now: float = 0
) -> list[Command]:
    return dispatcher.handle_all([TaskSubmitted(task, kind=kind) for task in tasks], now)


def finish(
    dispatcher: Dispatcher, daemon: DaemonId, tasks: tuple[TaskId, ...], now: float = 0
) -> list[Command]:
    results = ResultsArrived(daemon, dict.fromkeys(tasks, HUNDRED))
    return [c for c in dispatcher.handle(results, now) if not isinstance(c, ResolveTasks)]


# What shares a frame


def test_tasks_of_a_kind_that_has_proven_short_share_frames() -> None:
    dispatcher = proven(1)
    assert submit(dispatcher, ids(1, 10)) == [
        SendTasks(A, ids(1, 4)),  # as many as fill the time of a frame
        SendTasks(A, ids(5, 8)),  # one more frame waits behind it, and no third
    ]
    assert finish(dispatcher, A, ids(1, 3)) == []
    assert finish(dispatcher, A, ids(4, 4)) == [SendTasks(A, ids(9, 10))]


def test_tasks_of_an_unknown_kind_travel_alone() -> None:
    dispatcher = proven(1)
    assert submit(dispatcher, ids(1, 3), LONG) == [SendTasks(A, ids(1, 1))]
    assert finish(dispatcher, A, ids(1, 1)) == [SendTasks(A, ids(2, 2))]


def test_two_tasks_are_no_proof() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 9), LONG)
    finish(dispatcher, A, ids(1, 1))
    assert finish(dispatcher, A, ids(2, 2)) == [SendTasks(A, ids(3, 3))]
    assert finish(dispatcher, A, ids(3, 3)) == [SendTasks(A, ids(4, 7)), SendTasks(A, ids(8, 9))]


def test_a_frame_ends_before_the_first_task_that_is_not_proven() -> None:
    dispatcher = proven(1)
    tasks = [TaskSubmitted(TaskId(n), kind=LONG if n == 3 else SHORT) for n in range(1, 5)]
    assert dispatcher.handle_all(tasks, 0) == [SendTasks(A, ids(1, 2))]
    assert finish(dispatcher, A, ids(1, 2)) == [SendTasks(A, ids(3, 3))]
    assert finish(dispatcher, A, ids(3, 3)) == [SendTasks(A, ids(4, 4))]


def test_a_task_with_a_time_to_run_travels_alone() -> None:
    dispatcher = proven(1)
    tasks = [submitted(n, run_timeout=1.0, kind=SHORT) for n in ids(1, 2)]
    assert dispatcher.handle_all([*tasks], 0) == [SendTasks(A, ids(1, 1))]


def test_no_frame_is_more_than_a_fair_share() -> None:
    dispatcher = proven(2, seconds=1e-6)
    assert submit(dispatcher, ids(1, 5)) == [SendTasks(B, ids(1, 3)), SendTasks(A, ids(4, 5))]


def test_a_frame_has_a_size() -> None:
    dispatcher = proven(1, seconds=1e-9, frame_size=3)
    assert submit(dispatcher, ids(1, 7)) == [SendTasks(A, ids(1, 3)), SendTasks(A, ids(4, 6))]


def test_a_frame_ends_with_what_a_daemon_may_do() -> None:
    dispatcher = proven(1, seconds=1e-6, max_tasks=5)
    assert submit(dispatcher, ids(1, 5)) == [SendTasks(A, ids(1, 2))]
    assert finish(dispatcher, A, ids(1, 2)) == [DismissDaemon(A)]


def test_a_single_slow_task_ends_the_frames_of_its_kind() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 1))
    dispatcher.handle(result_arrived(A, TaskId(1), seconds=1.0), 0)
    assert submit(dispatcher, ids(2, 3)) == [SendTasks(A, ids(2, 2))]


def test_strict_order_sends_each_task_alone_to_a_daemon_that_is_free() -> None:
    dispatcher = proven(1, frame_time=0.0)
    assert submit(dispatcher, ids(1, 3)) == [SendTasks(A, ids(1, 1))]
    assert finish(dispatcher, A, ids(1, 1)) == [SendTasks(A, ids(2, 2))]


def test_the_direct_mode_fills_frames_from_what_was_dealt() -> None:
    dispatcher = proven(1, direct=True)
    assert submit(dispatcher, ids(1, 9)) == [SendTasks(A, ids(1, 1))]
    assert finish(dispatcher, A, ids(1, 1)) == [SendTasks(A, ids(2, 5))]


# What is sent ahead


def test_a_task_too_long_for_a_frame_may_still_wait_at_a_busy_daemon() -> None:
    dispatcher = proven(1, seconds=1e-3)
    assert submit(dispatcher, ids(1, 3)) == [SendTasks(A, ids(1, 1)), SendTasks(A, ids(2, 2))]


def test_nothing_waits_behind_a_task_that_takes_long() -> None:
    dispatcher = proven(1, seconds=16e-3)
    assert submit(dispatcher, ids(1, 3)) == [SendTasks(A, ids(1, 1))]


def test_nothing_is_sent_ahead_of_everywhere() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 8))
    dispatcher.handle(EverywhereRequested(BroadcastId(1)), 0)
    submit(dispatcher, ids(9, 20))
    assert finish(dispatcher, A, ids(1, 4)) == []
    assert finish(dispatcher, A, ids(5, 8)) == [SendBroadcast(A, BroadcastId(1))]


def test_an_idle_daemon_has_what_waits_at_a_busy_one() -> None:
    dispatcher = proven(2, seconds=1e-3)
    assert submit(dispatcher, ids(1, 4)) == [
        SendTasks(B, ids(1, 1)),
        SendTasks(A, ids(2, 2)),
        SendTasks(A, ids(3, 3)),
    ]
    assert finish(dispatcher, B, ids(1, 1)) == [SendTasks(B, ids(4, 4))]
    assert finish(dispatcher, B, ids(4, 4)) == [RecallTasks(A)]
    assert dispatcher.handle(TasksReturned(A, ids(3, 3)), 0) == [SendTasks(B, ids(3, 3))]


def test_an_idle_daemon_has_what_stands_behind_a_task_that_may_take_long() -> None:
    dispatcher = proven(2, seconds=1e-3, frame_time=2.5e-3)
    assert submit(dispatcher, ids(1, 4)) == [SendTasks(B, ids(1, 2)), SendTasks(A, ids(3, 4))]
    finish(dispatcher, B, ids(1, 1))
    assert finish(dispatcher, B, ids(2, 2)) == [RecallTasks(A)]
    assert dispatcher.handle(TasksReturned(A, ids(4, 4)), 0) == [SendTasks(B, ids(4, 4))]
    assert finish(dispatcher, A, ids(3, 3)) == []


def test_an_idle_daemon_leaves_a_frame_of_quick_tasks_alone() -> None:
    dispatcher = proven(2)
    submit(dispatcher, ids(1, 8))
    assert finish(dispatcher, B, ids(1, 4)) == []


def test_in_direct_mode_nobody_takes_what_another_daemon_was_dealt() -> None:
    dispatcher = proven(2, seconds=1e-3, frame_time=2.5e-3, direct=True)
    three, four, five, six = ids(3, 6)
    assert submit(dispatcher, ids(1, 6)) == [SendTasks(B, ids(1, 1)), SendTasks(A, ids(2, 2))]
    assert finish(dispatcher, B, ids(1, 1)) == [SendTasks(B, (three, five))]
    assert finish(dispatcher, A, ids(2, 2)) == [SendTasks(A, (four, six))]
    assert finish(dispatcher, A, (four, six)) == [], "what waits at B, stays there"


def test_what_a_daemon_does_not_give_back_is_asked_for_once() -> None:
    dispatcher = proven(2, seconds=1e-3, frame_time=2.5e-3)
    submit(dispatcher, ids(1, 4))
    assert finish(dispatcher, B, ids(1, 2)) == [RecallTasks(A)]
    assert dispatcher.handle(TasksReturned(A, ()), 0) == []
    assert submit(dispatcher, ids(5, 5)) == [SendTasks(B, ids(5, 5))]
    assert finish(dispatcher, B, ids(5, 5)) == []


# What is taken back


def test_a_frame_that_takes_too_long_is_taken_back_and_its_kind_is_unknown_again() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 6))
    deadline = dispatcher.next_deadline()
    assert deadline is not None
    assert deadline < 0.03
    assert dispatcher.expire(deadline) == [RecallTasks(A)]
    assert dispatcher.handle(TasksReturned(A, ids(2, 6)), deadline) == []
    assert dispatcher.view().awaiting == 5
    assert finish(dispatcher, A, ids(1, 1), 1) == [SendTasks(A, ids(2, 2))]


def test_what_is_taken_back_goes_to_the_front_of_the_queue() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 20))
    deadline = dispatcher.next_deadline()
    assert deadline is not None
    dispatcher.expire(deadline)
    dispatcher.handle(TasksReturned(A, ids(2, 8)), deadline)
    order: list[TaskId] = []
    for task in ids(1, 20):
        for command in finish(dispatcher, A, (task,), deadline):
            assert isinstance(command, SendTasks)
            order += command.tasks
    assert order == list(ids(2, 20))


def test_a_restart_takes_back_what_has_not_begun() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 3))
    assert dispatcher.handle(RestartRequested(), 0) == [RecallTasks(A)]
    assert dispatcher.handle(TasksReturned(A, ids(2, 3)), 0) == []
    assert finish(dispatcher, A, ids(1, 1)) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 0) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 0) == [SendTasks(B, ids(2, 3))]


def test_a_cancelled_task_that_has_not_begun_never_does() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 3))
    assert dispatcher.handle(CancelRequested(TaskId(3)), 0) == [
        RecallTasks(A),
        InterruptTask(A, TaskId(3)),
        FailTask(TaskId(3), Failure.CANCELLED, A),
    ]
    assert dispatcher.handle(TasksReturned(A, ids(2, 3)), 0) == []
    assert finish(dispatcher, A, ids(1, 1)) == [SendTasks(A, ids(2, 2))]


def test_what_is_behind_a_cancelled_task_that_runs_is_free_to_go_elsewhere() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 3))
    assert dispatcher.handle(CancelRequested(TaskId(1)), 0) == [
        RecallTasks(A),
        InterruptTask(A, TaskId(1)),
        FailTask(TaskId(1), Failure.CANCELLED, A),
    ]
    assert dispatcher.handle(TasksReturned(A, ids(2, 3)), 0) == []
    assert finish(dispatcher, A, ids(1, 1)) == [SendTasks(A, ids(2, 3))]


def test_a_daemon_that_leaves_gives_back_what_it_has_not_begun() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 3))
    assert dispatcher.handle(result_arrived(A, TaskId(1), leaving=True, seconds=1e-6), 0) == [
        resolve(TaskId(1)),
        RecallTasks(A),
    ]
    assert dispatcher.handle(TasksReturned(A, ids(2, 3)), 0) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 0) == [LaunchDaemon(B)]


def test_what_is_taken_back_after_all_was_cancelled_is_cancelled() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 3))
    deadline = dispatcher.next_deadline()
    assert deadline is not None
    dispatcher.expire(deadline)
    dispatcher.handle(ShutdownRequested(cancel_queued=True), deadline)
    assert dispatcher.handle(TasksReturned(A, ids(2, 3)), deadline) == [
        FailTask(TaskId(2), Failure.CANCELLED, A),
        FailTask(TaskId(3), Failure.CANCELLED, A),
    ]


@pytest.mark.parametrize("event", [TasksReturned(A, ids(1, 2)), TasksReturned(B, ids(1, 2))])
def test_nobody_gives_back_what_was_not_asked_for(event: TasksReturned) -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 2))
    assert dispatcher.handle(event, 0) == []
    assert dispatcher.view().executing == 2


# What is lost


def test_a_lost_daemon_costs_what_it_had_begun_and_no_more() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 6))
    assert finish(dispatcher, A, ids(1, 1)) == []
    assert dispatcher.handle(DaemonLost(A, ids(2, 3)), 0) == [
        FailTask(TaskId(2), Failure.DAEMON_LOST, A),
        FailTask(TaskId(3), Failure.DAEMON_LOST, A),
        LaunchDaemon(B),
    ]
    assert dispatcher.handle(DaemonReady(B), 0) == [SendTasks(B, ids(4, 6))]


def test_an_answer_after_the_question_counts_though_its_daemon_is_lost() -> None:
    dispatcher = proven(1)
    submit(dispatcher, ids(1, 3))
    deadline = dispatcher.next_deadline()
    assert deadline is not None
    assert dispatcher.expire(deadline) == [RecallTasks(A)]
    dispatcher.handle(DaemonLost(A, ids(1, 1)), deadline)
    assert dispatcher.handle(TasksReturned(A, ids(2, 3)), deadline) == []
    assert dispatcher.handle(DaemonReady(B), deadline) == [SendTasks(B, ids(2, 2))]
