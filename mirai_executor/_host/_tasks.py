"""Keeps the tasks of a host that have not ended, and their futures."""

from __future__ import annotations

import collections
import functools
from typing import TYPE_CHECKING

from mirai_executor._core import (
    DaemonId,
    Event,
    FailTask,
    Failure,
    ResolveTasks,
    ResultsArrived,
    SendTasks,
    TaskId,
    TaskSubmitted,
)
from mirai_executor.errors import TaskTimeoutError

from ._outcomes import Ended, OpenFuture, resolve_all, set_exception
from ._store import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mirai_executor import _wire

    from ._fleet import Fleet
    from ._open_task import OpenTask
    from ._store import Store

__all__ = ["OpenTasks", "results_of"]


class OpenTasks:
    """All open tasks of one host. For the host thread only.

    Args:
        fleet: Sends them.
        store: Keeps their large buffers.
        put: Has an event handled later.
        end_later: Has something called once every send is out: it runs callbacks of the user.

    Attributes:
        open: All of them.
    """

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        put: Callable[[Event], None],
        end_later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._fleet = fleet
        self._store = store
        self._put = put
        self._end_later = end_later
        self.open: dict[TaskId, OpenTask] = {}

    def add(self, task: OpenTask) -> TaskSubmitted:
        """Take a task in; return what the dispatcher is to know of it."""
        limits = task.limits
        self.open[task.task] = task  # in place before the event that names it
        fields = (task.task, limits.timeout, limits.run_timeout, limits.retries, task.kind)
        return tuple.__new__(TaskSubmitted, fields)  # at a third of the cost of TaskSubmitted(...)

    def take_all(self) -> list[OpenFuture]:
        """Forget all tasks; return their futures."""
        futures = [task.future for task in self.open.values()]
        self.open.clear()
        return futures

    def send(self, command: SendTasks) -> None:
        """Hand calls over to a daemon."""
        calls = []
        for id_ in command.tasks:
            task = self.open[id_]
            if task.future.start():
                if not task.buffers:
                    calls.append(task)
                    continue
                if (copied := self._with_copies(task)) is not None:
                    calls.append(copied)
                    continue
            # Cancelled a moment ago, or ended by an error: as good as answered.
            self._put(ResultsArrived(command.daemon, {id_: None}))
        if calls:
            self._fleet.send_tasks(command.daemon, calls)

    def _with_copies(self, task: OpenTask) -> OpenTask | None:
        """Copy the buffers of a task if they are deferred; None if that ends it in an error."""
        if type(task.buffers) is not Deferred:
            return task
        try:
            buffers = self._store.copy(task.task, task.buffers, task.limits.retries)
        except Exception as error:  # there is not enough memory
            self._end_later(functools.partial(set_exception, task.future, error))
            return None
        self.open[task.task] = task = task._replace(buffers=buffers)
        return task

    def resolve(self, command: ResolveTasks, outcomes: Mapping[TaskId, _wire.WireOutcome]) -> None:
        """End the futures of tasks as these have ended; those of which nobody knows, cancelled."""
        ended: Ended = collections.deque()
        pop, outcome_of, copied = self.open.pop, outcomes.get, self._store.copied
        for id_ in command.tasks:
            task = pop(id_)
            if task.buffers or (copied and id_ in copied):
                self._let_go(task)
            ended.append((task.future, outcome_of(id_)))
        self._end_later(functools.partial(resolve_all, ended))

    def fail(self, command: FailTask) -> None:
        """End the future of a task that has no outcome of its own."""
        task = self.open.pop(command.task)
        if task.buffers or task.task in self._store.copied:
            self._let_go(task)
        if command.failure is Failure.CANCELLED:
            self._end_later(task.future.end_cancelled)
            return
        error = self._error_of(command, task)
        self._end_later(lambda: set_exception(task.future, error))

    def _let_go(self, task: OpenTask) -> None:
        self._store.let_go(task.task, task.buffers)
        if task.buffers:
            self._fleet.trim_later()

    def _error_of(self, command: FailTask, task: OpenTask) -> Exception:
        name, limits = f"task {command.task}", task.limits
        if command.failure is Failure.TIMED_OUT:
            return TaskTimeoutError(
                f"{name} timed out: not finished {limits.timeout} s after submission"
            )
        if command.failure is Failure.RUN_TIMED_OUT:
            return TaskTimeoutError(
                f"{name} timed out: it ran for more than {limits.run_timeout} s"
            )
        if command.failure is Failure.DAEMON_LOST and command.daemon is not None:
            return self._fleet.loss_reports.lost_error(command.daemon, f"while it ran {name}")
        return self._fleet.loss_reports.launch_error()


def results_of(
    daemon: DaemonId, outcomes: Sequence[_wire.WireOutcome]
) -> tuple[ResultsArrived, Mapping[TaskId, _wire.WireOutcome]]:
    """Return what the dispatcher is to know of outcomes, and these, each by its task."""
    by_task: dict[TaskId, _wire.WireOutcome] = {}
    seconds: dict[TaskId, float | None] = {}
    leaving = False
    for outcome in outcomes:
        task: TaskId = outcome.task  # type: ignore[assignment]  # TaskId(...) takes its time
        by_task[task] = outcome
        seconds[task] = outcome.nanoseconds * 1e-9 or None
        leaving = leaving or outcome.leaving
    return ResultsArrived(daemon, seconds, leaving), by_task
