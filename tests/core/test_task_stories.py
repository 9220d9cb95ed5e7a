"""Tasks, one story at a time: their order, and every way in which they end."""

import math

import pytest

from mirai_executor._core import (
    BroadcastAnswered,
    CancelRequested,
    DaemonLost,
    DaemonReady,
    DaemonsRequested,
    DaemonState,
    DaemonView,
    Dispatcher,
    DispatcherView,
    Event,
    EverywhereRequested,
    FailTask,
    Failure,
    InterruptTask,
    KillDaemon,
    KillRequested,
    LaunchDaemon,
    LeaveRequested,
    Policy,
    SendTasks,
    TaskId,
)

from .shorthand import (
    SETUP,
    T1,
    T2,
    T3,
    T4,
    T5,
    A,
    B,
    C,
    Dispatch,
    resolve,
    result_arrived,
    start,
    submit,
    submitted,
)

# First in, first out


def test_tasks_run_in_the_order_of_submission(single: Dispatcher) -> None:
    assert submit(single, T1, T2, T3) == [SendTasks(A, (T1,))]
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendTasks(A, (T2,))]
    assert single.handle(result_arrived(A, T2), 2) == [resolve(T2), SendTasks(A, (T3,))]


def test_the_daemon_that_worked_last_works_next(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2)
    dispatcher.handle(result_arrived(B, T1), 1)
    dispatcher.handle(result_arrived(A, T2), 2)
    assert submit(dispatcher, T3) == [SendTasks(A, (T3,))]


def test_a_daemon_has_one_task_at_a_time(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    assert submit(dispatcher, T1, T2, T3) == [SendTasks(B, (T1,)), SendTasks(A, (T2,))]


# Cancelling


def test_a_queued_task_is_cancelled_without_telling_a_daemon(single: Dispatcher) -> None:
    submit(single, T1, T2, T3)
    assert single.handle(CancelRequested(T2), 1) == [FailTask(T2, Failure.CANCELLED)]
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), SendTasks(A, (T3,))]


def test_a_daemon_gets_no_task_until_it_lets_go_of_a_cancelled_one(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(CancelRequested(T1), 1) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.CANCELLED, A),
    ]
    assert submit(single, T3) == []
    assert single.handle(result_arrived(A, T1), 2) == [SendTasks(A, (T2,))]


def test_a_daemon_that_does_not_let_go_in_time_is_killed_and_replaced(dispatch: Dispatch) -> None:
    single = dispatch(1, cancel_grace=2.0)
    start(single)
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 1)
    assert single.next_deadline() == 3
    assert single.expire(2.9) == []
    assert single.expire(3) == [KillDaemon(A)]
    assert single.next_deadline() is None
    assert single.handle(DaemonLost(A, started=(T1,)), 4) == [LaunchDaemon(B)]
    assert single.handle(DaemonReady(B), 5) == [SendTasks(B, (T2,))]


def test_a_daemon_that_let_go_is_not_killed(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(CancelRequested(T1), 0)
    single.handle(result_arrived(A, T1), 1)
    assert single.next_deadline() is None
    assert single.expire(100) == []


def test_a_running_task_is_left_alone_where_the_standard_library_would(
    single: Dispatcher,
) -> None:
    submit(single, T1, T2)
    assert single.handle(CancelRequested(T1, running=False), 1) == []
    assert single.handle(CancelRequested(T2, running=False), 1) == [
        FailTask(T2, Failure.CANCELLED)
    ]
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1)]


def test_cancelling_twice_is_cancelling_once(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(CancelRequested(T1), 1)
    assert single.handle(CancelRequested(T1), 1) == []
    assert single.handle(CancelRequested(T1, running=False), 1) == []


def test_a_killed_daemon_is_not_interrupted_as_well(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(KillRequested(), 1)
    assert single.handle(CancelRequested(T1), 2) == [FailTask(T1, Failure.CANCELLED, A)]
    assert single.next_deadline() is None
    assert single.handle(DaemonLost(A, started=(T1,)), 3) == []


# Timeouts


def test_a_timeout_counts_from_submission(dispatcher: Dispatcher) -> None:
    dispatcher.handle(submitted(T1, timeout=5.0), 100)
    dispatcher.handle(DaemonReady(A), 104)
    assert dispatcher.next_deadline() == 105
    assert dispatcher.expire(104.9) == []
    assert dispatcher.expire(105) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.TIMED_OUT, A),
    ]


def test_a_timeout_also_ends_a_task_that_waits(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(submitted(T2, timeout=5.0), 0)
    assert single.expire(5) == [FailTask(T2, Failure.TIMED_OUT)]
    assert single.handle(result_arrived(A, T1), 6) == [resolve(T1)]


def test_a_run_timeout_counts_from_the_start(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(submitted(T2, run_timeout=5.0), 0)
    assert single.next_deadline() is None, "it waits"
    single.handle(result_arrived(A, T1), 100)
    assert single.next_deadline() == 105
    assert single.expire(105) == [
        InterruptTask(A, T2),
        FailTask(T2, Failure.RUN_TIMED_OUT, A),
    ]


def test_a_run_timeout_counts_anew_for_another_attempt(single: Dispatcher) -> None:
    single.handle(submitted(T1, run_timeout=5.0, retries=1), 0)
    single.handle(DaemonLost(A, started=(T1,)), 4)
    assert single.handle(DaemonReady(B), 4.5) == [SendTasks(B, (T1,))]
    assert single.expire(9) == []
    assert single.expire(9.5) == [InterruptTask(B, T1), FailTask(T1, Failure.RUN_TIMED_OUT, B)]


def test_a_stopped_daemon_gets_its_grace_after_a_timeout(dispatch: Dispatch) -> None:
    single = dispatch(1, cancel_grace=2.0)
    start(single)
    single.handle(submitted(T1, timeout=5.0), 0)
    single.expire(5)
    assert single.next_deadline() == 7
    assert single.expire(7) == [KillDaemon(A)]


def test_a_task_that_is_done_has_no_deadline(single: Dispatcher) -> None:
    single.handle(submitted(T1, timeout=5.0, run_timeout=3.0), 0)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1)]
    assert single.next_deadline() is None
    assert single.expire(10) == []


def test_an_infinite_timeout_is_no_deadline(single: Dispatcher) -> None:
    single.handle(submitted(T1, timeout=math.inf, run_timeout=math.inf), 0)
    assert single.next_deadline() is None


def test_several_deadlines_are_met_in_their_order(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(submitted(T2, timeout=9.0), 0)
    single.handle(submitted(T3, timeout=3.0), 0)
    single.handle(submitted(T4, timeout=9.0), 0)
    assert single.next_deadline() == 3
    assert single.expire(10) == [
        FailTask(T3, Failure.TIMED_OUT),
        FailTask(T2, Failure.TIMED_OUT),
        FailTask(T4, Failure.TIMED_OUT),
    ]


def test_deadlines_of_finished_tasks_do_not_pile_up() -> None:
    single = Dispatcher(Policy(1))
    start(single)
    for n in range(20_000):
        single.handle(submitted(TaskId(n), timeout=3600.0), 0)
        single.handle(result_arrived(A, TaskId(n)), 0)
    assert len(single._alarms._heap) < 2_000
    assert single.next_deadline() is None


def test_deadlines_ring_in_order_though_many_were_void() -> None:
    single = Dispatcher(Policy(1))
    start(single)
    submit(single, TaskId(-1))
    for n in range(3000):  # every third one stays, of ever shorter timeouts
        single.handle(submitted(TaskId(n), timeout=10_000.0 - n), 0)
        if n % 3:
            single.handle(CancelRequested(TaskId(n)), 0)
    rung = [single.next_deadline()]
    while single.expire(rung[-1] or 0):
        rung.append(single.next_deadline())
    assert rung == [*(10_000.0 - n for n in reversed(range(0, 3000, 3))), None]


# Late, twice, unknown


def test_an_answer_to_a_task_that_the_daemon_does_not_hold_is_ignored(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1)  # on B
    assert dispatcher.handle(result_arrived(A, T1), 1) == []
    assert dispatcher.handle(result_arrived(B, T2), 1) == []
    assert dispatcher.handle(result_arrived(B, T1), 1) == [resolve(T1)]
    assert dispatcher.handle(result_arrived(B, T1), 1) == []


def test_an_answer_from_a_lost_daemon_is_ignored(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=1), 0)
    single.handle(DaemonLost(A, started=(T1,)), 1)
    single.handle(DaemonReady(B), 2)
    assert single.handle(result_arrived(A, T1), 3) == []
    assert single.handle(result_arrived(B, T1), 4) == [resolve(T1)]


@pytest.mark.parametrize(
    "event",
    [
        CancelRequested(T5),
        result_arrived(C, T1),
        BroadcastAnswered(A, SETUP),
        BroadcastAnswered(C, SETUP),
        DaemonReady(A),
        DaemonReady(C),
        LeaveRequested(C),
        DaemonLost(C, started=(T1,)),
        DaemonsRequested(0),
    ],
    ids=repr,
)
def test_an_event_about_nobody_changes_nothing(single: Dispatcher, event: Event) -> None:
    submit(single, T1)
    before = single.view()
    assert single.handle(event, 1) == []
    assert single.view() == before


def test_an_event_about_a_lost_daemon_changes_nothing(single: Dispatcher) -> None:
    single.handle(DaemonLost(A), 0)
    for event in (DaemonReady(A), DaemonLost(A), LeaveRequested(A), BroadcastAnswered(A, SETUP)):
        assert single.handle(event, 1) == []
    assert single.view().daemons == {}


# What one can see


def test_every_task_is_counted_exactly_once(single: Dispatcher) -> None:
    submit(single, T1, T2, T3)
    assert single.view() == DispatcherView(
        awaiting=2,
        executing=1,
        completed=0,
        cumulative=1,
        daemons={A: DaemonView(DaemonState.READY, busy=True, tasks_done=0)},
    )
    single.handle(CancelRequested(T1), 1)
    single.handle(CancelRequested(T2), 1)
    view = single.view()
    assert (view.awaiting, view.executing, view.completed) == (1, 0, 2)
    assert view.daemons[A].busy, "it has yet to let go"
    single.handle(result_arrived(A, T1), 2)
    single.handle(result_arrived(A, T3), 3)
    view = single.view()
    assert (view.awaiting, view.executing, view.completed) == (0, 0, 3)
    assert view.daemons == {A: DaemonView(DaemonState.READY, busy=False, tasks_done=2)}


def test_a_daemon_is_busy_with_everywhere_as_with_a_task(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    assert single.view().daemons[A].busy


def test_daemons_are_counted_when_they_have_connected(dispatcher: Dispatcher) -> None:
    dispatcher.handle(DaemonsRequested(2), 0)
    assert dispatcher.view().cumulative == 0
    dispatcher.handle(DaemonReady(A), 1)
    dispatcher.handle(DaemonLost(A), 2)
    dispatcher.handle(DaemonReady(C), 3)
    assert dispatcher.view().cumulative == 2
    assert [d.state for d in dispatcher.view().daemons.values()] == [
        DaemonState.STARTING,
        DaemonState.READY,
    ]
