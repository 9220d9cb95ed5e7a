"""Daemons that fail to start, and when the dispatcher gives up, one story at a time."""

from mirai_executor._core import (
    CancelRequested,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsRequested,
    Dispatcher,
    EverywhereRequested,
    FailTask,
    Failure,
    InitializerFailed,
    KillDaemon,
    LaunchDaemon,
    LaunchRefused,
    ReportShortage,
    SendTasks,
    TaskId,
    TaskSubmitted,
)

from .shorthand import (
    SETUP,
    T1,
    T2,
    T3,
    T4,
    A,
    B,
    C,
    D,
    Dispatch,
    E,
    resolve,
    result_arrived,
    start,
    submit,
    submitted,
)


def test_daemons_that_keep_dying_at_the_start_break_the_executor(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, failed_starts=3)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 2) == [LaunchDaemon(C)]
    assert not dispatcher.is_broken
    assert dispatcher.handle(DaemonLost(C), 3) == [
        FailTask(T1, Failure.BROKEN),
        FailTask(T2, Failure.BROKEN),
    ]
    assert dispatcher.is_broken


def test_a_broken_executor_fails_tasks_at_once_and_launches_nothing(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, failed_starts=1)
    submit(dispatcher, T1)
    dispatcher.handle(DaemonLost(A), 1)
    assert dispatcher.handle(TaskSubmitted(T2), 2) == [FailTask(T2, Failure.BROKEN)]
    assert dispatcher.handle(DaemonsRequested(1), 2) == []
    assert dispatcher.handle(EverywhereRequested(SETUP), 2) == []


def test_a_broken_executor_lets_running_tasks_end(dispatch: Dispatch) -> None:
    dispatcher = dispatch(failed_starts=1)
    start(dispatcher)
    submit(dispatcher, T1, T2)
    assert dispatcher.handle(DaemonLost(B), 1) == [FailTask(T2, Failure.BROKEN)]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_a_task_that_comes_back_to_a_broken_executor_fails(dispatch: Dispatch) -> None:
    dispatcher = dispatch(failed_starts=1)
    start(dispatcher)
    dispatcher.handle(submitted(T1, retries=3), 0)
    submit(dispatcher, T2)
    dispatcher.handle(DaemonLost(B), 1)
    assert dispatcher.handle(DaemonLost(A, started=(T1,)), 2) == [FailTask(T1, Failure.BROKEN)]


def test_daemons_that_die_before_they_begin_their_task_break_the_executor(
    dispatch: Dispatch,
) -> None:
    single = dispatch(1, failed_starts=2)
    start(single)
    submit(single, T1)
    assert single.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    single.handle(DaemonReady(B), 1)
    assert single.handle(DaemonLost(B), 2) == [FailTask(T1, Failure.BROKEN)]


def test_deaths_that_cost_a_task_never_break_the_executor(dispatch: Dispatch) -> None:
    single = dispatch(1, failed_starts=2)
    for n in range(1, 20):
        task, daemon = TaskId(n), DaemonId(n)
        assert submit(single, task) == [LaunchDaemon(daemon)]
        single.handle(DaemonReady(daemon), 0)
        assert single.handle(DaemonLost(daemon, started=(task,)), 0) == [
            FailTask(task, Failure.DAEMON_LOST, daemon)
        ]


def test_those_that_run_go_on_where_there_is_no_room_for_another(dispatch: Dispatch) -> None:
    dispatcher = dispatch(4, failed_starts=1)
    start(dispatcher)
    assert submit(dispatcher, T1, T2, T3) == [
        SendTasks(A, (T1,)),
        LaunchDaemon(B),
        LaunchDaemon(C),
    ]
    assert dispatcher.handle(LaunchRefused(B), 0) == [ReportShortage()]
    assert dispatcher.handle(LaunchRefused(C), 0) == []  # refused together: known already
    assert dispatcher.view().is_short
    done = dispatcher.handle(result_arrived(A, T1), 0.5)
    assert done == [resolve(T1), SendTasks(A, (T2,))]
    # One is tried, after 1 s, then after 2 more, and that is not told again.
    assert dispatcher.next_deadline() == 1
    assert dispatcher.expire(1) == [LaunchDaemon(D)]
    assert dispatcher.handle(LaunchRefused(D), 1) == []
    assert dispatcher.next_deadline() == 3
    assert dispatcher.expire(3) == [LaunchDaemon(E)]
    assert submit(dispatcher, T4, now=3) == []  # until it is known what comes of that
    # There is room again: as many as are missing are started.
    assert dispatcher.handle(DaemonReady(E), 4) == [SendTasks(E, (T3,)), LaunchDaemon(DaemonId(6))]
    assert not dispatcher.view().is_short


def test_a_lack_of_room_is_told_once_a_daemon_is_there_that_goes_on(dispatch: Dispatch) -> None:
    dispatcher = dispatch()
    assert dispatcher.handle(DaemonsRequested(2), 0) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(LaunchRefused(B), 0) == []
    assert not dispatcher.falls_short_of(2)  # that may have been a moment
    assert dispatcher.handle(DaemonReady(A), 0.5) == [ReportShortage()]
    assert dispatcher.expire(1) == [LaunchDaemon(C)]
    assert dispatcher.handle(LaunchRefused(C), 1) == []
    assert dispatcher.falls_short_of(2)


def test_a_lack_of_room_fails_what_waits_if_there_is_no_daemon_at_all(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, failed_starts=3)
    assert submit(dispatcher, T1, T2) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(LaunchRefused(A), 0) == []
    assert dispatcher.handle(LaunchRefused(B), 0) == [LaunchDaemon(C)]  # there is none to wait for
    assert dispatcher.handle(LaunchRefused(C), 0) == [LaunchDaemon(D)]
    broken = [FailTask(T1, Failure.BROKEN), FailTask(T2, Failure.BROKEN)]
    assert dispatcher.handle(LaunchRefused(D), 0) == broken


def test_failed_starts_count_only_when_close_together(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, failed_starts=2, failure_window=60.0)
    submit(dispatcher, T1)
    assert dispatcher.handle(DaemonLost(A), 0) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 61) == [LaunchDaemon(C)]
    assert dispatcher.handle(DaemonLost(C), 121) == [FailTask(T1, Failure.BROKEN)]


def test_a_result_shows_that_daemons_can_start(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, failed_starts=2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(DaemonReady(A), 0)
    assert dispatcher.handle(DaemonLost(B), 1) == [LaunchDaemon(C)]
    dispatcher.handle(result_arrived(A, T1), 2)
    assert submit(dispatcher, T3, T4) == []
    assert dispatcher.handle(DaemonLost(C), 3) == [LaunchDaemon(DaemonId(4))]


def test_a_daemon_that_has_done_tasks_may_die_idle_without_counting(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, failed_starts=2)
    start(dispatcher, 2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(result_arrived(A, T2), 1)
    dispatcher.handle(result_arrived(B, T1), 1)
    dispatcher.handle(DaemonLost(A), 2)
    dispatcher.handle(DaemonLost(B), 2)
    assert submit(dispatcher, T3) == [LaunchDaemon(C)]


def test_daemons_that_came_by_themselves_may_go_without_breaking_the_executor(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(launches=False, failed_starts=2)
    for _ in range(5):
        daemon = dispatcher.adopt_daemon(0)
        dispatcher.handle(DaemonReady(daemon), 0)
        dispatcher.handle(DaemonLost(daemon), 0)
    assert not dispatcher.is_broken


def test_a_daemon_that_is_not_ready_in_time_is_killed_and_replaced(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, start_timeout=60.0)
    submit(dispatcher, T1)
    assert dispatcher.next_deadline() == 60
    assert dispatcher.expire(60) == [KillDaemon(A, overdue=True)]
    assert dispatcher.handle(DaemonReady(A), 60) == [], "too late"
    assert dispatcher.handle(DaemonLost(A), 61) == [LaunchDaemon(B)]


def test_a_daemon_that_was_not_ready_in_time_counts_as_a_failed_start(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, start_timeout=5.0, failed_starts=2)
    submit(dispatcher, T1)
    dispatcher.expire(5)
    assert dispatcher.handle(DaemonLost(A), 6) == [LaunchDaemon(B)]
    assert dispatcher.expire(11) == [KillDaemon(B, overdue=True)]
    assert dispatcher.handle(DaemonLost(B), 12) == [FailTask(T1, Failure.BROKEN)]


def test_a_ready_daemon_has_no_start_deadline(single: Dispatcher) -> None:
    assert single.next_deadline() is None


def test_a_daemon_that_was_killed_for_its_task_is_no_failed_start(dispatch: Dispatch) -> None:
    single = dispatch(1, failed_starts=1, cancel_grace=1.0)
    start(single)
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 0)
    single.expire(1)
    assert single.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]


def test_a_failed_initializer_fails_what_waits_but_not_what_runs(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    submit(dispatcher, T1)
    assert submit(dispatcher, T2, T3) == [LaunchDaemon(B)]
    assert dispatcher.handle(InitializerFailed(B), 1) == [
        FailTask(T2, Failure.BROKEN),
        FailTask(T3, Failure.BROKEN),
    ]
    assert dispatcher.is_broken
    assert dispatcher.handle(DaemonLost(B), 2) == []
    assert dispatcher.handle(result_arrived(A, T1), 3) == [resolve(T1)]
    assert dispatcher.handle(TaskSubmitted(T4), 4) == [FailTask(T4, Failure.BROKEN)]
