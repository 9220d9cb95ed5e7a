"""Starts real services for tests; where they are missing, a test is skipped and says why."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import grid_engine, sshd
from services import slurm as slurm_services


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("services")
            item.add_marker("live")


def require(package: str, *programs: str) -> None:
    """Skip the test if the programs are not there, or would not run for this user."""
    if os.getuid() != 0:
        pytest.skip("services are started as root")
    path = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [name for name in programs if shutil.which(name, path=path) is None]:
        pytest.skip(f"there is no {', '.join(missing)} here: install {package}")


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Server]:
    require("openssh-server openssh-client", "sshd", "ssh", "ssh-keygen")
    with sshd.serve(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_services.Cluster]:
    require("slurm-wlm munge", "munged", "slurmctld", "slurmd", "sbatch")
    with slurm_services.serve(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture
def slurm(
    slurm_cluster: slurm_services.Cluster, monkeypatch: pytest.MonkeyPatch
) -> slurm_services.Cluster:
    """Have the commands of Slurm find the cluster of the tests."""
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return slurm_cluster


@pytest.fixture(scope="session")
def whole_grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grid_engine.Grid]:
    require(
        "gridengine-master gridengine-exec gridengine-client", "sge_qmaster", "sge_execd", "qsub"
    )
    if not grid_engine.DEBIAN.is_dir():
        pytest.skip("the Grid Engine here is not laid out as that of Debian")
    with grid_engine.serve(tmp_path_factory.mktemp("grid")) as grid:
        yield grid


@pytest.fixture
def grid(whole_grid: grid_engine.Grid, monkeypatch: pytest.MonkeyPatch) -> grid_engine.Grid:
    """Have the commands of Grid Engine find the one of the tests."""
    for name, value in whole_grid.environment.items():
        monkeypatch.setenv(name, value)
    return whole_grid
