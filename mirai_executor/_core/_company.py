"""Decides which daemon runs a coroutine beside others.

A daemon may run several tasks at once where all of them ask for that, and for the same number at
most. Whatever else it is to run waits until the last of them has ended, and they until that has.
"""

from __future__ import annotations

from collections.abc import Container

from ._fleet import Daemon, Fleet
from ._tasks import Task, Tasks
from .messages import DaemonState, TaskId


def join(fleet: Fleet, daemon: Daemon, task: Task) -> None:
    """Note that a daemon, free or in such company, is to run a task that others may join."""
    daemon.concurrency = task.limits.concurrency
    fleet.shared[daemon.id] = daemon


def part(fleet: Fleet, daemon: Daemon) -> None:
    """Note that the last of them has ended."""
    daemon.concurrency = 1
    fleet.shared.pop(daemon.id, None)


def review(daemon: Daemon, open_tasks: Container[TaskId]) -> None:
    """Find out whether a daemon still runs a task that has to stop: it may be killed for that."""
    daemon.delayed = any(id_ not in open_tasks for id_ in daemon.held)


def companions_of_next(fleet: Fleet, tasks: Tasks) -> Daemon | None:
    """Return the daemon whose tasks the next one of the queue may join, if there is one.

    Only the next one: else coroutines that come all the time would keep every daemon from a task
    that needs one for itself.
    """
    if not tasks.queue:
        return None
    concurrency = tasks.open[next(iter(tasks.queue))].limits.concurrency
    return min(
        (d for d in fleet.shared.values() if d.concurrency == concurrency and _has_room(d)),
        key=lambda daemon: len(daemon.held),
        default=None,
    )


def _has_room(daemon: Daemon) -> bool:
    if daemon.recalling or daemon.delayed or daemon.due or daemon.asked_to_leave:
        return False
    is_done = daemon.max_tasks is not None and daemon.tasks_sent >= daemon.max_tasks
    has_place = len(daemon.held) < daemon.concurrency and not is_done
    return has_place and daemon.state is DaemonState.READY
