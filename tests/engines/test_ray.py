"""Daemons as tasks of a real Ray, which runs in processes of its own on this machine."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from engines.jobs import Noting
from live.afar import listening, ring_and_wait, secret_of
from live.mischief import Bell, answer
from mirai_executor import LaunchError, MiraiExecutor, ray_config

SOON = 60.0  # seconds: a worker of Ray takes some to start


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    ray.init(
        "local",  # whatever others have started on this machine
        num_cpus=2,
        resources={"slot": 1},
        object_store_memory=100_000_000,  # bytes
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


def keeper_of(executor: MiraiExecutor) -> psutil.Process:
    keeper = psutil.Process(executor.status().rows[0].pid).parent()
    assert keeper is not None
    return keeper


def test_daemons_run_as_tasks_and_end_with_the_executor() -> None:
    with MiraiExecutor(2, url="tls+tcp://127.0.0.1:0", remote=ray_config()) as executor:
        executor.wait_ready(SOON, count=2)
        keeper = keeper_of(executor)
        parent = keeper.parent()
        assert parent is not None
        assert "ray::mirai-daemon" in " ".join(parent.cmdline())
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
    psutil.wait_procs([keeper], SOON)
    assert not keeper.is_running()


def test_resources_limit_the_daemons_and_what_waits_is_taken_back() -> None:
    launcher = ray_config(num_cpus=0.5, resources={"slot": 1})
    with listening() as executor:
        executor.launch_remote(2, launcher)
        executor.wait_ready(SOON, count=1)
        assert executor.submit(answer).result(SOON) == 42
        assert executor.info().connections == 1
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        assert executor.submit(answer).result(SOON) == 42  # nobody has the slot any more


def test_a_worker_that_dies_takes_its_daemon_along_which_is_replaced_once() -> None:
    launcher = Noting(ray_config(num_cpus=0.5))  # there is room for others
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        executor.wait_ready(SOON)
        keeper, daemon = keeper_of(executor), executor.status().rows[0].pid
        os.kill(keeper.ppid(), signal.SIGKILL)
        assert psutil.wait_procs([keeper], SOON)[1] == []
        assert executor.submit(os.getpid).result(SOON) != daemon
        launcher.wait(SOON, jobs=2, ended=1)
        assert executor.info().cumulative == 2


def test_there_are_never_more_than_the_maximum_though_workers_die() -> None:
    with listening() as executor:
        launcher = Noting(ray_config(num_cpus=0.5))
        executor.adapt(0, 1, remote=launcher)
        executor.submit(answer).result(SOON)
        for losses in (1, 2):
            keeper = keeper_of(executor)
            os.kill(keeper.ppid(), signal.SIGKILL)
            assert psutil.wait_procs([keeper], SOON)[1] == []
            assert executor.with_options(retries=3).submit(answer).result(SOON) == 42
            launcher.wait(SOON, jobs=losses + 1, ended=losses)
            assert executor.info().cumulative == losses + 1


def test_what_waits_for_a_slot_is_taken_back_when_nobody_needs_it(tmp_path: Path) -> None:
    launcher, bell = Noting(ray_config(num_cpus=0.5, resources={"slot": 1})), Bell(tmp_path)
    with closing(bell), listening(cancel_grace=0.1) as executor:
        executor.adapt(0, 2, remote=launcher, release_after=0.5)
        running = executor.submit(ring_and_wait, bell.path, ())
        waiting = executor.submit(answer)
        bell.wait(SOON)
        launcher.wait(SOON, jobs=2, ended=0)  # there is no second slot
        waiting.cancel()
        launcher.wait(SOON, jobs=2, ended=1)
        assert not running.done()
        running.cancel()


def test_tasks_fail_with_the_words_of_a_daemon_that_cannot_run() -> None:
    launcher = ray_config(python=["/bin/sh", "-c", "echo 'no licence' >&2; exit 3"])
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "failed with exit status 3; last output: no licence" in str(error)
        assert secret_of(executor) not in f"{error}{error.stderr}"


def test_daemons_get_the_variables_of_a_runtime_environment() -> None:
    launcher = ray_config(runtime_env={"env_vars": {"MIRAI_TESTS_ANSWER": "42"}})
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        assert executor.submit(os.getenv, "MIRAI_TESTS_ANSWER").result(SOON) == "42"
