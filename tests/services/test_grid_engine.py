"""Daemons as jobs of a real Grid Engine on this machine."""

import re
from pathlib import Path
from typing import Any

from live.afar import hides_its_secret, hold_job, listening, pids, python_words, secret_of
from live.mischief import SOON, Bell, answer
from mirai_executor import DaemonLostError, LaunchError, MiraiExecutor, cluster_config
from mirai_executor.launchers import ClusterConfig
from services.grid_engine import Grid


def jobs(options: str = "", **more: Any) -> ClusterConfig:
    quiet = ["#$ -o /dev/null", "#$ -j y", "#$ -cwd"]
    return cluster_config("qsub", [*quiet, *options.splitlines()], python=python_words(), **more)


def test_one_submission_brings_all_daemons(grid: Grid) -> None:
    with listening() as executor:
        (said,) = executor.launch_remote(3, jobs("#$ -N mirai"))
        assert said.startswith("Your job-array")
        assert len(pids(executor, 3)) == 3
        assert list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        assert hides_its_secret(executor)
        assert secret_of(executor) not in grid.run("qstat", "-j", "mirai")


def test_an_executor_submits_for_its_own_daemon(grid: Grid, tmp_path: Path) -> None:
    launcher = jobs(secret_folder=tmp_path)
    with MiraiExecutor(1, url="tls+tcp://127.0.0.1:0", remote=launcher) as executor:
        assert executor.submit(answer).result(SOON) == 42
        # No second life: the executor asks for another job.
        assert re.search(r"^restart: +n$", grid.run("qstat", "-j", "*"), re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_tasks_fail_with_the_words_of_qsub(grid: Grid) -> None:
    launcher = jobs("#$ -q nowhere")
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "nowhere" in error.stderr
        assert error.command == ("qsub",)


def test_a_job_that_is_deleted_costs_the_task_that_it_ran(grid: Grid, bell: Bell) -> None:
    with listening() as executor:
        executor.launch_remote(2, jobs())
        executor.wait_ready(SOON, count=2)
        future, (job, task) = hold_job(executor, bell, "JOB_ID", "SGE_TASK_ID")
        grid.run("qdel", job, "-t", task)
        assert isinstance(future.exception(SOON), DaemonLostError)
        assert executor.submit(answer).result(SOON) == 42
        assert executor.info().connections == 1
