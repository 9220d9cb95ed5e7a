"""Daemons as jobs of a real Slurm on this machine."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from live.afar import hides_its_secret, hold_job, listening, pids, python_words, secret_of
from live.mischief import SOON, Bell, answer
from mirai_executor import (
    DaemonLostError,
    LaunchError,
    MiraiExecutor,
    cluster_config,
    remote_config,
)
from mirai_executor._core import scaling
from mirai_executor._host import _elsewhere, _settings
from mirai_executor.launchers import ClusterConfig, RemoteConfig
from services.slurm import Cluster
from services.sshd import wait_until


def jobs(options: str = "", **more: Any) -> ClusterConfig:
    quiet = "#SBATCH --output=/dev/null"
    return cluster_config("sbatch", [quiet, *options.splitlines()], python=python_words(), **more)


def test_one_submission_brings_all_daemons(slurm: Cluster) -> None:
    with listening() as executor:
        (said,) = executor.launch_remote(3, jobs("#SBATCH --job-name=mirai"))
        assert said.startswith("Submitted batch job")
        assert len(pids(executor, 3)) == 3
        assert list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        assert hides_its_secret(executor)
        queue = slurm.run("squeue", "--array", "--noheader", "-o", "%F %j")
        assert queue.splitlines() == [f"{said.split()[-1]} mirai"] * 3
        assert secret_of(executor) not in slurm.run("scontrol", "show", "job", said.split()[-1])


def test_an_executor_submits_for_its_own_daemons(slurm: Cluster, tmp_path: Path) -> None:
    launcher = jobs(secret_folder=tmp_path)
    with MiraiExecutor(2, url="tls+tcp://127.0.0.1:0", remote=launcher) as executor:
        assert executor.submit(answer).result(SOON) == 42
        assert len(pids(executor, 2)) == 2
    assert list(tmp_path.iterdir()) == []


def inside(*options: str, **more: Any) -> RemoteConfig:
    """Run daemons as steps, as inside of an allocation."""
    words = ["-n1", "--overlap", *options, "."]
    return remote_config("srun", words, python=python_words(), stays=True, **more)


def test_steps_of_a_job_get_their_secret_though_jobs_have_no_environment(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_EXPORT_ENV", "NONE")  # as in jobs of sbatch --export=NONE
    with listening() as executor:
        executor.launch_remote(2, inside("--export=ALL"))
        assert len(pids(executor, 2)) == 2


def test_steps_without_any_environment_of_ours_get_their_secret_by_standard_input(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_HOST", "1")
    with listening() as executor:
        executor.launch_remote(2, inside("--export=NONE", stdin=True))
        assert len(pids(executor, 2)) == 2
        assert hides_its_secret(executor)
        assert executor.submit(os.getenv, "OF_THE_HOST").result(SOON) is None


def test_tasks_fail_with_the_words_of_sbatch(slurm: Cluster) -> None:
    launcher = jobs("#SBATCH --partition=nowhere")
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "invalid partition specified: nowhere" in error.stderr
        assert error.command == ("sbatch",)
        with pytest.raises(LaunchError, match="Invalid partition"):
            executor.submit(answer)


def test_tasks_fail_soon_if_jobs_die_before_their_daemons_have_come(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_settings, "_WARN_AFTER", 0.5)
    monkeypatch.setattr(_elsewhere, "_FIRST_LOOK", 0.5)
    monkeypatch.setattr(_elsewhere, "_LONGEST_LOOK", 0.5)
    monkeypatch.setattr(scaling, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(scaling, "_PATIENCE", 0.2)  # after two refusals
    launcher = cluster_config("sbatch", "#SBATCH --output=/dev/null", python="/nowhere/python")
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "is over before all of its daemons have come" in str(error)


@pytest.mark.parametrize("signal", [(), ("--signal=KILL", "--full"), ("--signal=TERM", "--full")])
def test_a_job_that_is_cancelled_costs_the_task_that_it_ran(
    slurm: Cluster, bell: Bell, signal: tuple[str, ...]
) -> None:
    with listening() as executor:
        executor.launch_remote(2, jobs())
        executor.wait_ready(SOON, count=2)
        future, job = hold_job(executor, bell, "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
        slurm.run("scancel", *signal, "_".join(job))
        assert isinstance(future.exception(SOON), DaemonLostError)
        assert executor.submit(answer).result(SOON) == 42
        assert executor.info().connections == 1


def test_an_array_that_is_cancelled_costs_all_the_tasks_that_it_ran(
    slurm: Cluster, bell: Bell
) -> None:
    with listening() as executor:
        executor.launch_remote(2, jobs())
        executor.wait_ready(SOON, count=2)
        one, (array,) = hold_job(executor, bell, "SLURM_ARRAY_JOB_ID")
        other, _ = hold_job(executor, bell)
        slurm.run("scancel", array)
        assert isinstance(one.exception(SOON), DaemonLostError)
        assert isinstance(other.exception(SOON), DaemonLostError)
        executor.launch_remote(1, jobs())
        assert executor.submit(answer).result(SOON) == 42


def test_a_job_that_is_requeued_costs_its_task_and_comes_back(slurm: Cluster, bell: Bell) -> None:
    with listening() as executor:
        executor.launch_remote(1, jobs("#SBATCH --requeue"))
        executor.wait_ready(SOON, count=1)
        future, (job,) = hold_job(executor, bell, "SLURM_JOB_ID")
        waiting = executor.submit(answer)
        slurm.run("scontrol", "requeue", job)
        assert isinstance(future.exception(SOON), DaemonLostError)
        assert waiting.result(2 * SOON) == 42


@pytest.mark.parametrize("requeue", ["", "#SBATCH --requeue"])
def test_a_job_that_is_replaced_does_not_come_back(
    slurm: Cluster, bell: Bell, tmp_path: Path, requeue: str
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    launcher = jobs(requeue, secret_folder=folder)
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        executor.wait_ready(SOON)
        future, (job,) = hold_job(executor, bell, "SLURM_JOB_ID")
        # What the user says counts.
        assert f"Requeue={int(bool(requeue))}" in slurm.run("scontrol", "show", "job", job)
        wait_until("the removal of its file", lambda: not list(folder.iterdir()))
        if requeue:
            slurm.run("scontrol", "requeue", job)
        else:
            with pytest.raises(subprocess.CalledProcessError):
                slurm.run("scontrol", "requeue", job)
            slurm.run("scancel", job)
        assert isinstance(future.exception(SOON), DaemonLostError)
        assert executor.submit(answer).result(2 * SOON) == 42
        if requeue:  # its second life finds no secret, and ends
            ended = "squeue", "--noheader", "--states=FAILED", "--format=%A"
            wait_until("its second life", lambda: job in slurm.run(*ended).split())
        assert executor.info().cumulative == 2


@pytest.mark.slow
def test_a_job_whose_time_is_over_costs_the_task_that_it_ran(slurm: Cluster, bell: Bell) -> None:
    with listening() as executor:
        executor.launch_remote(1, jobs("#SBATCH --time=0:01"))  # Slurm counts in minutes
        executor.wait_ready(SOON, count=1)
        future, _ = hold_job(executor, bell, "SLURM_JOB_ID")
        assert isinstance(future.exception(150), DaemonLostError)
