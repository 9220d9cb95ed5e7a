"""What a dispatcher tells of its last events and commands."""

import pytest

from mirai_executor._core import (
    DaemonId,
    DaemonReady,
    DaemonsRequested,
    Dispatcher,
    Policy,
    ResultsArrived,
    TaskId,
    TaskSubmitted,
)

from .shorthand import submitted

A, T1 = DaemonId(1), TaskId(1)


def lines(dispatcher: Dispatcher) -> list[str]:
    return [" ".join(line.split()) for line in dispatcher.story().splitlines()]


def test_a_new_dispatcher_has_no_story() -> None:
    assert Dispatcher(Policy(1)).story() == ""


def test_a_story_has_events_and_commands_in_order_each_with_its_moment() -> None:
    dispatcher = Dispatcher(Policy(1))
    dispatcher.handle_all([submitted(T1, run_timeout=2.0)], 0.5)
    dispatcher.handle(DaemonReady(A), 1)
    dispatcher.expire(3)
    assert lines(dispatcher) == [
        "0.500000 event "
        "TaskSubmitted(task=1, limits=Limits(timeout=None, run_timeout=2.0, retries=0, "
        "concurrency=1), kind=None)",
        "0.500000 command LaunchDaemon(daemon=1)",
        "1.000000 event DaemonReady(daemon=1, max_tasks=None, idle_time=None)",
        "1.000000 command SendTasks(daemon=1, tasks=(1,))",
        "3.000000 event Alarm(when=3.0, order=2, kind=<AlarmKind.RUN_TIMEOUT: 1>, task=1, "
        "daemon=1, period=0)",
        "3.000000 command InterruptTask(daemon=1, task=1)",
        "3.000000 command FailTask(task=1, failure=<Failure.RUN_TIMED_OUT: 'ran too long'>, "
        "daemon=1)",
    ]


def test_a_daemon_that_has_come_by_itself_is_in_the_story() -> None:
    dispatcher = Dispatcher(Policy(1, launches=False))
    dispatcher.adopt_daemon(2)
    assert lines(dispatcher) == ["2.000000 event DaemonAdopted(daemon=1)"]


def test_a_story_tells_the_last_thousand_events_and_commands() -> None:
    dispatcher = Dispatcher(Policy(1))
    dispatcher.handle(DaemonsRequested(1), 0)
    dispatcher.handle(DaemonReady(A), 0)
    for number in range(1, 1001):
        dispatcher.handle(TaskSubmitted(TaskId(number)), number)
        dispatcher.handle(ResultsArrived(A, {TaskId(number): 0.5}), number)
    told = lines(dispatcher)
    assert len(told) == 1000
    assert told[-1] == "1000.000000 command ResolveTasks(tasks=(1000,))"
    assert told[0].startswith("751.000000 event TaskSubmitted(task=751,")


def test_a_burst_leaves_no_more_than_a_thousand_in_the_story() -> None:
    dispatcher = Dispatcher(Policy(1))
    dispatcher.handle_all([TaskSubmitted(TaskId(n)) for n in range(3000)], 7)
    told = lines(dispatcher)
    assert len(told) == 1000
    assert told[-1] == "7.000000 command LaunchDaemon(daemon=1)"


def test_an_event_that_cannot_be_handled_is_the_last_one_of_the_story() -> None:
    dispatcher = Dispatcher(Policy(1))
    with pytest.raises(TypeError):
        dispatcher.handle(DaemonsRequested("many"), 0)  # type: ignore[arg-type]  # that is it
    assert lines(dispatcher) == ["0.000000 event DaemonsRequested(count='many')"]


def test_a_state_that_must_never_be_is_reported_with_its_story() -> None:
    dispatcher = Dispatcher(Policy(1))
    dispatcher.handle(TaskSubmitted(T1), 0)
    dispatcher._tasks.executing = 7
    with pytest.raises(AssertionError) as caught:
        dispatcher.check_invariants()
    (note,) = caught.value.__notes__
    phrase, _, story = note.partition("\n")
    assert phrase.startswith("this is a bug in mirai_executor; please report it")
    assert story == dispatcher.story()
