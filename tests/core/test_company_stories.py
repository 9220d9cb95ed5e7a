"""Coroutines that run at once at one daemon: which join which, and what becomes of them."""

from mirai_executor._core import (
    CancelRequested,
    Command,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsRequested,
    DismissDaemon,
    Dispatcher,
    EverywhereRequested,
    FailTask,
    Failure,
    InterruptTask,
    KillDaemon,
    LaunchDaemon,
    Policy,
    RecallTasks,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
    TaskId,
    TasksReturned,
    TaskSubmitted,
)
from mirai_executor._core.messages import BroadcastId

from .shorthand import resolve, result_arrived, submitted
from .test_frame_stories import SHORT, CheckedDispatcher, ids, proven

A, B = DaemonId(1), DaemonId(2)
T1, T2, T3, T4, T5 = ids(1, 5)


def ready(daemons: int, **options: object) -> CheckedDispatcher:
    dispatcher = CheckedDispatcher(Policy(daemons, **options))  # type: ignore[arg-type]  # those of Policy
    for command in dispatcher.handle(DaemonsRequested(daemons), 0):
        assert isinstance(command, LaunchDaemon)
        dispatcher.handle(DaemonReady(command.daemon), 0)
    return dispatcher


def submit(
    dispatcher: Dispatcher, *tasks: TaskId, concurrency: int = 3, retries: int = 0
) -> list[Command]:
    events = [submitted(task, kind=1, concurrency=concurrency, retries=retries) for task in tasks]
    return dispatcher.handle_all([*events], 0)


def sent(daemon: DaemonId, *tasks: TaskId) -> list[Command]:
    """Return the commands that send each task alone."""
    return [SendTasks(daemon, (task,)) for task in tasks]


def test_a_daemon_gets_so_many_at_once_and_another_when_one_of_them_has_ended() -> None:
    dispatcher = ready(1)
    assert submit(dispatcher, T1, T2, T3, T4) == sent(A, T1, T2, T3)
    assert dispatcher.handle(result_arrived(A, T2), 1) == [resolve(T2), *sent(A, T4)]
    assert dispatcher.view().executing == 3


def test_those_that_are_free_come_first_and_then_who_has_the_fewest() -> None:
    dispatcher = ready(2)
    assert submit(dispatcher, T1) == sent(B, T1)
    assert submit(dispatcher, T2, T3, T4) == [*sent(A, T2), *sent(B, T3), *sent(A, T4)]


def test_a_daemon_that_is_missing_is_started_though_another_has_room() -> None:
    dispatcher = CheckedDispatcher(Policy(2))
    assert submit(dispatcher, T1) == [LaunchDaemon(A)]
    assert dispatcher.handle(DaemonReady(A), 1) == sent(A, T1)
    assert submit(dispatcher, T2) == [LaunchDaemon(B), *sent(A, T2)]


def test_other_tasks_wait_until_the_last_one_has_ended_and_those_behind_them_too() -> None:
    dispatcher = ready(1)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(TaskSubmitted(T3), 0) == []
    assert submit(dispatcher, T4) == []  # else the other one might wait for ever
    assert dispatcher.handle(result_arrived(A, T1), 1) == [resolve(T1)]
    assert dispatcher.handle(result_arrived(A, T2), 2) == [resolve(T2), *sent(A, T3)]
    assert dispatcher.handle(result_arrived(A, T3), 3) == [resolve(T3), *sent(A, T4)]


def test_they_never_wait_behind_a_short_task_nor_that_behind_them() -> None:
    dispatcher = ready(1)
    for task in ids(11, 13):
        dispatcher.handle(TaskSubmitted(task, kind=1), 0)
        dispatcher.handle(result_arrived(A, task, seconds=1e-5), 0)
    dispatcher.handle(TaskSubmitted(T1, kind=1), 0)
    assert submit(dispatcher, T2) == []
    assert dispatcher.handle(result_arrived(A, T1, seconds=1e-5), 0) == [resolve(T1), *sent(A, T2)]
    assert dispatcher.handle(TaskSubmitted(T3, kind=1), 0) == []


def test_one_joins_the_others_as_soon_as_a_short_task_before_it_is_sent_ahead() -> None:
    dispatcher = proven(2)
    assert submit(dispatcher, T1) == sent(B, T1)
    assert dispatcher.handle(TaskSubmitted(T2, kind=SHORT), 0) == sent(A, T2)
    assert dispatcher.handle(TaskSubmitted(T3, kind=SHORT), 0) == []
    assert submit(dispatcher, T4) == [*sent(A, T3), *sent(B, T4)]


def test_those_with_another_number_wait_for_a_daemon_of_their_own() -> None:
    dispatcher = ready(1)
    submit(dispatcher, T1)
    assert submit(dispatcher, T2, concurrency=5) == []
    assert dispatcher.handle(result_arrived(A, T1), 1) == [resolve(T1), *sent(A, T2)]


def test_nobody_joins_one_that_has_to_stop_as_its_daemon_may_be_killed() -> None:
    dispatcher = ready(1)
    submit(dispatcher, T1, T2)
    commands = dispatcher.handle(CancelRequested(T1), 0)
    cancelled = FailTask(T1, Failure.CANCELLED, A)
    assert commands == [RecallTasks(A), InterruptTask(A, T1), cancelled]
    assert dispatcher.handle(TasksReturned(A, ()), 0) == []
    assert submit(dispatcher, T3) == []
    assert dispatcher.handle(result_arrived(A, T1), 1) == sent(A, T3)


def test_what_a_daemon_has_not_begun_when_one_has_to_stop_comes_back() -> None:
    dispatcher = ready(1)
    submit(dispatcher, T1, T2, T3)
    dispatcher.handle(CancelRequested(T1), 0)
    assert dispatcher.handle(TasksReturned(A, (T3,)), 0) == []
    assert dispatcher.handle(result_arrived(A, T1), 1) == sent(A, T3)


def test_one_that_does_not_stop_costs_those_beside_it() -> None:
    dispatcher = ready(1, cancel_grace=2.0)
    submit(dispatcher, T1)
    submit(dispatcher, T2, retries=1)
    submit(dispatcher, T3)
    dispatcher.handle(CancelRequested(T3), 0)
    dispatcher.handle(TasksReturned(A, ()), 0)
    assert dispatcher.expire(2) == [KillDaemon(A)]
    assert dispatcher.handle(DaemonLost(A, (T1, T2, T3)), 2) == [
        FailTask(T1, Failure.DAEMON_LOST, A),
        LaunchDaemon(B),
    ]
    assert dispatcher.handle(DaemonReady(B), 3) == sent(B, T2)  # which had a retry left


def test_each_has_a_time_to_run_of_its_own() -> None:
    dispatcher = ready(1)
    for second, task in enumerate((T1, T2)):
        dispatcher.handle(submitted(task, run_timeout=5, concurrency=2), second)
    late = dispatcher.expire(5)
    assert FailTask(T1, Failure.RUN_TIMED_OUT, A) in late
    assert InterruptTask(A, T1) in late
    dispatcher.handle(result_arrived(A, T2), 5.5)
    assert dispatcher.view().executing == 0


def test_everywhere_has_to_wait_for_all_of_them_and_nobody_joins_them_meanwhile() -> None:
    dispatcher = ready(1)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(EverywhereRequested(BroadcastId(9)), 0) == []
    assert submit(dispatcher, T3) == []
    assert dispatcher.handle(result_arrived(A, T1), 1) == [resolve(T1)]
    share = SendBroadcast(A, BroadcastId(9))
    assert dispatcher.handle(result_arrived(A, T2), 2) == [resolve(T2), share]


def test_a_daemon_gets_no_more_of_them_than_it_may_do_tasks() -> None:
    dispatcher = ready(1, max_tasks=2)
    assert submit(dispatcher, T1, T2, T3) == sent(A, T1, T2)
    assert dispatcher.handle(result_arrived(A, T1), 1) == [resolve(T1)]
    assert dispatcher.handle(result_arrived(A, T2), 2)[:2] == [resolve(T2), DismissDaemon(A)]


def test_a_shutdown_waits_for_all_of_them() -> None:
    dispatcher = ready(1)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(ShutdownRequested(), 0) == []
    assert dispatcher.handle(result_arrived(A, T2), 1) == [resolve(T2)]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1), DismissDaemon(A)]


def test_without_a_dispatcher_they_run_one_at_a_time() -> None:
    dispatcher = ready(1, direct=True)
    assert submit(dispatcher, T1, T2) == sent(A, T1)
    assert dispatcher.handle(result_arrived(A, T1), 1) == [resolve(T1), *sent(A, T2)]


def test_one_that_comes_back_and_is_sent_again_has_all_of_its_time_to_run() -> None:
    dispatcher = ready(1)
    submit(dispatcher, T1)
    dispatcher.handle(submitted(T2, run_timeout=5, concurrency=3), 0)
    dispatcher.handle(CancelRequested(T1), 1)
    dispatcher.handle(TasksReturned(A, (T2,)), 1)
    assert dispatcher.handle(result_arrived(A, T1), 2) == sent(A, T2)
    assert dispatcher.expire(5) == []
    assert dispatcher.next_deadline() == 7
