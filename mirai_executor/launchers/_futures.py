"""A daemon as a future of an engine: Dask's, and those that Ray makes of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ._daemon import DaemonCommand, Submission, checked_count
from ._jobs import JobRequest
from ._task import DaemonTask

_LOG = logging.getLogger("mirai_executor")


class FutureJob:
    """A daemon that was submitted. Safe from any thread.

    Args:
        name: The engine, as messages call it.
        future: The daemon's.
        cancel: Takes it back, given the future.
        failure: Returns how it has ended, given the future; "" if well.
    """

    def __init__(
        self,
        name: str,
        future: Any,
        *,
        cancel: Callable[[Any], object],
        failure: Callable[[Any], str],
    ) -> None:
        self._name = name
        self._future = future
        self._cancel = cancel
        self._failure = failure
        self._is_cancelled = False
        self._failed: str | None = None
        self._done: Future[None] = Future()
        future.add_done_callback(self._on_end)

    def move(self, again: Callable[[], Any]) -> None:
        """Go on with another future in the place of one that waits, unless the job has ended.

        Args:
            again: Keeps that from ever beginning, and returns the other one; None if it has begun.
        """
        if self._is_over:
            return
        old, self._future = self._future, None  # whose end says nothing until that is decided
        new = None
        try:
            new = again()
        finally:
            self._future = old if new is None else new
            self._future.add_done_callback(self._on_end)
            if self._is_over:  # meanwhile
                self._cancel(self._future)
        if new is not None:
            self._cancel(old)

    @property
    def _is_over(self) -> bool:
        return self._is_cancelled or self._done.done()

    def _on_end(self, future: Any) -> None:
        if future is not self._future or self._done.done():
            return
        if not self._is_cancelled and (why := self._failure(future)):
            self._failed = f"{self._name}: {why}"
            _LOG.warning("%s", self._failed)
        self._done.set_result(None)

    def cancel(self) -> None:
        """Take it back if it waits, and end it if it runs, as far as the engine can."""
        self._is_cancelled = True
        if (future := self._future) is not None:
            self._cancel(future)

    def failed(self) -> str | None:
        """Return how it has failed, if so."""
        return self._failed

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Have this called when it has ended."""
        self._done.add_done_callback(lambda _: callback())


def request_tasks(
    submit: Callable[..., list[FutureJob]],
    name: str,
    config: Any,
    daemon: DaemonCommand,
    count: int,
) -> list[Submission]:
    """Return the request that submits a task for each daemon.

    Args:
        submit: Does that, with the seconds that it may take, the next two, and the tasks.
        name: What the engine is called.
        config: Of the launcher.
        daemon: The command.
        count: How many.
    """
    if checked_count(count) == 0:
        return []
    daemons = daemon.each(count)
    tasks = [DaemonTask.of(each, config.python) for each in daemons]
    return [JobRequest(name, submit, (config, name, tasks), daemon.secret, daemons)]
