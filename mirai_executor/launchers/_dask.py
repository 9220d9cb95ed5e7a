"""Starts daemons as long-running tasks of a Dask cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mirai_executor.errors import LaunchError

from ._daemon import DaemonCommand, Submission
from ._dask_tasks import DaskTasks
from ._futures import FutureJob, request_tasks
from ._script import words_of
from ._task import DaemonTask

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
    other tasks of Dask. Dask runs it once: when a worker is lost, the executor submits another.
    One that waits for a worker takes one that comes later, or has room later.

    Args:
        client_or_address: The address of a scheduler such as ``"tcp://10.0.0.1:8786"``, or a
            cluster object or a ``distributed.Client``, from which it is taken. Daemons are
            submitted over a connection of their own.
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


def _submit(
    timeout: float, config: DaskConfig, name: str, tasks: Sequence[DaemonTask]
) -> list[FutureJob]:
    options = {
        "workers": list(config.workers) or None,
        "resources": dict(config.resources) or None,
    }
    return DaskTasks(_connect(config.client, timeout), name, options).submit(tasks)


def _connect(client: Any, timeout: float) -> Any:
    """Return a connection of our own, also where the user has one: we hear of workers by it."""
    try:
        from distributed import Client
    except ImportError as error:
        raise LaunchError(
            f'dask_config() needs Dask: pip install "mirai-executor[dask]" ({error})'
        ) from error
    security = None if isinstance(client, str) else client.security
    return Client(
        _address(client),
        timeout=min(timeout, _TO_CONNECT),
        security=security,
        set_as_default=False,
    )
