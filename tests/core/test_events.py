"""Whether the dispatcher knows what to do about everything that can happen."""

from typing import Any, get_args

import pytest

from mirai_executor._core import (
    NO_LIMITS,
    CancelRequested,
    Dispatcher,
    Event,
    Policy,
    ShutdownRequested,
    TaskId,
    TaskSubmitted,
)

EVENTS = get_args(Event)


def made(cls: Any) -> Event:
    """Return an event of a class about a task and a daemon that have never been heard of."""
    values: dict[str, Any] = {
        "results": {TaskId(7): 0.5},
        "tasks": (TaskId(7),),
        "started": (),
        "sets": None,
        "limits": NO_LIMITS,
    }
    event: Event = cls(*(values.get(field, 7) for field in cls._fields))
    return event


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_every_event_has_a_handler(cls: Any) -> None:
    dispatcher = Dispatcher(Policy(1))
    dispatcher.handle(made(cls), 0)
    dispatcher.check_invariants()


def test_there_are_no_handlers_but_those_of_events() -> None:
    assert set(Dispatcher._HANDLERS) == set(EVENTS)


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_one_event_is_handled_as_several_are(cls: Any) -> None:
    one, several = Dispatcher(Policy(1)), Dispatcher(Policy(1))
    assert one.handle(made(cls), 0) == several.handle_all([made(cls)], 0)


def test_what_has_happened_at_once_is_scheduled_once() -> None:
    events: list[Event] = [
        TaskSubmitted(TaskId(1)),
        CancelRequested(TaskId(1)),
        ShutdownRequested(),
    ]
    commands = Dispatcher(Policy(1)).handle_all(events, 0)
    assert [type(command).__name__ for command in commands] == ["FailTask"]
