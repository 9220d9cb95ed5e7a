"""Daemons as tasks of a real Dask cluster, whose scheduler and workers are other processes."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from live.afar import listening, pids, secret_of
from live.mischief import answer
from mirai_executor import LaunchError, MiraiExecutor, dask_config
from mirai_executor.launchers import _dask
from mirai_executor.launchers._task import DaemonTask

SOON = 60.0  # seconds: a worker of Dask takes some to start


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            resources={"slot": 1},
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def tasks_of(client: Any) -> list[str]:
    """Return the keys that the scheduler knows."""
    return [
        str(key) for key in client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks])
    ]


@pytest.mark.parametrize("by", ["client", "address"])
def test_daemons_run_beside_the_tasks_of_dask_and_end_with_the_executor(
    client: Any, by: str
) -> None:
    given = client if by == "client" else client.scheduler.address
    with MiraiExecutor(3, url="tls+tcp://127.0.0.1:0", remote=dask_config(given)) as executor:
        executor.wait_ready(SOON, count=3)
        workers = set(client.run(os.getpid).values())
        keepers = [psutil.Process(row.pid).parent() for row in executor.status().rows]
        assert {keeper.ppid() for keeper in keepers if keeper is not None} <= workers
        assert list(executor.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert client.submit(sum, [1, 2]).result(SOON) == 3
    psutil.wait_procs([keeper for keeper in keepers if keeper is not None], SOON)
    assert not any(keeper.is_running() for keeper in keepers if keeper is not None)


def test_resources_limit_the_daemons_and_what_waits_is_taken_back(client: Any) -> None:
    with listening() as executor:
        executor.launch_remote(3, dask_config(client, resources={"slot": 1}))
        executor.wait_ready(SOON, count=2)
        waiting = [key for key in tasks_of(client) if "run_on_worker" in key]
        assert len(waiting) == 3
        assert executor.submit(answer).result(SOON) == 42
    assert [key for key in tasks_of(client) if "run_on_worker" in key] == []


def test_a_worker_that_dies_takes_its_daemon_along_and_dask_starts_another(client: Any) -> None:
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=dask_config(client)) as executor:
        executor.wait_ready(SOON)
        daemon = psutil.Process(executor.status().rows[0].pid)
        keeper = daemon.parent()
        assert keeper is not None
        os.kill(keeper.ppid(), signal.SIGKILL)
        assert psutil.wait_procs([daemon, keeper], SOON)[1] == []
        assert executor.submit(os.getpid).result(SOON) != daemon.pid


def test_tasks_fail_with_the_words_of_a_daemon_that_cannot_run(client: Any) -> None:
    launcher = dask_config(client, python=["/bin/sh", "-c", "echo 'no licence' >&2; exit 3"])
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert "failed with exit status 3; last output: no licence" in str(error)
        assert secret_of(executor) not in f"{error}{error.stderr}"


def test_a_scheduler_that_is_not_there_is_a_launch_error(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dask, "_TO_CONNECT", 0.5)
    with (
        listening() as executor,
        pytest.raises(LaunchError, match=r"Dask at tcp://127\.0\.0\.1:9 has not taken"),
    ):
        executor.launch_remote(1, dask_config("tcp://127.0.0.1:9"))


def test_dask_computes_on_an_executor(client: Any) -> None:
    dask = pytest.importorskip("dask")
    with MiraiExecutor(2) as executor:
        found = dask.compute(*(dask.delayed(os.getpid)() for _ in range(8)), scheduler=executor)
        assert set(found) <= {row.pid for row in executor.status().rows}


def test_two_executors_share_a_cluster(client: Any) -> None:
    launcher = dask_config(client)
    with listening() as one, listening() as other:
        for executor in (one, other):
            executor.launch_remote(1, launcher)
        assert pids(one, 1).isdisjoint(pids(other, 1))


def test_what_a_worker_may_log_of_a_task_has_no_secret() -> None:
    task = DaemonTask(("-m", "mirai_executor"), (("MIRAI_EXECUTOR_SECRET", "s3cret"),))
    assert "s3cret" not in repr(task)
