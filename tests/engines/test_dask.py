"""Daemons as tasks of a real Dask cluster, whose scheduler and workers are other processes."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from live.afar import listening, pids, ring_and_wait, secret_of, shares
from live.mischief import Bell, answer, crash
from mirai_executor import DaemonLostError, LaunchError, MiraiExecutor, dask_config
from mirai_executor.launchers import _dask
from mirai_executor.launchers._dask_tasks import DaskTasks
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


def daemons_of(client: Any) -> list[str]:
    """Return the keys of daemons that the scheduler knows."""
    keys = client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks])
    return [str(key) for key in keys if "run_once" in str(key)]


def tickets_of(client: Any) -> list[str]:
    """Return what the scheduler remembers of daemons that may begin, or have begun."""
    queues = client.run_on_scheduler(
        lambda dask_scheduler: [*dask_scheduler.extensions["queues"].queues]
    )
    return [queue for queue in queues if queue.startswith("mirai")]


def busiest(client: Any) -> str:
    """Return the worker at which a daemon waits for another one."""
    workers: dict[int, str] = client.run_on_scheduler(
        lambda dask_scheduler: {len(w.processing): a for a, w in dask_scheduler.workers.items()}
    )
    return workers[2]


def keeper_of(pid: int) -> psutil.Process:
    keeper = psutil.Process(pid).parent()
    assert keeper is not None
    return keeper


def rows(executor: MiraiExecutor) -> set[int]:
    return {row.pid for row in executor.status().rows}


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)  # nothing tells when a scheduler has forgotten a task


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
        assert len(daemons_of(client)) == 3
        assert executor.submit(answer).result(SOON) == 42
    wait_until(lambda: not daemons_of(client))
    wait_until(lambda: not tickets_of(client))


def test_a_worker_that_dies_takes_its_daemon_along_which_is_replaced_once(client: Any) -> None:
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=dask_config(client)) as executor:
        executor.wait_ready(SOON, count=2)
        before = rows(executor)
        daemon = psutil.Process(min(before))
        keeper = keeper_of(daemon.pid)
        others = {pid for pid in before if keeper_of(pid).ppid() != keeper.ppid()}
        os.kill(keeper.ppid(), signal.SIGKILL)
        assert psutil.wait_procs([daemon, keeper], SOON)[1] == []
        wait_until(lambda: daemon.pid not in rows(executor))
        executor.wait_ready(SOON, count=2)
        # Dask has run the lost task again, too, which has done nothing.
        wait_until(lambda: len(daemons_of(client)) == 2)
        assert executor.info().connections == 2
        assert executor.info().cumulative == 4 - len(others)
        assert others <= rows(executor)


def test_there_are_never_more_than_the_maximum_though_workers_die(client: Any) -> None:
    with listening() as executor:
        executor.adapt(0, 1, remote=dask_config(client))
        pid = executor.submit(os.getpid).result(SOON)
        for cumulative in (2, 3):
            os.kill(keeper_of(pid).ppid(), signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in rows(executor))  # type: ignore[misc]
            pid = executor.submit(os.getpid).result(SOON)
            wait_until(lambda: len(daemons_of(client)) == 1)
            assert executor.info().cumulative == cumulative
            assert rows(executor) == {pid}


def test_a_daemon_that_crashes_is_replaced_where_it_is(client: Any) -> None:
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=dask_config(client)) as executor:
        executor.wait_ready(SOON)
        (pid,) = rows(executor)
        keeper = keeper_of(pid)
        assert isinstance(executor.submit(crash).exception(SOON), DaemonLostError)
        (other,) = {executor.submit(os.getpid).result(SOON) for _ in range(10)}
        assert keeper_of(other) == keeper
        assert len(daemons_of(client)) == 1


def test_what_waits_for_a_worker_is_taken_back_when_nobody_needs_it(
    client: Any, tmp_path: Path
) -> None:
    bells = [Bell(tmp_path, name) for name in ("one", "other")]
    launcher = dask_config(client, resources={"slot": 1})
    with listening(cancel_grace=0.1) as executor, closing(bells[0]), closing(bells[1]):
        executor.adapt(0, 3, remote=launcher, release_after=0.5)
        running = [executor.submit(ring_and_wait, bell.path, ()) for bell in bells]
        waiting = executor.submit(answer)
        for bell in bells:
            bell.wait(SOON)
        wait_until(lambda: len(daemons_of(client)) == 3)  # there is no third slot
        waiting.cancel()
        wait_until(lambda: len(daemons_of(client)) == 2)
        assert executor.info().connections == 2
        assert not any(future.done() for future in running)
        for future in running:
            future.cancel()


def test_daemons_run_on_the_workers_that_are_named(client: Any) -> None:
    address, pid = sorted(client.run(os.getpid).items())[0]
    launcher = dask_config(client, workers=address)
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
        executor.wait_ready(SOON, count=2)
        assert {keeper_of(daemon).ppid() for daemon in rows(executor)} == {pid}


def test_workers_that_come_later_take_the_daemons_that_wait() -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            resources={"slot": 1},
        ) as cluster,
        listening() as executor,
    ):
        launcher = dask_config(cluster, resources={"slot": 1})
        executor.launch_remote(2, launcher)
        executor.wait_ready(SOON, count=1)
        assert executor.info().connections == 1
        cluster.scale(2)
        executor.wait_ready(SOON, count=2)
        assert len({keeper_of(pid).ppid() for pid in rows(executor)}) == 2


def test_a_daemon_that_waits_takes_the_room_that_another_one_leaves(client: Any) -> None:
    with listening() as executor:
        executor.launch_remote(3, dask_config(client, resources={"slot": 1}))
        executor.wait_ready(SOON, count=2)
        pid = client.run(os.getpid, workers=[busiest(client)])[busiest(client)]
        (elsewhere,) = (row for row in rows(executor) if keeper_of(row).ppid() != pid)
        keeper_of(elsewhere).kill()
        wait_until(lambda: len(rows(executor)) == 2 and elsewhere not in rows(executor))


def test_a_daemon_that_begins_as_it_is_moved_is_the_only_one(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    again = DaskTasks._again

    def wait_and_move(self: DaskTasks, daemon: Any) -> Any:
        wait_until(lambda: not daemon.ticket.qsize())  # it begins where it has waited
        found.append(again(self, daemon))
        return found[-1]

    with listening() as executor:
        executor.launch_remote(3, dask_config(client, resources={"slot": 1}))
        executor.wait_ready(SOON, count=2)
        monkeypatch.setattr(DaskTasks, "_again", wait_and_move)
        pid = client.run(os.getpid, workers=[busiest(client)])[busiest(client)]
        (there,) = (row for row in rows(executor) if keeper_of(row).ppid() == pid)
        keeper_of(there).kill()
        wait_until(lambda: there not in rows(executor) and executor.info().connections == 2)
        wait_until(lambda: bool(found))
        assert {*found} == {None}  # as all of them have begun
        wait_until(lambda: len(daemons_of(client)) == 2)
        assert executor.info().cumulative == 3
    wait_until(lambda: not tickets_of(client))


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


def test_daemons_beside_different_workers_have_different_gpus(client: Any) -> None:
    python = ["/usr/bin/env", "CUDA_VISIBLE_DEVICES=0,1,2", sys.executable]
    launcher = dask_config(client, resources={"slot": 1}, python=python)
    with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher, gpus_per_daemon=1) as executor:
        executor.wait_ready(SOON, count=2)
        assert {gpu for gpu, _ in shares(executor)} == {"0", "1"}


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
