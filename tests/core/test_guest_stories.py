"""Daemons that come by themselves, one story at a time."""

import pytest

from mirai_executor._core import (
    CancelRequested,
    DaemonLost,
    DaemonReady,
    DaemonsAdded,
    DaemonState,
    FailTask,
    Failure,
    InitializerFailed,
    KillDaemon,
    LaunchFailed,
    ListeningEnded,
    Policy,
    SendTasks,
    ShutdownRequested,
    TaskSubmitted,
)

from .shorthand import (
    T1,
    T2,
    T3,
    Dispatch,
    resolve,
    result_arrived,
    submit,
)


def test_a_failed_launch_fails_what_waits_while_no_daemon_is_there(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    assert submit(open_to_all, T1) == []
    assert open_to_all.handle(LaunchFailed(), 1) == [FailTask(T1, Failure.BROKEN)]
    assert open_to_all.handle(TaskSubmitted(T2), 2) == [FailTask(T2, Failure.BROKEN)]


def test_a_failed_launch_changes_nothing_for_daemons_that_are_there(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(daemon), 0)
    submit(open_to_all, T1, T2)
    assert open_to_all.handle(LaunchFailed(), 1) == []
    assert not open_to_all.is_broken


def test_a_daemon_that_comes_all_the_same_mends_a_failed_launch(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    open_to_all.handle(LaunchFailed(), 1)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(daemon), 2)
    assert submit(open_to_all, T1) == [SendTasks(daemon, (T1,))]


def test_a_daemon_that_has_come_and_is_not_ready_in_time_is_killed(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False, start_timeout=60.0)
    submit(open_to_all, T1)
    daemon = open_to_all.adopt_daemon(5)
    assert open_to_all.next_deadline() == 65
    assert open_to_all.expire(65) == [KillDaemon(daemon, overdue=True)]
    assert open_to_all.handle(DaemonReady(daemon), 65) == [], "too late"
    assert open_to_all.handle(DaemonLost(daemon), 66) == [], "others may come"
    other = open_to_all.adopt_daemon(67)
    assert open_to_all.handle(DaemonReady(other), 68) == [SendTasks(other, (T1,))]


def test_nothing_waits_for_daemons_that_come_and_are_never_ready(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False, start_timeout=5.0, failed_starts=2)
    submit(open_to_all, T1)
    for at, commands in [(0, []), (6, [FailTask(T1, Failure.BROKEN)])]:
        daemon = open_to_all.adopt_daemon(at)
        open_to_all.expire(at + 5)
        assert open_to_all.handle(DaemonLost(daemon), at + 5) == commands
    assert open_to_all.is_broken


def test_while_a_daemon_is_there_tasks_wait_for_it_whoever_is_never_ready(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(1, launches=False, start_timeout=5.0, failed_starts=2)
    there = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(there), 0)
    submit(open_to_all, T1, T2)
    for at in (0, 6):
        daemon = open_to_all.adopt_daemon(at)
        open_to_all.expire(at + 5)
        assert open_to_all.handle(DaemonLost(daemon), at + 5) == []
    assert open_to_all.handle(result_arrived(there, T1), 12) == [
        resolve(T1),
        SendTasks(there, (T2,)),
    ]


def test_an_initializer_that_fails_on_one_machine_costs_that_daemon(dispatch: Dispatch) -> None:
    open_to_all = dispatch(2, launches=False)
    good, bad = open_to_all.adopt_daemon(0), open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(good), 1)
    submit(open_to_all, T1, T2)
    assert open_to_all.handle(InitializerFailed(bad), 2) == []
    assert open_to_all.view().daemons[bad].state is DaemonState.LEAVING
    assert open_to_all.handle(DaemonLost(bad), 3) == []
    assert open_to_all.handle(result_arrived(good, T1), 4) == [
        resolve(T1),
        SendTasks(good, (T2,)),
    ]
    assert not open_to_all.is_broken


def test_tasks_fail_once_the_initializer_has_failed_on_all_machines(dispatch: Dispatch) -> None:
    open_to_all = dispatch(0, launches=False)
    open_to_all.handle(DaemonsAdded(3), 0)
    submit(open_to_all, T1)
    first, second = open_to_all.adopt_daemon(1), open_to_all.adopt_daemon(1)
    assert open_to_all.handle(InitializerFailed(first), 2) == [], "the second starts"
    assert open_to_all.handle(InitializerFailed(second), 3) == [], "a third is on its way"
    third = open_to_all.adopt_daemon(4)
    assert open_to_all.handle(InitializerFailed(third), 5) == [FailTask(T1, Failure.BROKEN)]
    assert open_to_all.is_broken


def test_whoever_is_on_the_way_when_an_initializer_fails_has_the_time_of_a_start(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0, leave_grace=10.0)
    open_to_all.handle(DaemonsAdded(3), 0)
    submit(open_to_all, T1)
    for at in (1, 50):
        bad = open_to_all.adopt_daemon(at)
        assert open_to_all.handle(InitializerFailed(bad), at) == []
        open_to_all.handle(DaemonLost(bad), at + 1)
    assert open_to_all.expire(61) == [], "the second has come in time"
    assert open_to_all.next_deadline() == 110
    assert open_to_all.expire(110) == [FailTask(T1, Failure.BROKEN)]
    late = open_to_all.adopt_daemon(120)
    open_to_all.handle(DaemonReady(late), 121)
    assert submit(open_to_all, T2, now=122) == [SendTasks(late, (T2,))]


def test_a_shutdown_does_not_wait_for_ever_for_daemons_that_nobody_starts(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0)
    submit(open_to_all, T1, T2)
    assert open_to_all.handle(ShutdownRequested(), 10) == []
    assert open_to_all.next_deadline() == 70
    daemon = open_to_all.adopt_daemon(69)
    assert open_to_all.expire(70) == [], "one has come in time"
    assert open_to_all.handle(DaemonReady(daemon), 71) == [SendTasks(daemon, (T1,))]
    assert open_to_all.handle(DaemonLost(daemon, (T1,)), 80) == [
        FailTask(T1, Failure.DAEMON_LOST, daemon)
    ]
    assert open_to_all.next_deadline() == 140
    assert open_to_all.expire(140) == [FailTask(T2, Failure.BROKEN)]
    assert open_to_all.is_finished


def test_a_shutdown_does_not_wait_at_all_for_daemons_once_nothing_is_left_to_do(
    dispatch: Dispatch,
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0)
    submit(open_to_all, T1, T2)
    open_to_all.handle(ShutdownRequested(), 10)
    open_to_all.handle(CancelRequested(T1), 11)
    assert open_to_all.next_deadline() == 70
    open_to_all.handle(CancelRequested(T2), 12)
    assert open_to_all.next_deadline() is None
    assert open_to_all.is_finished


@pytest.mark.parametrize(("hurried", "deadline"), [(False, None), (True, 70)])
def test_a_shutdown_waits_for_daemons_that_were_asked_for_unless_it_is_hurried(
    dispatch: Dispatch, hurried: bool, deadline: float | None
) -> None:
    open_to_all = dispatch(0, launches=False, start_timeout=60.0)
    open_to_all.handle(DaemonsAdded(1), 0)
    submit(open_to_all, T1)
    assert open_to_all.handle(ShutdownRequested(hurried=hurried), 10) == []
    assert open_to_all.next_deadline() == deadline
    daemon = open_to_all.adopt_daemon(20)
    assert open_to_all.handle(DaemonReady(daemon), 21) == [SendTasks(daemon, (T1,))]


def test_once_no_daemon_can_come_any_more_nothing_waits_for_one(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    submit(open_to_all, T1)
    assert open_to_all.handle(ListeningEnded(), 1) == [FailTask(T1, Failure.BROKEN)]


def test_who_is_there_when_listening_ends_does_what_waits(dispatch: Dispatch) -> None:
    open_to_all = dispatch(1, launches=False)
    daemon = open_to_all.adopt_daemon(0)
    open_to_all.handle(DaemonReady(daemon), 0)
    submit(open_to_all, T1, T2, T3)
    assert open_to_all.handle(ListeningEnded(), 1) == []
    assert open_to_all.handle(result_arrived(daemon, T1), 2) == [
        resolve(T1),
        SendTasks(daemon, (T2,)),
    ]
    assert open_to_all.handle(DaemonLost(daemon, (T2,)), 3) == [
        FailTask(T2, Failure.DAEMON_LOST, daemon),
        FailTask(T3, Failure.BROKEN),
    ]


@pytest.mark.parametrize("wrong", [{"max_daemons": -1}, {"max_daemons": 1, "failed_starts": 0}])
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Policy(**wrong)  # type: ignore[arg-type]  # they are all ints
