"""A job whose daemons are futures of an engine: Dask's, and those that Ray makes of its own."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any

from ._daemon import DaemonCommand, Submission, checked_count
from ._jobs import JobRequest
from ._task import DaemonTask

_LOG = logging.getLogger("mirai_executor")


class FuturesJob:
    """Daemons that were submitted together. Safe from any thread.

    Args:
        name: The engine, as messages call it.
        start: Submits a daemon; returns its future.
        count: How many.
        cancel: Takes back a daemon, given its future.
        failure: Returns how a future has ended; "" if well, None where the engine is to blame, and
            the daemon is to be submitted again.
        close: Is called at the end.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Any],
        count: int,
        *,
        cancel: Callable[[Any], object],
        failure: Callable[[Any], str | None],
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = name
        self._start = start
        self._cancel = cancel
        self._failure = failure
        self._futures: dict[int, Any] = {}  # those that have not ended
        self._count = count
        self._ended: list[int] = []
        self._is_cancelled = False
        self._failed: str | None = None
        self._done: Future[None] = Future()
        self.add_done_callback(close)
        for number in range(count):
            self._submit(number)

    def _submit(self, number: int) -> None:
        future = self._futures[number] = self._start()
        future.add_done_callback(functools.partial(self._on_end, number))

    def _on_end(self, number: int, future: Any) -> None:
        if not self._is_cancelled:
            why = self._failure(future)
            if why is None:
                self._submit(number)
                return
            if why:
                self._failed = f"{self._name}: {why}"
                _LOG.warning("%s", self._failed)
        self._futures.pop(number, None)
        self._ended.append(number)
        if len(self._ended) == self._count:
            with contextlib.suppress(InvalidStateError):  # another thread saw the last one, too
                self._done.set_result(None)

    def cancel(self) -> None:
        """Take back those that wait, and end those that run, as far as the engine can."""
        self._is_cancelled = True
        for future in list(self._futures.values()):
            self._cancel(future)

    def failed(self) -> str | None:
        """Return how the last of those that have failed has ended."""
        return self._failed

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Have this called when all have ended."""
        self._done.add_done_callback(lambda _: callback())


def request_tasks(
    submit: Callable[..., FuturesJob], name: str, config: Any, daemon: DaemonCommand, count: int
) -> list[Submission]:
    """Return the request that submits a task for each daemon.

    Args:
        submit: Does that, with the seconds that it may take, the next two, the task and how many.
        name: What the engine is called.
        config: Of the launcher.
        daemon: The command.
        count: How many.
    """
    if checked_count(count) == 0:
        return []
    task = DaemonTask.of(daemon, config.python)
    return [JobRequest(name, submit, (config, name, task, count), daemon.secret)]
