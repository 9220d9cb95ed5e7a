"""Daemons as pods: manifests by the models of the official client, and kubectl as it really is.

What kubectl speaks with is a stand-in, in ``cluster.py``.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from engines.cluster import Cluster, Pod, serve
from engines.jobs import Noting
from live.afar import (
    hides_its_secret,
    listening,
    pids,
    python_words,
    ring_and_wait,
    secret_of,
)
from live.mischief import Bell, answer
from mirai_executor import LaunchError, MiraiExecutor, kubernetes_config
from mirai_executor.credentials import DaemonCredentials, Secret, Token
from mirai_executor.launchers import DaemonCommand, KubernetesConfig

SOON = 60.0  # seconds: kubectl asks a server for all that it can do, at first


@pytest.mark.parametrize(("number", "kind"), [(0, "V1Job"), (1, "V1Secret")])
def test_a_manifest_is_what_the_api_describes(number: int, kind: str) -> None:
    client = pytest.importorskip("kubernetes.client")
    daemon = DaemonCommand(("tcp://10.0.0.1:5555",), DaemonCredentials(Secret(b"s" * 32)))
    launcher = kubernetes_config(
        "lab:7", resources={"cpu": 2, "nvidia.com/gpu": 1}, pod={"nodeSelector": {"pool": "x"}}
    )
    manifest = json.loads(launcher.manifests(daemon, 3)[number])
    api = client.ApiClient()
    # A model refuses what is missing or not allowed, and drops what it does not know.
    model = api.deserialize(json.dumps(manifest), kind, "application/json")
    assert api.sanitize_for_serialization(model) == manifest


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl here: install kubernetes-client")
    with serve() as cluster:
        yield cluster


@pytest.fixture
def pods(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubernetesConfig:
    """Return a launcher for the cluster, which has no schemata for kubectl to check."""
    program = tmp_path / "kubectl"
    program.write_text(
        '#!/bin/sh\ncase "$1" in create) set -- "$@" --validate=false;; esac\n'
        f'exec {shutil.which("kubectl")} --server={cluster.url} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    return kubernetes_config("lab:7", python=python_words(), command=str(program))


def test_kubectl_creates_a_job_and_its_secret_and_deletes_them(
    cluster: Cluster, pods: KubernetesConfig
) -> None:
    with listening("tls+tcp://127.0.0.1:0") as executor:
        executor.launch_remote(2, pods)
        executor.wait_ready(SOON, count=2)
        assert len(pids(executor, 2)) == 2
        assert executor.submit(answer).result(SOON) == 42
        assert hides_its_secret(executor)
        (job,) = cluster.jobs.values()
        (secret,) = cluster.secrets.values()
        token = secret["stringData"]["MIRAI_EXECUTOR_SECRET"]
        assert Token.from_text(token).text == token
        for confidential in (token, secret_of(executor)):
            assert confidential not in json.dumps(job)
        waiting = ["/bin/sh", "-c", "exec sleep 100"]
        executor.launch_remote(1, dataclasses.replace(pods, python=tuple(waiting)))
        (other,) = cluster.jobs.keys() - {job["metadata"]["name"]}
    assert f"DELETE {other}" in cluster.seen
    assert other not in cluster.secrets


def test_tasks_fail_with_the_reason_of_a_job_that_fails(
    cluster: Cluster, pods: KubernetesConfig
) -> None:
    failing = kubernetes_config("lab:7", python="/bin/false", command=pods.command)
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=failing) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert re.search(r"pod 0 of job mirai-\w+ has failed$", str(error))


def test_a_prologue_reads_nothing_and_ends_the_pod_with_its_words(
    cluster: Cluster, pods: KubernetesConfig
) -> None:
    prologue = ('read -r line; test -z "$line"', "ls /no/such/folder", "echo went on >&2")
    failing = dataclasses.replace(pods, prologue=prologue)
    with MiraiExecutor(1, url="tcp://127.0.0.1:0", remote=failing) as executor:
        error = executor.submit(answer).exception(SOON)
        assert isinstance(error, LaunchError)
        assert re.search(r"last output: ls: .*/no/such/folder", str(error))


def rows(executor: MiraiExecutor) -> set[int]:
    return {row.pid for row in executor.status().rows}


@pytest.mark.parametrize("is_adapting", [False, True])
def test_a_pod_that_is_lost_is_replaced_once_and_leaves_the_others_alone(
    cluster: Cluster, pods: KubernetesConfig, is_adapting: bool
) -> None:
    launcher = Noting(pods)
    count = None if is_adapting else 2
    remote = None if is_adapting else launcher
    with MiraiExecutor(count, url="tcp://127.0.0.1:0", remote=remote) as executor:
        if is_adapting:
            executor.adapt(2, 2, remote=launcher)
        executor.wait_ready(SOON, count=2)
        first, *_ = cluster.pods.values()
        (kept,) = rows(executor) - of_pod(first)
        assert first.process is not None
        for process in psutil.Process(first.process.pid).children(recursive=True):
            process.kill()
        first.process.kill()  # as with its node: nobody says goodbye
        launcher.wait(SOON, jobs=3, ended=1)
        executor.wait_ready(SOON, count=2)
        assert executor.info().cumulative == 3
        assert executor.info().connections == 2
        assert kept in rows(executor)
        assert len(cluster.pods) == 3


def of_pod(pod: Pod) -> set[int]:
    assert pod.process is not None
    return {it.pid for it in psutil.Process(pod.process.pid).children(recursive=True)}


def test_pods_that_wait_are_deleted_when_nobody_needs_them_and_the_others_stay(
    cluster: Cluster, pods: KubernetesConfig, tmp_path: Path
) -> None:
    cluster.room = 1
    launcher, bell = Noting(pods), Bell(tmp_path)
    with closing(bell), listening(cancel_grace=0.1) as executor:
        executor.adapt(0, 3, remote=launcher, release_after=0.5)
        running = executor.submit(ring_and_wait, bell.path, ())
        waiting = [executor.submit(answer) for _ in range(2)]
        bell.wait(SOON)
        for future in waiting:
            future.cancel()
        launcher.wait(SOON, jobs=3, ended=2)
        assert sum(it.is_deleted for it in cluster.pods.values()) == 2
        assert not running.done()
        assert executor.info().connections == 1
        running.cancel()
    (process,) = (pod.process for pod in cluster.pods.values() if pod.process is not None)
    process.wait(SOON)
