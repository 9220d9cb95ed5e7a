"""Daemons, one story at a time: when they are started, and what is lost with them."""

from mirai_executor._core import (
    CancelRequested,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsAdded,
    DaemonsRequested,
    DismissDaemon,
    Dispatcher,
    FailTask,
    Failure,
    InitializerFailed,
    LaunchDaemon,
    RestartRequested,
    SendTasks,
    ShutdownRequested,
    TaskSubmitted,
)

from .shorthand import (
    T1,
    T2,
    T3,
    T4,
    A,
    B,
    C,
    D,
    Dispatch,
    resolve,
    result_arrived,
    start,
    submit,
    submitted,
)

# Launching


def test_nothing_is_launched_before_there_is_work(dispatcher: Dispatcher) -> None:
    assert dispatcher.view().daemons == {}
    assert dispatcher.next_deadline() is None


def test_the_first_task_starts_one_daemon_and_runs_there(dispatcher: Dispatcher) -> None:
    assert dispatcher.handle(TaskSubmitted(T1), 0) == [LaunchDaemon(A)]
    assert dispatcher.handle(DaemonReady(A), 1) == [SendTasks(A, (T1,))]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_no_more_daemons_are_launched_than_tasks_wait(dispatch: Dispatch) -> None:
    dispatcher = dispatch(10)
    assert submit(dispatcher, T1, T2) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(A), 1) == [SendTasks(A, (T1,))]
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1), SendTasks(A, (T2,))]
    assert dispatcher.handle(TaskSubmitted(T3), 3) == [], "daemon B is already on its way"
    assert dispatcher.handle(TaskSubmitted(T4), 3) == [LaunchDaemon(C)]


def test_no_more_daemons_are_launched_than_allowed(dispatcher: Dispatcher) -> None:
    assert submit(dispatcher, T1, T2, T3) == [LaunchDaemon(A), LaunchDaemon(B)]


def test_an_idle_daemon_takes_a_task_instead_of_a_new_one(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    assert submit(dispatcher, T1) == [SendTasks(A, (T1,))]


def test_a_dispatcher_told_not_to_launch_waits_for_daemons_that_join(dispatch: Dispatch) -> None:
    dispatcher = dispatch(launches=False)
    assert submit(dispatcher, T1) == []
    assert dispatcher.handle(DaemonsRequested(2), 0) == []
    daemon = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonReady(daemon), 1) == [SendTasks(daemon, (T1,))]


def test_a_daemon_that_joins_by_itself_is_not_launched_once_more(dispatcher: Dispatcher) -> None:
    assert dispatcher.adopt_daemon(0) == A
    assert submit(dispatcher, T1) == [], "the adopted one is on its way"
    assert dispatcher.handle(DaemonReady(A), 1) == [SendTasks(A, (T1,))]


def test_requested_daemons_start_without_work(dispatch: Dispatch) -> None:
    dispatcher = dispatch(3)
    assert dispatcher.handle(DaemonsRequested(2), 0) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.handle(DaemonsRequested(2), 0) == []
    assert dispatcher.handle(DaemonsRequested(9), 0) == [LaunchDaemon(C)]
    assert dispatcher.ready_count == 0
    dispatcher.handle(DaemonReady(B), 1)
    assert dispatcher.ready_count == 1


def test_a_requested_daemon_that_dies_before_all_are_ready_is_replaced(
    dispatcher: Dispatcher,
) -> None:
    dispatcher.handle(DaemonsRequested(2), 0)
    dispatcher.handle(DaemonReady(A), 1)
    assert dispatcher.handle(DaemonLost(B), 1) == [LaunchDaemon(C)]
    dispatcher.handle(DaemonReady(C), 2)
    assert dispatcher.handle(DaemonLost(A), 3) == [], "the request has been met"


def test_a_requested_daemon_that_left_when_idle_is_not_replaced(dispatch: Dispatch) -> None:
    # Else daemons that start minutes apart on a cluster would be started and dismissed for ever.
    dispatcher = dispatch(idle_time=5.0)
    dispatcher.handle(DaemonsRequested(2), 0)
    dispatcher.handle(DaemonReady(A), 0)
    assert dispatcher.expire(5) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 6) == []
    assert dispatcher.handle(DaemonReady(B), 7) == []
    assert dispatcher.handle(DaemonLost(B), 8) == [], "the request has been met"


def test_those_who_wait_for_daemons_hear_of_all_that_came_though_never_together(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(max_tasks=1)
    submit(dispatcher, T1)
    assert dispatcher.handle(DaemonsRequested(2), 0) == [LaunchDaemon(B)]
    dispatcher.handle(DaemonReady(A), 1)
    assert dispatcher.handle(result_arrived(A, T1), 2) == [resolve(T1), DismissDaemon(A)]
    assert not dispatcher.has_come(2)
    dispatcher.handle(DaemonReady(B), 3)
    assert dispatcher.ready_count == 1
    assert dispatcher.has_come(2)
    assert not dispatcher.has_come(3), "nobody has asked for so many"


def test_a_daemon_whose_initializer_failed_has_not_come(dispatch: Dispatch) -> None:
    dispatcher = dispatch(launches=False)
    dispatcher.handle(DaemonsRequested(2), 0)
    assert [dispatcher.adopt_daemon(0) for _ in range(2)] == [A, B]
    dispatcher.handle(InitializerFailed(A), 1)
    dispatcher.handle(DaemonReady(B), 2)
    assert not dispatcher.has_come(2)


def test_those_for_whom_there_is_room_only_later_have_come_once_all_are_ready(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(max_daemons=1, launches=False)
    dispatcher.handle(DaemonsRequested(2), 0)
    for _ in range(2):  # each by a job of its own
        dispatcher.handle(DaemonsAdded(1), 1)
    for daemon in (A, B):
        assert not dispatcher.has_come(2)
        assert dispatcher.adopt_daemon(2) == daemon
        dispatcher.handle(DaemonReady(daemon), 3)
        assert dispatcher.has_come(1)
    assert dispatcher.has_come(2)


def test_those_whose_daemons_have_come_hear_it_though_less_is_asked_for_meanwhile(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(3, max_tasks=1)
    submit(dispatcher, T1, T2)
    dispatcher.handle(DaemonsRequested(3), 0)
    for daemon, task in ((A, T1), (B, T2)):
        dispatcher.handle(DaemonReady(daemon), 1)
        dispatcher.handle(result_arrived(daemon, task), 2)
    dispatcher.handle(DaemonReady(C), 3)
    assert dispatcher.has_come(3)
    dispatcher.handle(DaemonsRequested(1), 3)
    assert dispatcher.has_come(3)


def test_a_daemon_that_is_recalled_makes_room_for_another_that_is_requested(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher, 2)
    assert submit(dispatcher, T1) == [SendTasks(B, (T1,))]
    assert dispatcher.handle(RestartRequested(), 1) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonsRequested(2), 1) == []
    assert dispatcher.handle(result_arrived(B, T1), 2) == [resolve(T1), DismissDaemon(B)]
    assert dispatcher.handle(DaemonLost(A), 3) == [LaunchDaemon(C)]
    dispatcher.handle(DaemonReady(C), 4)
    assert not dispatcher.has_come(2)
    assert dispatcher.handle(DaemonLost(B), 5) == [LaunchDaemon(D)]
    dispatcher.handle(DaemonReady(D), 6)
    assert dispatcher.has_come(2)


def test_daemons_that_nobody_waits_for_any_more_have_not_come(dispatcher: Dispatcher) -> None:
    submit(dispatcher, T1)
    dispatcher.handle(DaemonsRequested(2), 0)
    dispatcher.handle(ShutdownRequested(cancel_queued=False), 1)
    dispatcher.handle(DaemonReady(A), 2)
    assert not dispatcher.has_come(2)


def test_added_daemons_raise_the_limit_and_start_at_once(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3, T4)
    assert dispatcher.handle(DaemonsAdded(1), 1) == [LaunchDaemon(C)]
    assert dispatcher.handle(DaemonReady(C), 2) == [SendTasks(C, (T3,))]
    assert dispatcher.handle(DaemonLost(C, started=(T3,)), 3) == [
        FailTask(T3, Failure.DAEMON_LOST, C),
        LaunchDaemon(DaemonId(4)),
    ], "the limit stays raised"


def test_added_daemons_come_on_top_of_those_on_their_way(dispatch: Dispatch) -> None:
    dispatcher = dispatch(4)
    submit(dispatcher, T1)
    assert dispatcher.handle(DaemonsAdded(2), 1) == [LaunchDaemon(B), LaunchDaemon(C)]


def test_no_daemons_are_added_after_a_shutdown(dispatcher: Dispatcher) -> None:
    dispatcher.handle(ShutdownRequested(), 0)
    assert dispatcher.handle(DaemonsAdded(2), 1) == []
    assert dispatcher.is_finished


# Lost daemons


def test_a_lost_daemon_costs_the_task_that_it_ran_and_no_other(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [
        FailTask(T1, Failure.DAEMON_LOST, A),
        LaunchDaemon(B),
    ]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]


def test_a_task_that_was_not_begun_goes_back_to_the_front(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(DaemonLost(A), 1) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T1,))]


def test_tasks_that_go_back_keep_the_order_of_submission(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3)  # T1 on B, T2 on A
    dispatcher.handle(DaemonLost(B), 1)
    dispatcher.handle(DaemonLost(A), 2)
    assert dispatcher.handle(DaemonReady(C), 3) == [SendTasks(C, (T1,))]
    assert dispatcher.handle(result_arrived(C, T1), 4) == [resolve(T1), SendTasks(C, (T2,))]
    assert dispatcher.handle(result_arrived(C, T2), 5) == [resolve(T2), SendTasks(C, (T3,))]


def test_a_task_goes_back_behind_an_earlier_one_that_did(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, launches=False)
    for _ in range(2):
        dispatcher.handle(DaemonReady(dispatcher.adopt_daemon(0)), 0)
    submit(dispatcher, T1, T2, T3)  # T1 on B, T2 on A
    dispatcher.handle(DaemonLost(B), 1)
    dispatcher.handle(DaemonLost(A), 1)
    assert dispatcher.handle(DaemonReady(dispatcher.adopt_daemon(0)), 2) == [SendTasks(C, (T1,))]


def test_a_task_runs_again_as_often_as_it_may(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=1), 0)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T1,))]
    assert single.handle(DaemonLost(B, started=(T1,)), 3) == [FailTask(T1, Failure.DAEMON_LOST, B)]


def test_going_back_unbegun_costs_no_retry(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=1), 0)
    single.handle(DaemonLost(A), 1)
    single.handle(DaemonReady(B), 2)
    single.handle(DaemonLost(B, started=(T1,)), 3)
    assert single.handle(DaemonReady(C), 4) == [SendTasks(C, (T1,))]


def test_a_task_that_was_stopped_is_not_retried(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=5, timeout=1.0), 0)
    single.expire(1)
    assert single.handle(DaemonLost(A, started=(T1,)), 2) == []


def test_a_cancelled_task_does_not_fail_again_with_its_daemon(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(CancelRequested(T1), 1)
    assert single.handle(DaemonLost(A, started=(T1,)), 2) == []


def test_a_daemon_lost_without_work_left_is_not_replaced(single: Dispatcher) -> None:
    assert single.handle(DaemonLost(A), 1) == []
    assert submit(single, T1) == [LaunchDaemon(B)]
