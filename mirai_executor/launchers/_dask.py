"""Starts daemons as long-running tasks of a Dask cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirai_executor.errors import LaunchError

from ._daemon import DaemonCommand, Submission
from ._futures import FuturesJob, request_tasks
from ._script import words_of
from ._task import DaemonTask, run

_TO_CONNECT = 10.0  # seconds for a scheduler to answer


@dataclass(frozen=True)
class DaskConfig:
    """How to start daemons on a Dask cluster; made by :func:`dask_config`."""

    client: Any  # or the address of a scheduler
    workers: tuple[str, ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    python: tuple[str, ...] = ()

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one request, which submits a task for each daemon."""
        name = f"Dask at {_address(self.client)}"
        return request_tasks(_submit, name, self, daemon, count)


def dask_config(
    client_or_address: Any,
    *,
    workers: str | Sequence[str] = (),
    resources: Mapping[str, float] | None = None,
    python: str | Sequence[str] | None = None,
) -> DaskConfig:
    """Describe how to start daemons on the workers of a Dask cluster. Connects nowhere yet.

    Each daemon is a task of Dask that runs as long as the daemon. It leaves its worker's thread to
    other tasks of Dask. When a worker is lost, Dask runs the task on another one.

    Args:
        client_or_address: A ``distributed.Client``, or the address of a scheduler such as
            ``"tcp://10.0.0.1:8786"``, or a cluster object that has one.
        workers: Only these workers may run daemons, by their addresses, names or hosts; by
            default, any.
        resources: What each daemon takes of the resources that workers declare, such as
            ``{"GPU": 1}``. They limit how many daemons run on a worker.
        python: The Python interpreter on the workers, or the words of a command that runs it; by
            default, that of the worker.

    Returns:
        A launcher for ``remote=``, which can be used again.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A client is asynchronous, or a word is empty or contains control characters.

    Example:
        >>> launcher = dask_config("tcp://10.0.0.1:8786", resources={"GPU": 1})
        >>> launcher.resources
        (('GPU', 1),)
    """
    if resources is not None and not hasattr(resources, "items"):
        raise TypeError(f"resources must be a dict such as {{'GPU': 1}}, not {resources!r:.60}")
    client = client_or_address
    if not hasattr(client, "submit"):
        client = getattr(client, "scheduler_address", client)
        if not isinstance(client, str):
            raise TypeError(
                "dask_config() takes a distributed.Client or the address of a scheduler, such as "
                f"'tcp://10.0.0.1:8786', not {client!r:.60}"
            )
        words_of(client)
    elif getattr(client, "asynchronous", False):
        raise ValueError(
            "dask_config() cannot use an asynchronous client; pass the address of its scheduler"
        )
    return DaskConfig(
        client,
        words_of(workers),
        tuple((resources or {}).items()),
        () if python is None else words_of(python),
    )


def _address(client: Any) -> str:
    return client if isinstance(client, str) else str(client.scheduler.address)


def _submit(timeout: float, config: DaskConfig, name: str, task: DaemonTask, n: int) -> FuturesJob:
    client, close = config.client, _nothing
    if isinstance(client, str):
        client, close = _connect(client, timeout)

    def start() -> Any:
        return client.submit(
            run_on_worker,
            task,
            pure=False,
            workers=list(config.workers) or None,
            resources=dict(config.resources) or None,
        )

    try:
        return FuturesJob(name, start, n, cancel=_cancel, failure=_failure, close=close)
    except BaseException:
        close()
        raise


def _connect(address: str, timeout: float) -> tuple[Any, Any]:
    try:
        from distributed import Client
    except ImportError as error:
        raise LaunchError(
            f'dask_config() needs Dask: pip install "mirai-executor[dask]" ({error})'
        ) from error
    client = Client(address, timeout=min(timeout, _TO_CONNECT), set_as_default=False)

    def close() -> None:
        # Not on the thread that brings the end of a future: closing waits for it.
        threading.Thread(target=client.close, name="mirai-dask-close", daemon=True).start()

    return client, close


def run_on_worker(task: DaemonTask) -> None:
    """Run a daemon on a thread of its own, so that the worker goes on with other tasks."""
    from distributed import secede

    secede()
    run(task)


def _cancel(future: Any) -> None:
    with contextlib.suppress(Exception):  # the cluster is gone, and with it the task
        future.cancel()


def _failure(future: Any) -> str | None:
    """Return how a task has ended; None if it is to be submitted again, as its workers died."""
    if future.status == "finished":
        return ""
    if future.status != "error":
        return f"the scheduler has given up a daemon's task, which is {future.status!r} there"
    error = future.exception()
    # Four workers have died while they ran it. Theirs may be a preemptible machine.
    if type(error).__name__ == "KilledWorker":
        return None
    return str(error)


def _nothing() -> None:
    pass
