"""What a cell of a notebook has submitted is stopped when the cell is interrupted."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mirai_executor._around import _cells


class Shell:
    """IPython's, as far as it tells of cells."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callable[..., None]]] = {
            "pre_run_cell": [],
            "post_run_cell": [],
        }
        self.events = self

    def register(self, event: str, callback: Callable[..., None]) -> None:
        self.callbacks[event].append(callback)

    def run(self, cell: Callable[[], object], error: BaseException | None = None) -> None:
        for callback in self.callbacks["pre_run_cell"]:
            callback(None)
        cell()
        for callback in self.callbacks["post_run_cell"]:
            callback(SimpleNamespace(error_in_exec=error))


class Host:
    """Has open tasks, and notes which of them are stopped."""

    def __init__(self) -> None:
        self.last = 0
        self.open: list[Any] = []
        self.stopped: list[int] = []

    def next_id(self) -> int:
        self.last += 1
        return self.last

    def submit(self, *, stops: bool = True) -> None:
        future = SimpleNamespace(_cancels_on_interrupt=stops)
        self.open.append(SimpleNamespace(task=self.next_id(), future=future))

    def cancel_those(self, chosen: Callable[[Any], bool], *, spares: bool) -> None:
        assert spares
        self.stopped += [task.task for task in self.open if chosen(task)]


@pytest.fixture(autouse=True)
def no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cells, "_first", type(_cells._first)())


def test_an_interrupted_cell_stops_its_own_tasks_but_those_that_are_to_go_on() -> None:
    shell, host = Shell(), Host()
    host.submit()  # in the cell that makes the executor
    _cells.watch(host, shell)  # type: ignore[arg-type]  # as far as it is needed
    shell.run(host.submit)
    before = host.last

    def cell() -> None:
        host.submit()
        host.submit(stops=False)

    shell.run(cell, KeyboardInterrupt())
    assert [task for task in host.stopped if task <= before] == []
    assert len(host.stopped) == 1
    shell.run(host.submit, ValueError())
    assert len(host.stopped) == 1


def test_a_cell_that_is_interrupted_stops_all_of_an_executor_that_it_has_made() -> None:
    shell, host, other = Shell(), Host(), Host()
    _cells.watch(other, shell)  # type: ignore[arg-type]  # as above
    other.submit()

    def cell() -> None:
        _cells.watch(host, shell)  # type: ignore[arg-type]  # as above
        host.submit()

    shell.run(cell, KeyboardInterrupt())
    assert (len(host.stopped), other.stopped) == (1, [])
    assert all(len(callbacks) == 1 for callbacks in shell.callbacks.values())


def test_a_shell_that_tells_nothing_and_hosts_that_are_gone_are_no_errors() -> None:
    shell = Shell()
    _cells.watch(Host(), object())  # type: ignore[arg-type]  # as above
    _cells.watch(Host(), shell)  # type: ignore[arg-type]  # as above
    shell.run(list, KeyboardInterrupt())
    assert len(_cells._first) == 0
