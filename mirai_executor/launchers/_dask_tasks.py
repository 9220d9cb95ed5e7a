"""Has Dask run each daemon once, on a worker that has room for it; also on one that comes later.

::

    task ── submit ──► waits at a worker ── begins: marked at the scheduler ──► the daemon
                          └── another worker has come, or room at another ──► submitted again

When a worker is lost, Dask runs its tasks again, and has no way to say that one is not to be. But
the host has missed the daemon, too, and has asked for another. So what has a mark does nothing.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from ._futures import FutureJob
from ._task import DaemonTask, run


def run_once(task: DaemonTask, mark: str) -> None:
    """On a worker: run a daemon, unless it has begun before.

    It leaves the worker's thread, so that the worker goes on with other tasks.
    """
    from distributed import Event as Mark
    from distributed import secede

    begun = Mark(mark)
    if begun.is_set():
        return
    begun.set()
    secede()
    run(task)


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
        self._marks: list[str] = []
        self._open: dict[str, tuple[DaemonTask, FutureJob]] = {}  # those that have not ended
        # Guards the next two, which threads of Dask's and ours change: one thread moves.
        self._lock = threading.Lock()
        self._is_moving = self._has_to_move = False

    def submit(self, tasks: Sequence[DaemonTask]) -> list[FutureJob]:
        """Submit them; if that fails, nothing is left behind."""
        jobs: list[FutureJob] = []
        try:
            self._client.subscribe_topic("all", self._on_event)
            jobs.extend(map(self._submit_one, tasks))
        except BaseException:
            for job in jobs:
                job.cancel()
            self._client.close()
            raise
        for mark, task, job in zip(self._marks, tasks, jobs, strict=True):
            self._open[mark] = task, job
        for mark, job in zip(self._marks, jobs, strict=True):
            job.add_done_callback(partial(self._end, mark))
        return jobs

    def _submit_one(self, task: DaemonTask) -> FutureJob:
        mark = f"mirai-{secrets.token_hex(8)}"
        self._marks.append(mark)
        return FutureJob(self._name, self._future(task, mark), cancel=_cancel, failure=_failure)

    def _future(self, task: DaemonTask, mark: str) -> Any:
        return self._client.submit(run_once, task, mark, pure=False, retries=0, **self._options)

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
                for mark, (task, job) in list(self._open.items()):
                    if not self._mark(mark).is_set():
                        job.move(self._future(task, mark))

    def _shall_move(self) -> bool:
        with self._lock:
            self._is_moving, self._has_to_move = self._has_to_move, False
            return self._is_moving

    def _mark(self, name: str) -> Any:
        from distributed import Event as Mark

        return Mark(name, self._client)

    # Ends

    def _end(self, mark: str) -> None:
        self._open.pop(mark, None)
        if self._open:
            self._move_soon()  # to where this one was
        else:
            # Not on the thread that brings the end of a future: closing waits for it.
            threading.Thread(target=self._close, name="mirai-dask-close", daemon=True).start()

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # the cluster is gone, and with it the marks
            for mark in self._marks:
                self._mark(mark).clear()
        self._client.close()


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
