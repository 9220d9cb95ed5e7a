"""Keeps the tasks that have not ended, and in which order they wait.

::

    waiting (in the queue, or dealt to one daemon) <--> held by a daemon --> ended, and forgotten
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from itertools import takewhile

from mirai_executor._record import Mutable

from .messages import DaemonId, TaskId


class Task(Mutable):
    """What is known about one task, until it ends."""

    run_timeout: float | None
    retries: int
    kind: int | None = None
    place: int = 0  # in the order of submission
    daemon: DaemonId | None = None  # holds it
    dealt_to: DaemonId | None = None  # direct mode: it waits for this one


class Tasks:
    """All open tasks of one dispatcher. It decides nothing about daemons."""

    def __init__(self) -> None:
        self.open: dict[TaskId, Task] = {}
        # Always in the order of submission. OrderedDict: a plain dict slows down as its front
        # empties.
        self.queue: OrderedDict[TaskId, None] = OrderedDict()
        self.submitted = 0
        self.executing = 0

    def add(self, id_: TaskId, task: Task) -> None:
        """Put a new task at the end of the queue."""
        task.place = self.submitted
        self.open[id_] = task
        self.queue[id_] = None

    def is_waiting(self, id_: TaskId) -> bool:
        """Tell whether no daemon has been sent the task."""
        return self.open[id_].daemon is None

    def hand_over(self, ids: Collection[TaskId], daemon: DaemonId) -> None:
        """Note that a daemon now holds these tasks."""
        for id_ in ids:
            self.open[id_].daemon = daemon
        self.executing += len(ids)

    def take_back(self, id_: TaskId) -> None:
        """Note that no daemon holds the task any more."""
        self.open[id_].daemon = None
        self.executing -= 1

    def requeue(self, ids: Collection[TaskId]) -> None:
        """Let tasks wait in the queue again, where they stood."""
        if not ids:
            return
        last = max(map(self.place_of, ids))
        # Only tasks that came back before can stand in front: these are few.
        earlier = takewhile(lambda id_: self.place_of(id_) < last, self.queue)
        for id_ in sorted([*ids, *earlier], key=self.place_of, reverse=True):
            self.open[id_].dealt_to = None
            self.queue[id_] = None
            self.queue.move_to_end(id_, last=False)

    def place_of(self, id_: TaskId) -> int:
        """Return where an open task stands in the order of submission."""
        return self.open[id_].place

    def forget_held(self, ids: Collection[TaskId]) -> None:
        """Note that tasks have ended at their daemon."""
        self.executing -= len(ids)
        for id_ in ids:
            del self.open[id_]

    def forget(self, id_: TaskId) -> Task:
        """Note that a task has ended."""
        task = self.open.pop(id_)
        if task.daemon is not None:
            self.executing -= 1
        else:
            self.queue.pop(id_, None)
        return task
