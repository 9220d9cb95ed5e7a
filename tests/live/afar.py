"""Helps to test daemons that something else starts: a login elsewhere, a scheduler, a service."""

import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import mirai_executor
from live.mischief import SOON, Bell, ending, ring
from mirai_executor import MiraiExecutor, MiraiFuture

PACKAGE = Path(mirai_executor.__file__).parents[1]


def python_words() -> tuple[str, ...]:
    """Return the words that run this interpreter, with this package, in any environment.

    They carry the token of the tests, by which the leak fixture finds what stays.
    """
    token = f"MIRAI_TESTS_TOKEN={os.environ['MIRAI_TESTS_TOKEN']}"
    return ("/usr/bin/env", token, f"PYTHONPATH={PACKAGE}", sys.executable)


def listening(
    url: str = "tcp://127.0.0.1:0", **options: Any
) -> AbstractContextManager[MiraiExecutor]:
    """Make an executor that daemons can join; a test that fails does not wait for them."""
    return ending(MiraiExecutor(url=url, **options))


def pids(executor: MiraiExecutor, count: int) -> set[int]:
    """Wait for so many daemons, have each do a task, and return their process ids."""
    executor.wait_ready(SOON, count=count)
    found = {future.result(SOON) for future in executor.everywhere(os.getpid)}
    assert len(found) == count
    return found


def hold(executor: MiraiExecutor, bell: Bell) -> MiraiFuture[None]:
    """Return a task that has begun, and goes on until its daemon ends."""
    return hold_job(executor, bell)[0]


def hold_job(
    executor: MiraiExecutor, bell: Bell, *variables: str
) -> tuple[MiraiFuture[None], list[str]]:
    """Return such a task, and what some variables say of the job that runs it."""
    future = executor.submit(ring_and_wait, bell.path, variables)
    return future, bell.wait().split(" ")


def ring_and_wait(path: Path, variables: Sequence[str]) -> None:
    import threading

    ring(path, " ".join(os.environ[name] for name in variables))
    threading.Event().wait()


def share() -> tuple[str | None, ...]:
    """Return what this daemon has of its machine: GPUs, and threads."""
    return tuple(map(os.environ.get, ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")))


def shares(executor: MiraiExecutor) -> dict[tuple[str | None, ...], int]:
    """Return what each daemon has of its machine, and its process id."""
    found = zip(executor.everywhere(share), executor.everywhere(os.getpid), strict=True)
    return {what.result(SOON): pid.result(SOON) for what, pid in found}


def secret_of(executor: MiraiExecutor) -> str:
    launching = executor._launching
    assert launching is not None
    return launching.listening.credentials.secret.text


def command_lines() -> list[str]:
    """Return the command lines of all processes of this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append((folder / "cmdline").read_text(errors="replace").replace("\0", " "))
        except OSError:
            continue  # it ended meanwhile
    return found


def hides_its_secret(executor: MiraiExecutor) -> bool:
    """Say whether the executor's secret is in no command line, while its daemons run."""
    lines = command_lines()
    assert any(executor.urls[0] in line for line in lines), "its daemons are not among them"
    return not any(secret_of(executor) in line for line in lines)
