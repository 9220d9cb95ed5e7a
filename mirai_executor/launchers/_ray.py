"""Starts daemons as tasks of a Ray cluster."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mirai_executor._waiting import OneShotEvent, Reply
from mirai_executor.errors import LaunchError

from ._daemon import DaemonCommand, Submission
from ._futures import FutureJob, request_tasks
from ._script import words_of
from ._task import DaemonTask, run


@dataclass(frozen=True)
class RayConfig:
    """How to start daemons on a Ray cluster; made by :func:`ray_config`."""

    address: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0
    resources: tuple[tuple[str, float], ...] = ()
    runtime_env: str = field(default="", repr=False)  # as JSON: its variables may be secret
    python: tuple[str, ...] = ()

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one request, which submits a task for each daemon."""
        name = f"Ray at {self.address}" if self.address else "Ray"
        return request_tasks(_submit, name, self, daemon, count)


def ray_config(
    address: str | None = None,
    *,
    num_cpus: float = 1,
    num_gpus: float = 0,
    resources: Mapping[str, float] | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    python: str | Sequence[str] | None = None,
) -> RayConfig:
    """Describe how to start daemons on the nodes of a Ray cluster. Connects nowhere yet.

    Each daemon is a task of Ray that runs as long as the daemon. Ray runs it once: when its node
    dies, the executor submits another, for any node. A program has one connection to Ray: where
    there is one already, it is used; otherwise ``ray.init`` makes it at the first launch, and it
    stays.

    Args:
        address: What ``ray.init`` takes: ``"auto"`` for the cluster of this machine,
            ``"10.0.0.1:6379"`` or ``"ray://10.0.0.1:10001"``; by default, ``RAY_ADDRESS``, or a
            Ray of this machine, which is started if there is none.
        num_cpus: How many of its node's processors Ray keeps for each daemon.
        num_gpus: How many GPUs; Ray sets ``CUDA_VISIBLE_DEVICES`` for the daemon.
        resources: What each daemon takes of the resources that nodes declare.
        runtime_env: What Ray prepares for the daemons, such as ``{"pip": ["scikit-learn"]}``.
        python: The Python interpreter on the nodes, or the words of a command that runs it; by
            default, that of Ray's worker.

    Returns:
        A launcher for ``remote=``, as plain, immutable data that can be printed and used again.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A number is negative, or a word is empty or contains control characters.

    Example:
        >>> launcher = ray_config("10.0.0.1:6379", num_gpus=1)
        >>> launcher.address, launcher.num_cpus, launcher.num_gpus
        ('10.0.0.1:6379', 1, 1)
    """
    if address is not None:
        words_of(address)
    for name, number in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError(f"{name} must be a number, not {number!r:.60}")
        if not number >= 0:
            raise ValueError(f"{name} must be >= 0, not {number!r}")
    for name, given in (("resources", resources), ("runtime_env", runtime_env)):
        if given is not None and not hasattr(given, "items"):
            raise TypeError(f"{name} must be a dict, not {given!r:.60}")
    return RayConfig(
        address,
        num_cpus,
        num_gpus,
        tuple((resources or {}).items()),
        json.dumps(dict(runtime_env)) if runtime_env else "",
        () if python is None else words_of(python),
    )


def _submit(
    _: float, config: RayConfig, name: str, tasks: Sequence[DaemonTask]
) -> list[FutureJob]:
    try:
        import ray
    except ImportError as error:
        raise LaunchError(
            f'ray_config() needs Ray: pip install "mirai-executor[ray]" ({error})'
        ) from error
    if not ray.is_initialized():
        _connect(config.address)
    remote = ray.remote(run).options(
        num_cpus=config.num_cpus,
        num_gpus=config.num_gpus or None,
        resources=dict(config.resources) or None,
        runtime_env=json.loads(config.runtime_env) if config.runtime_env else None,
        max_retries=0,  # the host asks for another one, wherever that then runs
        name="mirai-daemon",
    )

    def submit(task: DaemonTask) -> FutureJob:
        reference = remote.remote(task)

        def cancel(_: Any) -> None:
            with contextlib.suppress(Exception):  # Ray is gone, and with it the task
                ray.cancel(reference)

        return FutureJob(name, reference.future(), cancel=cancel, failure=_failure)

    jobs: list[FutureJob] = []
    try:
        jobs.extend(map(submit, tasks))
    except BaseException:  # nobody would know of those that have been submitted
        for job in jobs:
            job.cancel()
        raise
    return jobs


def _connect(address: str | None) -> None:
    """Join a Ray, or start one, on a thread that stays.

    What Ray starts here is ended by the kernel when the thread that has started it ends.
    """
    import ray

    ready: Reply[None] = Reply()

    def stay() -> None:
        try:
            ray.init(address, ignore_reinit_error=True)
        except BaseException as error:
            ready.set_exception(error)
        else:
            ready.set_result(None)
            OneShotEvent().wait()  # which never comes

    threading.Thread(target=stay, name="mirai-ray", daemon=True).start()
    ready.get()


def _failure(future: Any) -> str:
    error = future.exception()
    if error is None:
        return ""
    cause = getattr(error, "cause", None)  # what the task itself has raised
    return str(cause or error).strip()
