"""Tasks that are dealt to daemons when submitted, one story at a time."""

from mirai_executor._core import (
    CancelRequested,
    DaemonLost,
    DaemonReady,
    DismissDaemon,
    FailTask,
    Failure,
    LaunchDaemon,
    LeaveRequested,
    SendTasks,
)

from .shorthand import (
    T1,
    T2,
    T3,
    T4,
    A,
    B,
    C,
    Dispatch,
    resolve,
    result_arrived,
    start,
    submit,
)


def test_direct_tasks_are_dealt_round_robin_when_submitted(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    assert submit(dispatcher, T1, T2, T3, T4) == [SendTasks(A, (T1,)), SendTasks(B, (T2,))]
    assert dispatcher.handle(result_arrived(B, T2), 1) == [resolve(T2), SendTasks(B, (T4,))]
    assert dispatcher.handle(result_arrived(B, T4), 2) == [resolve(T4)]
    assert dispatcher.handle(result_arrived(A, T1), 3) == [resolve(T1), SendTasks(A, (T3,))]


def test_a_direct_task_waits_behind_a_long_one_beside_an_idle_daemon(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(result_arrived(B, T2), 1)
    assert submit(dispatcher, T3) == []
    assert dispatcher.handle(result_arrived(A, T1), 9) == [resolve(T1), SendTasks(A, (T3,))]


def test_direct_mode_starts_all_its_daemons_with_the_first_task(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    assert submit(dispatcher, T1, T2) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 1) == [SendTasks(B, (T2,))]
    assert dispatcher.handle(DaemonReady(A), 2) == [SendTasks(A, (T1,))]


def test_direct_tasks_are_dealt_anew_when_their_daemon_is_lost(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3, T4)
    dispatcher.handle(result_arrived(B, T2), 1)
    dispatcher.handle(result_arrived(B, T4), 1)
    assert dispatcher.handle(DaemonLost(A, started=(T1,)), 2) == [
        FailTask(T1, Failure.DAEMON_LOST, A),
        LaunchDaemon(C),
        SendTasks(B, (T3,)),
    ]


def test_direct_tasks_are_dealt_anew_when_their_daemon_leaves(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, direct=True, max_tasks=1)
    start(dispatcher)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(result_arrived(A, T1), 1) == [resolve(T1), DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 3) == [SendTasks(B, (T2,))]


def test_direct_tasks_do_not_wait_for_a_busy_daemon_that_asked_to_leave(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(2, direct=True)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3)
    dispatcher.handle(result_arrived(B, T2), 1)
    assert dispatcher.handle(LeaveRequested(A), 2) == [SendTasks(B, (T3,))]
    assert submit(dispatcher, T4) == [], "B it is again"
    assert dispatcher.handle(result_arrived(B, T3), 3) == [resolve(T3), SendTasks(B, (T4,))]


def test_direct_tasks_without_any_daemon_wait_for_the_first(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, direct=True, launches=False)
    assert submit(dispatcher, T1, T2) == []
    daemon = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonReady(daemon), 1) == [SendTasks(daemon, (T1,))]
    assert dispatcher.handle(result_arrived(daemon, T1), 2) == [
        resolve(T1),
        SendTasks(daemon, (T2,)),
    ]


def test_a_direct_task_that_waits_can_be_cancelled(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, direct=True)
    start(dispatcher)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(CancelRequested(T2), 1) == [FailTask(T2, Failure.CANCELLED)]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_direct_tasks_keep_their_order_when_their_daemon_dies_before_it_is_ready(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(1, direct=True)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 2) == [SendTasks(B, (T1,))]


def test_a_broken_executor_fails_direct_tasks_too(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, direct=True, failed_starts=1)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(DaemonLost(A), 1) == [
        FailTask(T1, Failure.BROKEN),
        FailTask(T2, Failure.BROKEN),
    ]
