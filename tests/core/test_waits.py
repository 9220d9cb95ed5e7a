"""Tasks that wait while nobody is connected: that is told, and once."""

from mirai_executor._core import (
    DaemonLost,
    DaemonReady,
    DaemonsAdded,
    DaemonsMissed,
    Dispatcher,
    FailTask,
    Failure,
    LaunchFailed,
    Policy,
    ReportWait,
    SendTasks,
    ShutdownRequested,
    TaskId,
    TaskSubmitted,
)

T1, T2, T3 = (TaskId(n) for n in range(1, 4))


def open_to_all(*tasks: TaskId, now: float = 0) -> Dispatcher:
    """Return a dispatcher whose daemons come by themselves, with these tasks."""
    dispatcher = Dispatcher(Policy(1, launches=False, warn_after=5.0))
    for task in tasks:
        assert dispatcher.handle(TaskSubmitted(task), now) == []
    return dispatcher


def test_tasks_that_wait_for_long_are_reported_once() -> None:
    dispatcher = open_to_all(T1, now=2)
    dispatcher.handle(TaskSubmitted(T2), 4)
    dispatcher.handle(DaemonsAdded(3), 4)
    assert dispatcher.next_deadline() == 7
    assert dispatcher.expire(6.9) == []
    assert dispatcher.expire(7.5) == [ReportWait(2, 5.5)]
    assert dispatcher.next_deadline() is None
    assert dispatcher.view().waiting_since == 2


def test_a_wait_ends_with_the_first_daemon_and_another_begins_with_the_loss_of_the_last() -> None:
    dispatcher = open_to_all(T1, T2)
    daemon = dispatcher.adopt_daemon(3)
    assert dispatcher.view().waiting_since == 0  # it is not ready yet
    assert dispatcher.handle(DaemonReady(daemon), 4) == [SendTasks(daemon, (T1,))]
    assert dispatcher.view().waiting_since is None
    assert dispatcher.expire(6) == []
    dispatcher.handle(DaemonLost(daemon, (T1,)), 8)
    assert dispatcher.view().waiting_since == 8
    assert dispatcher.expire(13) == [ReportWait(1, 5)]


def test_what_has_ended_waits_no_more() -> None:
    dispatcher = open_to_all(T1)
    assert dispatcher.handle(LaunchFailed(for_good=False), 4) == [FailTask(T1, Failure.BROKEN)]
    assert dispatcher.view().waiting_since is None
    assert dispatcher.expire(5) == []


def test_a_wait_is_reported_during_a_shutdown_too() -> None:
    dispatcher = open_to_all(T1)
    dispatcher.handle(DaemonsAdded(1), 0)
    dispatcher.handle(ShutdownRequested(), 1)
    assert dispatcher.expire(5) == [ReportWait(1, 5)]


def test_a_shutdown_does_not_wait_for_ever_for_daemons_that_will_not_come_after_all() -> None:
    dispatcher = open_to_all(T1)
    dispatcher.handle(DaemonsAdded(2), 0)
    dispatcher.handle(ShutdownRequested(), 1)
    dispatcher.handle(DaemonsMissed(1), 2)  # the other one may come
    assert dispatcher.expire(100) == [ReportWait(1, 100)]
    dispatcher.handle(DaemonsMissed(1), 100)
    assert dispatcher.expire(160) == [FailTask(T1, Failure.BROKEN)]


def test_where_daemons_are_started_here_nothing_is_reported() -> None:
    dispatcher = Dispatcher(Policy(1, warn_after=5.0))
    dispatcher.handle(TaskSubmitted(T1), 0)
    assert dispatcher.view().waiting_since is None
    assert dispatcher.expire(30) == []
