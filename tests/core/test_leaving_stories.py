"""Why and how daemons leave, one story at a time."""

import pytest

from mirai_executor._core import (
    BroadcastAnswered,
    CancelRequested,
    DaemonLost,
    DaemonReady,
    DismissDaemon,
    Dispatcher,
    EverywhereRequested,
    KillDaemon,
    LaunchDaemon,
    LeaveRequested,
    RestartRequested,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
)

from .shorthand import (
    SETUP,
    T1,
    T2,
    T3,
    A,
    B,
    C,
    Dispatch,
    resolve,
    result_arrived,
    start,
    submit,
)


def test_a_daemon_leaves_after_its_last_task_and_is_replaced_if_there_is_work(
    dispatch: Dispatch,
) -> None:
    single = dispatch(1, max_tasks=2)
    start(single)
    submit(single, T1, T2, T3)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendTasks(A, (T2,))]
    assert single.handle(result_arrived(A, T2), 2) == [resolve(T2), DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 4) == [SendTasks(B, (T3,))]
    assert single.handle(result_arrived(B, T3), 5) == [resolve(T3)]


@pytest.mark.parametrize(("of_all", "its_own"), [(None, 2), (2, 3), (3, 2)])
def test_a_daemon_may_bring_a_limit_of_its_own_and_the_lower_one_counts(
    dispatch: Dispatch, of_all: int | None, its_own: int
) -> None:
    open_to_all = dispatch(1, launches=False, max_tasks=of_all)
    daemon = open_to_all.adopt_daemon(0)
    submit(open_to_all, T1, T2, T3)
    ready = DaemonReady(daemon, max_tasks=its_own)
    assert open_to_all.handle(ready, 1) == [SendTasks(daemon, (T1,))]
    assert open_to_all.handle(result_arrived(daemon, T1), 2) == [
        resolve(T1),
        SendTasks(daemon, (T2,)),
    ]
    assert open_to_all.handle(result_arrived(daemon, T2), 3) == [
        resolve(T2),
        DismissDaemon(daemon),
    ]


def test_what_was_cancelled_before_it_began_does_not_count(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1, T2)
    assert single.handle(result_arrived(A, T1, seconds=None), 1) == [
        resolve(T1),
        SendTasks(A, (T2,)),
    ]
    assert single.handle(result_arrived(A, T2), 2) == [resolve(T2), DismissDaemon(A)]


def test_a_daemon_that_leaves_is_not_replaced_without_work(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 2) == []
    assert single.view().daemons == {}


def test_a_leaving_daemon_gets_no_task(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, max_tasks=1)
    start(dispatcher)
    submit(dispatcher, T1)
    dispatcher.handle(result_arrived(A, T1), 1)
    assert submit(dispatcher, T2) == [LaunchDaemon(B)]
    assert dispatcher.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]


def test_a_leaving_daemon_takes_up_its_place_until_it_is_gone(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    single.handle(result_arrived(A, T1), 1)
    assert submit(single, T2) == []
    assert single.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]


def test_a_dismissed_daemon_that_stays_is_killed(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1, leave_grace=10.0)
    start(single)
    submit(single, T1, T2)
    single.handle(result_arrived(A, T1), 1)
    assert single.next_deadline() == 11
    assert single.expire(11) == [KillDaemon(A)]
    assert single.handle(DaemonLost(A), 12) == [LaunchDaemon(B)]


def test_leaving_is_never_a_failed_start(dispatch: Dispatch) -> None:
    single = dispatch(1, failed_starts=1)
    start(single)
    assert single.handle(LeaveRequested(A), 0) == [DismissDaemon(A)]
    single.handle(DaemonLost(A), 1)
    assert not single.is_broken


def test_an_idle_daemon_leaves_after_a_while(dispatch: Dispatch) -> None:
    single = dispatch(1, idle_time=5.0)
    start(single)
    assert single.next_deadline() == 5
    assert single.expire(4.9) == []
    assert single.expire(5) == [DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 6) == []


def test_a_daemon_that_worked_meanwhile_is_not_idle(dispatch: Dispatch) -> None:
    single = dispatch(1, idle_time=5.0)
    start(single)
    submit(single, T1, now=3)
    assert single.expire(6) == [], "it runs"
    single.handle(result_arrived(A, T1), 7)
    assert single.expire(11.9) == []
    assert single.expire(12) == [DismissDaemon(A)]


def test_a_daemon_is_not_idle_before_it_is_ready_and_has_done_what_all_do(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(1, launches=False, idle_time=9.0)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(EverywhereRequested(SETUP), 1)
    assert open_to_all.expire(20) == [], "it starts"
    ready = DaemonReady(daemon, idle_time=5.0)
    assert open_to_all.handle(ready, 20) == [SendBroadcast(daemon, SETUP)]
    assert open_to_all.expire(40) == [], "it works"
    open_to_all.handle(BroadcastAnswered(daemon, SETUP), 41)
    assert open_to_all.next_deadline() == 46
    assert open_to_all.expire(46) == [DismissDaemon(daemon)]


def test_idle_timeouts_spare_the_daemon_that_worked_last(dispatch: Dispatch) -> None:
    dispatcher = dispatch(2, idle_time=5.0)
    start(dispatcher, 2)
    submit(dispatcher, T1, now=3)
    dispatcher.handle(result_arrived(B, T1), 4)
    assert dispatcher.expire(5) == [DismissDaemon(A)]
    assert dispatcher.expire(9) == [DismissDaemon(B)]


def test_a_daemon_that_asks_to_leave_goes_at_once_if_idle(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    assert dispatcher.handle(LeaveRequested(B), 0) == [DismissDaemon(B)]
    assert dispatcher.handle(LeaveRequested(B), 0) == []
    assert submit(dispatcher, T1) == [SendTasks(A, (T1,))]


def test_a_daemon_that_asks_to_leave_finishes_its_task_first(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(LeaveRequested(A), 1) == []
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), DismissDaemon(A)]
    assert single.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]


def test_a_daemon_that_asks_to_leave_before_it_is_ready_gets_no_task(
    dispatcher: Dispatcher,
) -> None:
    submit(dispatcher, T1)
    assert dispatcher.handle(LeaveRequested(A), 0) == []
    assert dispatcher.handle(DaemonReady(A), 1) == [DismissDaemon(A), LaunchDaemon(B)]


def test_a_restart_replaces_each_daemon_once_it_is_free(dispatch: Dispatch) -> None:
    dispatcher = dispatch(3)
    start(dispatcher, 2)
    submit(dispatcher, T1)
    assert dispatcher.handle(RestartRequested(), 1) == [DismissDaemon(A)], "B is busy"
    assert submit(dispatcher, T2, now=1) == [LaunchDaemon(C)]
    assert dispatcher.handle(DaemonReady(C), 2) == [SendTasks(C, (T2,))]
    assert dispatcher.handle(result_arrived(B, T1), 3) == [resolve(T1), DismissDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 4) == []


def test_a_daemon_that_was_on_its_way_before_a_restart_gets_no_task(
    dispatch: Dispatch,
) -> None:
    dispatcher = dispatch(1)
    assert submit(dispatcher, T1) == [LaunchDaemon(A)]
    assert dispatcher.handle(RestartRequested(), 1) == []
    assert dispatcher.handle(DaemonReady(A), 2) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]


def test_new_daemons_make_the_calls_that_all_have_made(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(BroadcastAnswered(A, SETUP), 1)
    assert single.handle(RestartRequested(), 2) == [DismissDaemon(A)]
    single.handle(DaemonLost(A), 3)
    assert submit(single, T1, now=4) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 5) == [SendBroadcast(B, SETUP)]


def test_a_restart_does_not_hold_up_a_shutdown(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(ShutdownRequested(), 1)
    assert single.handle(RestartRequested(), 2) == []
    assert single.handle(result_arrived(A, T1), 3) == [resolve(T1), DismissDaemon(A)]


def test_a_spoilt_daemon_is_replaced_not_reused(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(result_arrived(A, T1, leaving=True), 1) == [
        resolve(T1),
        DismissDaemon(A),
    ]
    assert single.handle(DaemonLost(A), 2) == [LaunchDaemon(B)]


def test_a_daemon_spoilt_by_a_cancel_is_replaced_not_reused(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 1)
    assert single.handle(result_arrived(A, T1, leaving=True), 2) == [DismissDaemon(A)]
