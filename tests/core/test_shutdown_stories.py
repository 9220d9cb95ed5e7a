"""How a dispatcher ends, one story at a time."""

from mirai_executor._core import (
    BroadcastAnswered,
    DaemonLost,
    DaemonReady,
    DaemonsRequested,
    DismissDaemon,
    Dispatcher,
    EverywhereRequested,
    FailBroadcast,
    FailTask,
    Failure,
    InterruptTask,
    KillDaemon,
    KillRequested,
    LaunchDaemon,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
    TaskSubmitted,
)

from .shorthand import (
    MORE,
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
    submitted,
)

# Shutdown


def test_shutdown_lets_accepted_tasks_finish_and_then_dismisses_the_daemons(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(ShutdownRequested(), 0) == []
    assert dispatcher.handle(result_arrived(A, T2), 1) == [resolve(T2), SendTasks(A, (T3,))]
    assert dispatcher.handle(result_arrived(A, T3), 2) == [resolve(T3)]
    assert dispatcher.handle(result_arrived(B, T1), 3) == [
        resolve(T1),
        DismissDaemon(A),
        DismissDaemon(B),
    ]
    dispatcher.handle(DaemonLost(A), 4)
    assert not dispatcher.is_finished
    dispatcher.handle(DaemonLost(B), 4)
    assert dispatcher.is_finished


def test_shutdown_of_an_executor_without_daemons_is_finished_at_once(
    dispatcher: Dispatcher,
) -> None:
    assert not dispatcher.is_finished
    assert dispatcher.handle(ShutdownRequested(), 0) == []
    assert dispatcher.is_finished


def test_shutdown_starts_the_daemons_that_accepted_tasks_need(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(ShutdownRequested(), 0)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [
        FailTask(T1, Failure.DAEMON_LOST, A),
        LaunchDaemon(B),
    ]
    assert single.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]
    assert single.handle(result_arrived(B, T2), 3) == [resolve(T2), DismissDaemon(B)]


def test_shutdown_kills_daemons_that_nobody_needs_to_be_ready(dispatcher: Dispatcher) -> None:
    dispatcher.handle(DaemonsRequested(2), 0)
    dispatcher.handle(DaemonReady(A), 1)
    assert dispatcher.handle(ShutdownRequested(), 2) == [DismissDaemon(A), KillDaemon(B)]
    assert dispatcher.handle(DaemonLost(B), 3) == []


def test_shutdown_can_cancel_what_waits(single: Dispatcher) -> None:
    submit(single, T1, T2, T3)
    assert single.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailTask(T2, Failure.CANCELLED),
        FailTask(T3, Failure.CANCELLED),
    ]
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), DismissDaemon(A)]


def test_shutdown_spares_the_tasks_for_which_daemons_are_on_their_way(
    dispatcher: Dispatcher,
) -> None:
    # As the standard library does with those that it has passed on to its workers.
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailTask(T3, Failure.CANCELLED)
    ]
    assert dispatcher.handle(DaemonReady(A), 2) == [SendTasks(A, (T1,))]
    assert dispatcher.handle(DaemonReady(B), 2) == [SendTasks(B, (T2,))]
    assert dispatcher.handle(result_arrived(A, T1), 3) == [resolve(T1)]
    assert dispatcher.handle(result_arrived(B, T2), 3) == [
        resolve(T2),
        DismissDaemon(A),
        DismissDaemon(B),
    ]


def test_a_spared_task_is_cancelled_when_its_daemon_does_not_come(dispatcher: Dispatcher) -> None:
    submit(dispatcher, T1, T2)
    dispatcher.handle(ShutdownRequested(cancel_queued=True), 1)
    assert dispatcher.handle(DaemonLost(A), 2) == [FailTask(T2, Failure.CANCELLED)]
    assert dispatcher.handle(DaemonLost(B), 3) == [FailTask(T1, Failure.CANCELLED)]
    assert dispatcher.is_finished


def test_a_spared_task_does_not_overtake_everywhere(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    submit(dispatcher, T1)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == []
    assert dispatcher.handle(DaemonReady(A), 2) == [SendBroadcast(A, SETUP)]
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 3) == [SendTasks(A, (T1,))]


def test_shutdown_spares_nothing_if_it_cancels_what_runs(dispatcher: Dispatcher) -> None:
    submit(dispatcher, T1)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True, cancel_running=True), 1) == [
        FailTask(T1, Failure.CANCELLED),
        KillDaemon(A),
    ]


def test_a_kill_spares_nothing(dispatcher: Dispatcher) -> None:
    submit(dispatcher, T1)
    assert dispatcher.handle(KillRequested(), 1) == [
        FailTask(T1, Failure.CANCELLED),
        KillDaemon(A),
    ]


def test_shutdown_can_cancel_what_runs(single: Dispatcher) -> None:
    submit(single, T1, T2)
    assert single.handle(ShutdownRequested(cancel_queued=True, cancel_running=True), 1) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.CANCELLED, A),
        FailTask(T2, Failure.CANCELLED),
    ]
    assert single.handle(result_arrived(A, T1), 2) == [DismissDaemon(A)]


def test_shutdown_can_be_asked_for_again_with_more_haste(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(ShutdownRequested(), 1)
    assert single.handle(ShutdownRequested(cancel_queued=True), 2) == [
        FailTask(T2, Failure.CANCELLED)
    ]
    assert single.handle(ShutdownRequested(cancel_running=True), 3) == [
        InterruptTask(A, T1),
        FailTask(T1, Failure.CANCELLED, A),
    ]


def test_a_daemon_that_ignores_its_dismissal_is_killed(dispatch: Dispatch) -> None:
    single = dispatch(1, leave_grace=10.0)
    start(single)
    assert single.handle(ShutdownRequested(), 0) == [DismissDaemon(A)]
    assert single.expire(10) == [KillDaemon(A)]


def test_shutdown_waits_for_everywhere_on_daemons_that_were_to_run_it(
    dispatcher: Dispatcher,
) -> None:
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(DaemonReady(A), 0)
    assert dispatcher.handle(ShutdownRequested(), 1) == []
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 2) == [DismissDaemon(A)]
    assert dispatcher.handle(DaemonReady(B), 3) == [SendBroadcast(B, SETUP)]
    assert dispatcher.handle(BroadcastAnswered(B, SETUP), 4) == [DismissDaemon(B)]


def test_shutdown_does_not_wait_for_a_daemon_that_would_only_catch_up(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(BroadcastAnswered(A, SETUP), 0)
    dispatcher.handle(DaemonLost(B), 0)  # leaves C starting, for the request
    assert dispatcher.handle(ShutdownRequested(), 1) == [DismissDaemon(A), KillDaemon(C)]
    assert dispatcher.handle(DaemonLost(C), 2) == [FailBroadcast(C, SETUP)]


def test_shutdown_with_cancelling_does_not_wait_for_everywhere(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailBroadcast(B, SETUP),
        KillDaemon(B),
    ]
    assert dispatcher.handle(ShutdownRequested(cancel_running=True), 2) == [KillDaemon(A)]
    assert dispatcher.handle(DaemonLost(A), 3) == [FailBroadcast(A, SETUP)]


def test_after_a_shutdown_with_cancelling_nothing_begins_any_more(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    dispatcher.handle(submitted(T1, retries=1), 0)  # on B
    dispatcher.handle(TaskSubmitted(T2), 0)  # on A
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    assert dispatcher.handle(ShutdownRequested(cancel_queued=True), 1) == [
        FailBroadcast(A, SETUP),
        FailBroadcast(B, SETUP),
    ]
    assert dispatcher.handle(TaskSubmitted(T3), 2) == [FailTask(T3, Failure.CANCELLED)]
    assert dispatcher.handle(EverywhereRequested(MORE), 2) == []
    assert dispatcher.handle(DaemonLost(A), 3) == [FailTask(T2, Failure.CANCELLED, A)]
    assert dispatcher.handle(DaemonLost(B, started=(T1,)), 3) == [
        FailTask(T1, Failure.DAEMON_LOST, B)
    ]
    assert dispatcher.is_finished


def test_nothing_is_launched_after_a_shutdown_but_for_tasks(dispatcher: Dispatcher) -> None:
    dispatcher.handle(ShutdownRequested(), 0)
    assert dispatcher.handle(DaemonsRequested(2), 1) == []
    assert dispatcher.handle(EverywhereRequested(SETUP), 1) == []
    assert dispatcher.is_finished


def test_a_daemon_that_is_still_joining_at_the_end_is_killed(dispatch: Dispatch) -> None:
    dispatcher = dispatch(launches=False)
    daemon = dispatcher.adopt_daemon(0)
    dispatcher.handle(DaemonReady(daemon), 0)
    dispatcher.handle(ShutdownRequested(), 0)
    late = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonLost(daemon), 1) == [KillDaemon(late)]


# Killing


def test_a_kill_ends_every_daemon_and_all_that_waits(dispatcher: Dispatcher) -> None:
    start(dispatcher)
    submit(dispatcher, T1, T2, T3)
    assert dispatcher.handle(KillRequested(), 1) == [
        FailTask(T2, Failure.CANCELLED),
        FailTask(T3, Failure.CANCELLED),
        KillDaemon(A),
        KillDaemon(B),
    ]
    assert dispatcher.handle(DaemonLost(A, started=(T1,)), 2) == [
        FailTask(T1, Failure.DAEMON_LOST, A)
    ]
    assert dispatcher.handle(DaemonLost(B), 2) == []
    assert dispatcher.is_finished


def test_a_result_that_beat_the_kill_still_counts(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(KillRequested(), 1)
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1)]
    assert single.handle(DaemonLost(A), 3) == []


def test_a_task_that_a_kill_met_before_it_began_is_cancelled(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(KillRequested(), 1)
    assert single.handle(DaemonLost(A), 2) == [FailTask(T1, Failure.CANCELLED, A)]


def test_nothing_is_retried_after_a_kill(single: Dispatcher) -> None:
    single.handle(submitted(T1, retries=9), 0)
    single.handle(KillRequested(), 1)
    assert single.handle(DaemonLost(A, started=(T1,)), 2) == [FailTask(T1, Failure.DAEMON_LOST, A)]


def test_a_task_submitted_after_a_kill_does_not_wait_for_ever(single: Dispatcher) -> None:
    single.handle(KillRequested(), 0)
    assert submit(single, T1) == [FailTask(T1, Failure.CANCELLED)]


def test_a_daemon_that_joins_after_a_kill_is_dismissed(single: Dispatcher) -> None:
    single.handle(KillRequested(), 0)
    late = single.adopt_daemon(0)
    assert single.handle(DaemonReady(late), 1) == [DismissDaemon(late)]
    assert single.ready_count == 0


def test_a_second_kill_kills_nobody_twice(single: Dispatcher) -> None:
    assert single.handle(KillRequested(), 0) == [KillDaemon(A)]
    assert single.handle(KillRequested(), 0) == []
