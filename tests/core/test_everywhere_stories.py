"""What every daemon has to do, one story at a time."""

import pytest

from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastCancelRequested,
    BroadcastId,
    Command,
    DaemonLost,
    DaemonReady,
    DaemonsRequested,
    DismissDaemon,
    Dispatcher,
    Event,
    EverywhereRequested,
    FailBroadcast,
    FailTask,
    Failure,
    ForgetBroadcast,
    InterruptBroadcast,
    KillDaemon,
    LaunchDaemon,
    Policy,
    SendBroadcast,
    SendTasks,
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
)


def test_everywhere_runs_once_on_each_daemon(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == [
        SendBroadcast(A, SETUP),
        SendBroadcast(B, SETUP),
    ]
    assert dispatcher.targets_of(SETUP) == (A, B)
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 1) == []
    assert dispatcher.targets_of(SETUP) == (B,)
    assert dispatcher.handle(BroadcastAnswered(B, SETUP), 1) == []
    assert dispatcher.targets_of(SETUP) == ()


def test_everywhere_starts_the_daemons_that_are_missing(dispatcher: Dispatcher) -> None:
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == [LaunchDaemon(A), LaunchDaemon(B)]
    assert dispatcher.targets_of(SETUP) == (A, B)
    assert dispatcher.handle(DaemonReady(A), 1) == [SendBroadcast(A, SETUP)]


def test_everywhere_without_any_daemon_has_no_targets(dispatch: Dispatch) -> None:
    dispatcher = dispatch(launches=False)
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == []
    assert dispatcher.targets_of(SETUP) == ()


def test_everywhere_goes_before_later_tasks_on_that_daemon(single: Dispatcher) -> None:
    submit(single, T1)
    assert single.handle(EverywhereRequested(SETUP), 0) == []
    submit(single, T2)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendBroadcast(A, SETUP)]
    assert single.handle(BroadcastAnswered(A, SETUP), 2) == [SendTasks(A, (T2,))]


def test_everywhere_goes_before_tasks_that_already_waited(single: Dispatcher) -> None:
    submit(single, T1, T2)
    single.handle(EverywhereRequested(SETUP), 0)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendBroadcast(A, SETUP)]


def test_a_daemon_that_joins_later_gets_all_of_them_in_order(dispatch: Dispatch) -> None:
    dispatcher = dispatch(1, launches=False)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(EverywhereRequested(MORE), 0)
    submit(dispatcher, T1)
    daemon = dispatcher.adopt_daemon(0)
    assert dispatcher.handle(DaemonReady(daemon), 1) == [SendBroadcast(daemon, SETUP)]
    assert dispatcher.handle(BroadcastAnswered(daemon, SETUP), 2) == [SendBroadcast(daemon, MORE)]
    assert dispatcher.handle(BroadcastAnswered(daemon, MORE), 3) == [SendTasks(daemon, (T1,))]


def test_a_replacement_gets_it_too(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(BroadcastAnswered(A, SETUP), 0)
    submit(single, T1, T2)
    single.handle(DaemonLost(A, started=(T1,)), 1)
    assert single.handle(DaemonReady(B), 2) == [SendBroadcast(B, SETUP)]
    assert single.handle(BroadcastAnswered(B, SETUP), 3) == [SendTasks(B, (T2,))]


X, Y, XY = frozenset("x"), frozenset("y"), frozenset("xy")
FIRST, SECOND, THIRD = BroadcastId(11), BroadcastId(12), BroadcastId(13)


@pytest.mark.parametrize(
    ("sets", "caught_up_with"),
    [
        ((X, X, X), [THIRD]),
        ((X, Y, XY), [THIRD]),
        ((X, Y, X), [SECOND, THIRD]),
        ((XY, X, Y), [FIRST, SECOND, THIRD]),
        ((X, None, X), [FIRST, SECOND, THIRD]),  # what is between may have read it
        ((None, X, X), [FIRST, THIRD]),
        ((None, None, None), [FIRST, SECOND, THIRD]),
    ],
)
def test_a_daemon_that_joins_gets_no_value_that_a_later_one_replaces(
    dispatch: Dispatch,
    sets: tuple[frozenset[str] | None, ...],
    caught_up_with: list[BroadcastId],
) -> None:
    dispatcher = dispatch(launches=False)
    commands: list[Command] = []
    for id_, names in zip((FIRST, SECOND, THIRD), sets, strict=True):
        commands += dispatcher.handle(EverywhereRequested(id_, names), 0)
    forgotten = {FIRST, SECOND, THIRD} - set(caught_up_with)
    assert sorted(c.broadcast for c in commands if isinstance(c, ForgetBroadcast)) == sorted(
        forgotten
    )
    assert len(commands) == len(forgotten)
    daemon = dispatcher.adopt_daemon(0)
    dispatcher.handle(DaemonReady(daemon), 1)
    for id_ in caught_up_with:
        assert dispatcher.targets_of(id_) == (daemon,)
        dispatcher.handle(BroadcastAnswered(daemon, id_), 2)


@pytest.mark.parametrize("end", [BroadcastAnswered(A, FIRST), DaemonLost(A)])
def test_a_value_that_is_replaced_is_kept_until_every_daemon_that_was_to_get_it_has_it(
    single: Dispatcher, end: Event
) -> None:
    assert single.handle(EverywhereRequested(FIRST, X), 0) == [SendBroadcast(A, FIRST)]
    assert single.handle(EverywhereRequested(SECOND, X), 0) == []
    assert ForgetBroadcast(FIRST) in single.handle(end, 1)


def test_a_share_that_is_cancelled_before_it_begins_never_runs(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(EverywhereRequested(MORE), 0)
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == [
        FailBroadcast(A, SETUP, Failure.CANCELLED),
        ForgetBroadcast(SETUP),
    ]
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == []
    assert single.handle(result_arrived(A, T1), 2) == [resolve(T1), SendBroadcast(A, MORE)]


def test_a_share_that_runs_is_interrupted_and_its_daemon_gets_nothing_until_it_answers(
    single: Dispatcher,
) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    submit(single, T1)
    assert single.handle(BroadcastCancelRequested(A, SETUP, running=False), 1) == []
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == [
        InterruptBroadcast(A, SETUP),
        FailBroadcast(A, SETUP, Failure.CANCELLED),
    ]
    assert single.is_stopping(A, SETUP)
    assert single.handle(BroadcastCancelRequested(A, SETUP), 1) == [
        FailBroadcast(A, SETUP, Failure.CANCELLED)
    ]
    assert single.handle(BroadcastAnswered(A, SETUP), 2) == [
        ForgetBroadcast(SETUP),
        SendTasks(A, (T1,)),
    ]
    assert single.expire(100) == []


def test_a_daemon_that_does_not_stop_its_share_is_killed_and_the_next_one_need_not_begin(
    single: Dispatcher,
) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    submit(single, T1)
    single.handle(BroadcastCancelRequested(A, SETUP), 1)
    assert single.next_deadline() == 1 + Policy(max_daemons=1).cancel_grace
    assert single.expire(60) == [KillDaemon(A)]
    assert single.handle(DaemonLost(A), 61) == [
        FailBroadcast(A, SETUP),
        ForgetBroadcast(SETUP),
        LaunchDaemon(B),
    ]
    assert single.handle(DaemonReady(B), 62) == [SendTasks(B, (T1,))]


def test_a_daemon_that_joins_runs_what_was_stopped_on_some_and_done_on_others(
    dispatcher: Dispatcher,
) -> None:
    start(dispatcher, 2)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    dispatcher.handle(BroadcastCancelRequested(A, SETUP), 1)
    dispatcher.handle(BroadcastAnswered(A, SETUP), 2)
    dispatcher.handle(BroadcastAnswered(B, SETUP), 3)
    dispatcher.handle(DaemonLost(B), 4)
    dispatcher.handle(DaemonsRequested(2), 5)
    assert dispatcher.handle(DaemonReady(C), 6) == [SendBroadcast(C, SETUP)]


def test_a_share_has_to_be_done_in_time(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP, timeout=5), 0)
    assert single.expire(5) == [
        FailBroadcast(A, SETUP, Failure.TIMED_OUT),
        ForgetBroadcast(SETUP),
    ]
    single.handle(EverywhereRequested(MORE, timeout=5), 5)
    single.handle(result_arrived(A, T1), 6)
    single.handle(BroadcastAnswered(A, MORE), 7)
    assert single.next_deadline() is None


def test_each_daemon_has_its_time_to_run_a_share_also_one_that_joins(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP, run_timeout=5), 0)
    assert single.handle(result_arrived(A, T1), 7) == [resolve(T1), SendBroadcast(A, SETUP)]
    single.handle(BroadcastAnswered(A, SETUP), 8)
    single.handle(DaemonLost(A), 9)
    single.handle(DaemonsRequested(1), 10)
    assert single.handle(DaemonReady(B), 11) == [SendBroadcast(B, SETUP)]
    assert single.expire(16) == [
        InterruptBroadcast(B, SETUP),
        FailBroadcast(B, SETUP, Failure.RUN_TIMED_OUT),
    ]


def test_everywhere_never_stalls_daemons_that_have_done_their_part(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    submit(dispatcher, T1)  # a long one, on B
    assert dispatcher.handle(EverywhereRequested(SETUP), 0) == [SendBroadcast(A, SETUP)]
    assert submit(dispatcher, T2, T3) == []
    assert dispatcher.handle(BroadcastAnswered(A, SETUP), 1) == [SendTasks(A, (T2,))]
    assert dispatcher.handle(result_arrived(A, T2), 2) == [resolve(T2), SendTasks(A, (T3,))]
    assert dispatcher.targets_of(SETUP) == (B,)


def test_a_daemon_lost_midway_fails_only_its_share(dispatcher: Dispatcher) -> None:
    start(dispatcher, 2)
    dispatcher.handle(EverywhereRequested(SETUP), 0)
    assert dispatcher.handle(DaemonLost(A), 1) == [FailBroadcast(A, SETUP)]
    assert dispatcher.targets_of(SETUP) == (B,)
    assert dispatcher.handle(BroadcastAnswered(B, SETUP), 2) == []


def test_a_daemon_lost_before_its_turn_fails_every_share_that_it_owed(single: Dispatcher) -> None:
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(EverywhereRequested(MORE), 0)
    assert single.handle(DaemonLost(A, started=(T1,)), 1) == [
        FailBroadcast(A, SETUP),
        FailBroadcast(A, MORE),
        FailTask(T1, Failure.DAEMON_LOST, A),
    ]


def test_a_daemon_does_its_part_before_it_leaves(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    single.handle(EverywhereRequested(SETUP), 0)
    assert single.handle(result_arrived(A, T1), 1) == [resolve(T1), SendBroadcast(A, SETUP)]
    assert single.handle(BroadcastAnswered(A, SETUP), 2) == [DismissDaemon(A)]


def test_a_leaving_daemon_is_no_target(dispatch: Dispatch) -> None:
    single = dispatch(1, max_tasks=1)
    start(single)
    submit(single, T1)
    single.handle(result_arrived(A, T1), 1)
    assert single.handle(EverywhereRequested(SETUP), 2) == []
    assert single.targets_of(SETUP) == ()
    assert single.handle(DaemonLost(A), 3) == [LaunchDaemon(B)]


def test_a_second_answer_to_a_broadcast_counts_for_nothing(single: Dispatcher) -> None:
    single.handle(EverywhereRequested(SETUP), 0)
    single.handle(EverywhereRequested(MORE), 0)
    assert single.handle(BroadcastAnswered(A, SETUP), 1) == [SendBroadcast(A, MORE)]
    assert single.handle(BroadcastAnswered(A, SETUP), 1) == []
    assert single.targets_of(MORE) == (A,)
