"""Tasks, and what they start, find no token of a daemon in any environment, however it came."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from live.afar import python_words
from live.mischief import SOON
from mirai_executor import MiraiExecutor, remote_config, ssh_config
from mirai_executor._provisioning._listening import Here
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    JobRequest,
    Launcher,
    Submission,
    Until,
)
from mirai_executor.launchers._futures import FutureJob
from mirai_executor.launchers._task import DaemonTask, run

pytestmark = [pytest.mark.transports, pytest.mark.own_url, pytest.mark.once]

TOKEN = re.compile(rb"MIRAI_EXECUTOR_SECRET=[0-9a-f]")
# What a container starts as its process 1.
FIRST = """\
import functools, os
from mirai_executor import cli, keeper
keeper.leave_first_place = functools.partial(keeper.leave_first_place, os.getpid())
raise SystemExit(cli.main())
"""


class Container:
    """Starts daemons of which each is process 1, as in a pod."""

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        _, _, _, *words = daemon.argv(())
        argv = (*python_words(), "-P", "-c", FIRST, *words)
        environment = tuple(daemon.environment.items())
        return [Command(argv, environment=environment, until=Until.START)] * count


@dataclass(frozen=True)
class Engine:
    """Starts daemons beside a worker, which is a thread here."""

    workers: ThreadPoolExecutor

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        task = DaemonTask.of(daemon, python_words())
        return [JobRequest("engine", self._submit, (task,)) for _ in range(count)]

    def _submit(self, _: float, task: DaemonTask) -> FutureJob:
        future = self.workers.submit(run, task)
        return FutureJob("engine", future, cancel=Future.cancel, failure=str)


SSH = ("/bin/sh", "-c", "exec /bin/sh", "ssh")  # which reads its script, as that of a login does
SHELL = ("/bin/sh", ["-c", 'exec "$@"', "sh", "."])
WAYS: dict[str, Callable[[ThreadPoolExecutor], Launcher]] = {
    "here": lambda _: Here(sys.executable),
    "ssh": lambda _: ssh_config("elsewhere", command=SSH, python=python_words()),
    "a command with input": lambda _: remote_config(
        *SHELL, stdin=True, stays=True, python=python_words()
    ),
    "a command": lambda _: remote_config(*SHELL, stays=True, python=python_words()),
    "an engine": Engine,
    "a container": lambda _: Container(),
}


def environments(host: int) -> list[bytes]:
    """Return those of a child, of this task, and of all processes that the host has begun."""
    seen = [subprocess.run(["env"], capture_output=True, check=True).stdout]
    seen += [repr(os.environ).encode()]
    for process in [psutil.Process(), *psutil.Process(host).children(recursive=True)]:
        try:
            seen.append(Path(f"/proc/{process.pid}/environ").read_bytes())
        except OSError:
            continue  # it ended meanwhile
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_no_task_finds_the_token_in_the_environment_of_any_process(
    way: str, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as workers:
        executor: Any = MiraiExecutor(url=f"ipc://{tmp_path / 'door'}")
        with executor:
            executor.launch_remote(1, WAYS[way](workers))
            seen = executor.submit(environments, os.getpid()).result(SOON)
            keeper = psutil.Process(executor.status().rows[0].pid).parent()
    assert len(seen) >= 5
    assert keeper is not None
    assert not [text for text in seen if TOKEN.search(text)]
