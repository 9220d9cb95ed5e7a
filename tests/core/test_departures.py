"""Why a daemon is let go: a reason for each way in which that happens; the first counts."""

from collections.abc import Sequence

import pytest

from mirai_executor._core import (
    DaemonId,
    DaemonReady,
    Departure,
    DismissDaemon,
    Dispatcher,
    Event,
    InitializerFailed,
    LeaveRequested,
    Policy,
    RestartRequested,
    ResultsArrived,
    ShutdownRequested,
    SurplusFound,
    TaskId,
    TaskSubmitted,
)

A, T1 = DaemonId(1), TaskId(1)
READY = DaemonReady(A)


def why_leaves(events: Sequence[Event], **policy: object) -> Departure | None:
    """Return why the first daemon leaves, after these events, a second apart."""
    dispatcher = Dispatcher(Policy(1, launches=False, **policy))  # type: ignore[arg-type]
    assert dispatcher.adopt_daemon(0) == A
    for now, event in enumerate(events):
        dispatcher.handle(event, now)
    dispatcher.expire(len(events))
    return dispatcher.why_leaves(A)


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([READY], None),
        ([READY, SurplusFound(1)], Departure.RECALLED),
        ([READY, RestartRequested()], Departure.RECALLED),
        ([READY, ShutdownRequested()], Departure.RECALLED),
        ([READY, LeaveRequested(A)], Departure.ASKED),
        ([InitializerFailed(A)], Departure.INITIALIZER),
        ([READY, TaskSubmitted(T1), ResultsArrived(A, {T1: 0.1}, leaving=True)], Departure.SPOILT),
        ([READY, LeaveRequested(A), ShutdownRequested()], Departure.ASKED),
    ],
)
def test_who_leaves_does_so_for_a_reason(events: list[Event], why: Departure | None) -> None:
    assert why_leaves(events) is why


def test_limits_are_reasons() -> None:
    assert why_leaves([READY], idle_time=1.0) is Departure.IDLE
    task: list[Event] = [READY, TaskSubmitted(T1), ResultsArrived(A, {T1: 0.1})]
    assert why_leaves(task, max_tasks=1) is Departure.LIMIT


def test_who_will_leave_is_counted_until_it_has_been_told_to() -> None:
    dispatcher = Dispatcher(Policy(1, launches=False))
    dispatcher.adopt_daemon(0)
    dispatcher.handle(READY, 0)
    dispatcher.handle(TaskSubmitted(T1), 0)
    dispatcher.handle(LeaveRequested(A), 1)
    assert dispatcher.view().parting == 1
    assert dispatcher.handle(ResultsArrived(A, {T1: 0.1}), 2)[-1] == DismissDaemon(A)
    assert dispatcher.view().parting == 0
