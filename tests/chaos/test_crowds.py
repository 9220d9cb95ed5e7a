"""A thousand daemons at one host."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirai_executor import MiraiExecutor
from mirai_executor.urls import Url

PROCESSES, EACH, TASKS = 4, 250, 100_000
SPARE = 100  # descriptors for all else


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = PROCESSES * EACH + SPARE
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"a process may have {hard} descriptors here, and {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.live
@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_daemons_work_through_a_hundred_thousand_tasks() -> None:
    with contextlib.ExitStack() as stack, MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
        assert executor.url is not None
        assert executor._launching is not None
        secret = executor._launching.listening.credentials.secret.text
        port = str(Url.parse(executor.url).port)
        crowd = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, Path(__file__).with_name("crowd.py"), port, str(EACH)],
                    env={**os.environ, "CROWD_SECRET": secret},
                )
            )
            for _ in range(PROCESSES)
        ]
        executor.wait_ready(120, count=PROCESSES * EACH)
        futures = [executor.submit(abs, -n) for n in range(TASKS)]
        assert [future.result(300) for future in futures] == list(range(TASKS))
        status = executor.status()
        assert status.completed == TASKS
        assert status.connections == PROCESSES * EACH
        done = [row.tasks for row in status.rows]
        assert sum(done) == TASKS
        # Those that were idle last come first: with tasks this short, some may never get one.
        assert sum(count > 0 for count in done) > PROCESSES
    assert [process.returncode for process in crowd] == [0] * PROCESSES
