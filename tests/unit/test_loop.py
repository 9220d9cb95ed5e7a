"""The loop of a host from the first task to the end of a shutdown, with a fleet that obeys."""

from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from mirai_executor._core import (
    DaemonId,
    DaemonLost,
    DaemonReady,
    InitializerFailed,
    Limits,
    Policy,
    ShutdownRequested,
    TaskId,
)
from mirai_executor._host._loop import Loop
from mirai_executor._host._start_up import LossReports
from mirai_executor._host._tasks import OpenTask
from mirai_executor._waiting import Reactor
from mirai_executor._wire import OutcomeStatus, WireOutcome
from mirai_executor.errors import DaemonLostError, LaunchError, TaskTimeoutError


class Fleet:
    """Daemons that do at once what a test wants of them.

    Attributes:
        told: What it was told, in order.
        on_launch, on_tasks: What daemons do, once the loop has said all.
    """

    def __init__(self, reactor: Reactor, loop: Any, post: Callable[..., None]) -> None:
        self.loop, self._post = loop, post
        self.told: list[Any] = []
        self.loss_reports = LossReports()
        self.hear: Any = None
        self.on_launch: Callable[[DaemonId], Any] = lambda id_: loop.handle(DaemonReady(id_))
        self.on_tasks = self.answer

    def launch(self, id_: DaemonId) -> None:
        self.told.append(("launch", id_))
        self._post(lambda: self.on_launch(id_))

    def send_tasks(self, id_: DaemonId, calls: Sequence[OpenTask]) -> None:
        ids = [call.task for call in calls]
        self.told.append(("tasks", id_, ids))
        self._post(lambda: self.on_tasks(id_, ids))

    def answer(self, id_: DaemonId, ids: Sequence[int]) -> None:
        made = [
            WireOutcome(task, OutcomeStatus.VALUE, leaving=False, payload=b"it") for task in ids
        ]
        self.loop.on_results(id_, made)

    def dismiss(self, id_: DaemonId, *, why: str, closing: bool) -> None:
        self.told.append(("dismiss", id_, why, closing))
        self._post(lambda: self.loop.handle(DaemonLost(id_)))

    def kill(self, id_: DaemonId, *, overdue: bool) -> None:
        self.told.append(("kill", id_))
        self._post(lambda: self.loop.handle(DaemonLost(id_)))

    def interrupt(self, id_: DaemonId, task: TaskId) -> None:
        self.told.append(("interrupt", id_, task))
        skipped = WireOutcome(task, OutcomeStatus.SKIPPED, leaving=False, payload=b"")
        self._post(lambda: self.loop.on_results(id_, [skipped]))

    def close(self) -> None:
        self.told.append("close")


class Future:
    """Notes how it has started and ended."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def start(self) -> bool:
        self.steps.append("start")
        return True

    def set_outcome(self, decode: object, payload: Any, *, failed: bool) -> None:
        self.steps.append(bytes(payload))

    def set_value(self, value: object) -> None:
        self.steps.append(value)

    def set_exception(self, exception: BaseException, /) -> None:
        self.steps.append(exception)

    def end_cancelled(self) -> None:
        self.steps.append("cancelled")


class World:
    """A loop that a test runs on its own thread, with all items in its inbox before."""

    def __init__(self, **policy: Any) -> None:
        self.now = 100.0
        self.inbox: deque[Any] = deque()
        self.closed: list[None] = []
        log: Any = SimpleNamespace(
            drain=lambda: None, close=lambda: self.closed.append(None), records_of_daemon=None
        )
        store: Any = SimpleNamespace(gate=None, copied={})
        fleet: Any = Fleet
        self.loop = Loop(
            Policy(**{"max_daemons": 1, **policy}),
            fleet,
            log,
            self.inbox,
            store,
            clock=lambda: self.now,
        )
        self.fleet: Any = self.loop._fleet

    def submit(self, id_: int, **limits: Any) -> Future:
        future: Any = Future()
        self.inbox.append(OpenTask(TaskId(id_), future, Limits(**limits), None, b"call", ()))
        return future  # type: ignore[no-any-return]  # the loop takes it for one of another class

    def run(self) -> list[Any]:
        """Run to the end of a shutdown; return what the fleet was told."""
        self.inbox.append(ShutdownRequested())
        self.loop.run()
        return self.fleet.told  # type: ignore[no-any-return]  # as above


def test_tasks_run_on_a_daemon_that_is_started_for_them_and_is_then_let_go() -> None:
    world = World()
    futures = [world.submit(1), world.submit(2)]
    told = world.run()
    assert [future.steps for future in futures] == [["start", b"it"], ["start", b"it"]]
    assert told[0] == ("launch", 1)
    assert [what for what in told if what[0] == "tasks"] == [("tasks", 1, [1]), ("tasks", 1, [2])]
    assert told[-2:] == [("dismiss", 1, "it is not needed any more", True), "close"]
    assert world.closed == [None], "the log"


def test_a_task_that_has_ended_just_before_the_loop_fails_ends_as_it_did() -> None:
    world = World()
    future = world.submit(1)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    world.fleet.dismiss = fail
    with pytest.raises(AssertionError, match="a bug"):
        world.run()
    assert future.steps == ["start", b"it"]


def test_a_task_that_goes_down_with_its_daemon_fails_and_another_daemon_comes() -> None:
    world = World()
    first, second = world.submit(1), world.submit(2)

    def on_tasks(id_: DaemonId, ids: Sequence[int]) -> None:
        if id_ == 1:
            world.loop.handle(DaemonLost(id_, tuple(map(TaskId, ids))))
        else:
            world.fleet.answer(id_, ids)

    world.fleet.on_tasks = on_tasks
    told = world.run()
    (_, error), (_, value) = first.steps, second.steps
    assert isinstance(error, DaemonLostError)
    assert value == b"it"
    assert [what for what in told if what[0] == "launch"] == [("launch", 1), ("launch", 2)]


def test_a_task_may_run_again() -> None:
    world = World()
    future = world.submit(1, retries=1)

    def on_tasks(id_: DaemonId, ids: Sequence[int]) -> None:
        world.fleet.on_tasks = world.fleet.answer
        world.loop.handle(DaemonLost(id_, tuple(map(TaskId, ids))))

    world.fleet.on_tasks = on_tasks
    world.run()
    assert future.steps == ["start", "start", b"it"]


def test_a_task_that_takes_too_long_is_stopped() -> None:
    world = World()
    future = world.submit(1, run_timeout=5.0)

    def on_tasks(_: DaemonId, __: Sequence[int]) -> None:
        world.now += 6.0

    world.fleet.on_tasks = on_tasks
    told = world.run()
    assert ("interrupt", 1, 1) in told
    assert isinstance(future.steps[-1], TaskTimeoutError)


def test_what_no_daemon_can_run_says_why() -> None:
    world = World()
    future = world.submit(1)

    def on_launch(id_: DaemonId) -> None:
        world.fleet.loss_reports.why_none = LaunchError("there is no such interpreter")
        world.loop.handle(InitializerFailed(id_))

    world.fleet.on_launch = on_launch
    world.run()
    (error,) = future.steps
    assert isinstance(error, LaunchError)
    assert str(error) == "there is no such interpreter"
    assert world.loop.is_broken


def test_what_comes_after_a_task_finds_it_started() -> None:
    world = World()
    told: list[Any] = []
    world.submit(1)
    world.inbox.append(lambda: told.extend(world.fleet.told))
    world.run()
    assert told == [("launch", 1)]


def test_where_the_loop_fails_nobody_waits_for_ever() -> None:
    world = World()
    future = world.submit(1)

    def on_tasks(_: DaemonId, __: Sequence[int]) -> None:
        raise ZeroDivisionError("a mistake of ours")

    world.fleet.on_tasks = on_tasks
    with pytest.raises(ZeroDivisionError):
        world.run()
    error = future.steps[-1]
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert world.fleet.told[-1] == "close"
    assert "SendTasks(daemon=1, tasks=(1,))" in "".join(map(str, world.loop.story()))
