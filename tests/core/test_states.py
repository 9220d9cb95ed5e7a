"""The states of tasks and daemons: nothing moves between them but as the two tables say."""

from enum import Enum

import pytest

from mirai_executor._core import (
    DaemonId,
    DaemonState,
    Dispatcher,
    InitializerFailed,
    Policy,
    TaskId,
)
from mirai_executor._core import _fleet as of_daemons
from mirai_executor._core import _tasks as of_tasks
from mirai_executor._core._fleet import FleetTable
from mirai_executor._core._tasks import Task, TaskState, TaskTable
from mirai_executor._core.messages import NO_LIMITS

from .test_simulation import simulate

A, T1 = DaemonId(1), TaskId(1)


class Watched(dict[Enum, str]):
    """A row of a table that notes which moves are looked up in it."""

    def __init__(self, start: Enum, row: dict[Enum, str], seen: set[tuple[Enum, Enum]]) -> None:
        super().__init__(row)
        self.start, self.seen = start, seen

    def __contains__(self, state: object) -> bool:
        assert isinstance(state, Enum)
        self.seen.add((self.start, state))
        return super().__contains__(state)


def have_an_initializer_fail() -> None:
    """Do what no simulated daemon does."""
    dispatcher = Dispatcher(Policy(2, launches=False))
    dispatcher.handle(InitializerFailed(dispatcher.adopt_daemon(0)), 1)


@pytest.mark.parametrize("module", [of_tasks, of_daemons], ids=["tasks", "daemons"])
def test_stories_make_every_move_of_a_table_and_no_other(
    monkeypatch: pytest.MonkeyPatch, module: object
) -> None:
    table: dict[Enum, dict[Enum, str]] = module.TRANSITIONS  # type: ignore[attr-defined]  # of both
    seen: set[tuple[Enum, Enum]] = set()
    watched = {start: Watched(start, row, seen) for start, row in table.items()}
    monkeypatch.setattr(module, "TRANSITIONS", watched)
    for seed in range(60):
        simulate(seed)
    have_an_initializer_fail()
    assert seen == {(start, to) for start, row in table.items() for to in row}


def test_a_state_without_a_row_does_not_exist() -> None:
    assert set(of_tasks.TRANSITIONS) == set(TaskState)
    assert set(of_daemons.TRANSITIONS) == set(DaemonState)


@pytest.mark.parametrize("start", TaskState)
@pytest.mark.parametrize("to", TaskState)
def test_a_task_that_would_leave_the_table_stops_the_dispatcher(
    start: TaskState, to: TaskState
) -> None:
    tasks = TaskTable()
    tasks.add(T1, Task(NO_LIMITS, 0, state=start))

    def move() -> None:
        match to:
            case TaskState.QUEUED:
                tasks.requeue([T1])
            case TaskState.DEALT:
                tasks.deal(T1, A)
            case TaskState.HELD:
                tasks.hand_over([T1], A)

    if to in of_tasks.TRANSITIONS[start]:
        move()
        assert tasks.open[T1].state is to
    else:
        with pytest.raises(AssertionError, match=f"{to} after {start}"):
            move()


def test_a_daemon_that_would_leave_the_table_stops_the_dispatcher() -> None:
    fleet = FleetTable(Policy(1))
    daemon = fleet.add(launched=True)
    fleet.retire(daemon, DaemonState.LEAVING)
    with pytest.raises(AssertionError, match=r"DaemonState\.READY after DaemonState\.LEAVING"):
        fleet.welcome(daemon, None, None)
