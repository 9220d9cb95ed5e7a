"""Has Dask run each daemon once, on a worker that has room for it; also on one that comes later.

::

    task ── submit ──► waits at a worker ── takes its ticket at the scheduler ──► the daemon
                          └── another worker has come, or room at another:
                              its ticket is taken away ──► submitted again, with another

When a worker is lost, Dask runs its tasks again, and has no way to say that one is not to be. But
the host has missed the daemon, too, and has asked for another. So what finds no ticket does
nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from mirai_executor._typing import Mutable

from ._futures import FutureJob
from ._task import DaemonTask, run


def run_once(task: DaemonTask, ticket: str) -> bool:
    """On a worker: run a daemon, unless it has begun before, or was submitted again.

    It leaves the worker's thread, so that the worker goes on with other tasks.

    Returns:
        Whether it has run.
    """
    from distributed import Queue, secede

    tickets = Queue(ticket)
    found = tickets.get(batch=True)  # all that there are, at once, and without waiting
    tickets.close()
    if not found:
        return False
    secede()
    run(task)
    return True


class _Daemon(Mutable):
    """One that has not ended."""

    task: DaemonTask
    ticket: Any  # a queue of the scheduler, which holds it
    job: FutureJob
    waits: bool = True  # as far as is known


class DaskTasks:
    """The daemons of one launch. Safe from any thread.

    Args:
        client: A connection of their own, which is closed when all have ended.
        name: The engine, as messages call it.
        options: For each submission.
    """

    def __init__(self, client: Any, name: str, options: dict[str, Any]) -> None:
        self._client = client
        self._name = name
        self._options = options
        self._open: dict[int, _Daemon] = {}
        # Guards the next two, which threads of Dask's and ours change: one thread moves.
        self._lock = threading.Lock()
        self._is_moving = self._has_to_move = False

    def submit(self, tasks: Sequence[DaemonTask]) -> list[FutureJob]:
        """Submit them; if that fails, nothing is left behind."""
        daemons: list[_Daemon] = []
        try:
            self._client.subscribe_topic("all", self._on_event)
            daemons.extend(map(self._submit_one, tasks))
        except BaseException:
            for daemon in daemons:
                daemon.job.cancel()
                _close(daemon.ticket)
            self._client.close()
            raise
        self._open = dict(enumerate(daemons))
        for number, daemon in enumerate(daemons):
            daemon.job.add_done_callback(partial(self._end, number))
        return [daemon.job for daemon in daemons]

    def _submit_one(self, task: DaemonTask) -> _Daemon:
        ticket = self._new_ticket()
        future = self._future(task, ticket)
        job = FutureJob(self._name, future, cancel=_cancel, failure=_failure)
        return _Daemon(task, ticket, job)

    def _new_ticket(self) -> Any:
        from distributed import Queue

        ticket = Queue(f"mirai-{secrets.token_hex(8)}", self._client)
        ticket.put(1)
        return ticket

    def _future(self, task: DaemonTask, ticket: Any) -> Any:
        return self._client.submit(
            run_once, task, ticket.name, pure=False, retries=0, **self._options
        )

    # Elsewhere

    def _on_event(self, event: Any) -> None:
        _, what = event
        if isinstance(what, dict) and what.get("action") == "add-worker":
            self._move_soon()

    def _move_soon(self) -> None:
        """Submit those again that wait: Dask never moves a single one to a worker with room."""
        with self._lock:
            self._has_to_move = True
            if self._is_moving:
                return
            self._is_moving = True
        threading.Thread(target=self._move, name="mirai-dask-move", daemon=True).start()

    def _move(self) -> None:
        while self._shall_move():
            with contextlib.suppress(Exception):  # the cluster is gone, and with it the tasks
                for number, daemon in list(self._open.items()):
                    if daemon.waits:
                        daemon.job.move(partial(self._again, daemon))
                    if number not in self._open:  # it has ended meanwhile
                        _close(daemon.ticket)

    def _again(self, daemon: _Daemon) -> Any:
        """Submit one again, and return its future; None if it does not wait any more."""
        # Whoever takes the ticket decides: from now on, it does nothing where it waits.
        daemon.waits = bool(daemon.ticket.get(batch=True))
        if not daemon.waits:
            return None
        old, daemon.ticket = daemon.ticket, self._new_ticket()
        _close(old)
        return self._future(daemon.task, daemon.ticket)

    def _shall_move(self) -> bool:
        with self._lock:
            self._is_moving, self._has_to_move = self._has_to_move, False
            return self._is_moving

    # Ends

    def _end(self, number: int) -> None:
        if (daemon := self._open.pop(number, None)) is not None:
            _close(daemon.ticket)
        if self._open:
            self._move_soon()  # to where this one was
        else:
            # Not on the thread that brings the end of a future: closing waits for it.
            threading.Thread(
                target=self._client.close, name="mirai-dask-close", daemon=True
            ).start()


def _close(ticket: Any) -> None:
    with contextlib.suppress(Exception):  # the cluster is gone, and with it the ticket
        ticket.close()


def _cancel(future: Any) -> None:
    with contextlib.suppress(Exception):  # the cluster is gone, and with it the task
        future.cancel()


def _failure(future: Any) -> str:
    """Return how a task has ended; empty if well."""
    if future.status == "finished":
        return ""
    if future.status != "error":
        return f"the scheduler has given up a daemon's task, which is {future.status!r} there"
    return str(future.exception())
