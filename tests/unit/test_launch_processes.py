"""Whether the host can carry out whatever its dispatcher may ask for."""

from types import SimpleNamespace
from typing import Any, get_args

import pytest

from mirai_executor._core import Command, ResolveTasks, TaskId
from mirai_executor._host._loop import Loop


class Recorder:
    """Has every method, and keeps what they are called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.loss_reports = self

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **_: self.calls.append((name, args))


class LoopOfNothing(Loop):
    """A loop whose dispatcher and daemons are not there: only what it asks them for is kept."""

    def __init__(self) -> None:
        self.asked: Any = Recorder()
        self._fleet: Any = self.asked
        self._tasks: Any = self.asked
        self._broadcasts: Any = self.asked
        self._dispatcher: Any = SimpleNamespace(
            is_broken=False, is_closing=False, ready_count=0, why_leaves=lambda _: None
        )
        self._elsewhere = None


def made(cls: Any) -> Any:
    """Return a message of a class with anything in its fields."""
    return cls(*range(7, 7 + len(cls._fields)))


@pytest.mark.parametrize("cls", get_args(Command), ids=lambda cls: cls.__name__)
def test_every_command_has_somebody_who_carries_it_out(cls: Any) -> None:
    loop = LoopOfNothing()
    loop._carry_out([made(cls)])
    assert len(loop.asked.calls) == 1


def test_what_is_no_command_is_not_passed_over() -> None:
    with pytest.raises(AssertionError):
        LoopOfNothing()._carry_out([SimpleNamespace()])  # type: ignore[list-item]  # that is it


def test_outcomes_come_with_the_commands_that_resolve_their_tasks() -> None:
    loop = LoopOfNothing()
    outcomes: Any = {TaskId(1): object()}
    loop._carry_out([ResolveTasks((TaskId(1),))], outcomes)
    assert loop.asked.calls == [("resolve", (ResolveTasks((TaskId(1),)), outcomes))]
