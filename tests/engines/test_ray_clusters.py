"""Daemons on a Ray of other processes, which the program joins by its address; nodes that die."""

import contextlib
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engines.jobs import Noting
from mirai_executor import MiraiExecutor, ray_config

SOON = 120.0  # seconds: a node of Ray takes some to start

pytestmark = pytest.mark.timeout(4 * SOON)
MEMORY = 100_000_000  # bytes for objects


@pytest.fixture
def ray() -> Iterator[Any]:
    found = pytest.importorskip("ray", reason="Ray has no wheel for this Python")
    yield found
    found.shutdown()


@contextlib.contextmanager
def head(*options: str) -> Iterator[str]:
    """Run ``ray start --head``, as an administrator does; yield the address that it prints."""
    words = ["start", "--head", "--block", "--port=0", "--include-dashboard=false"]
    program = Path(sysconfig.get_path("scripts")) / "ray"
    with subprocess.Popen(
        [program, *words, f"--object-store-memory={MEMORY}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},  # it would want a token of this process
    ) as process:
        assert process.stdout is not None
        said = ""
        try:
            for line in process.stdout:
                said += line
                if "--block" in line:  # the last thing that it explains
                    break
            found = re.search(r"--address='([^']+)'", said)
            assert found is not None, said
            yield found[1]
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.stdout.read()
            psutil.wait_procs(children, SOON)


def test_daemons_run_on_a_cluster_that_others_have_started_each_with_a_gpu_of_its_own(
    ray: Any,
) -> None:
    with head("--num-cpus=1", "--num-gpus=2") as address:
        launcher = ray_config(address, num_cpus=0, num_gpus=1)
        with MiraiExecutor(2, url="tcp://127.0.0.1:0", remote=launcher) as executor:
            executor.wait_ready(SOON, count=2)
            seen = executor.everywhere(os.getenv, "CUDA_VISIBLE_DEVICES")
            assert {future.result(SOON) for future in seen} == {"0", "1"}
            assert ray.get_runtime_context().gcs_address == address
        ray.shutdown()


def die(raylet: psutil.Process) -> None:
    """Have all of a node end at once, as when its machine fails."""
    processes = [raylet, *raylet.children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert psutil.wait_procs(processes, SOON)[1] == []


def raylet_of(executor: MiraiExecutor) -> int:
    """Return the process of the node that runs the only daemon."""
    (row,) = executor.status().rows
    *_, raylet = psutil.Process(row.pid).parents()[:3]  # of the keeper, of Ray's worker
    return raylet.pid


def raylet(node: Any) -> int:
    (process,) = node.all_processes["raylet"]
    return int(process.process.pid)


def test_what_a_dead_node_had_is_replaced_once_on_another(ray: Any) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    try:
        first = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
        launcher = Noting(ray_config(cluster.address))
        with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=launcher) as executor:
            executor.wait_ready(SOON)
            assert raylet_of(executor) == raylet(first)
            second = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
            (lost,) = (row.pid for row in executor.status().rows)
            die(psutil.Process(raylet(first)))
            assert executor.submit(os.getpid).result(SOON) != lost
            assert raylet_of(executor) == raylet(second)
            launcher.wait(SOON, jobs=2, ended=1)
            assert executor.info().cumulative == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
