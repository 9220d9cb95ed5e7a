"""Which GPUs a process may use, and what each of several daemons sees of them."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirai_executor import _devices
from mirai_executor._devices import claim_gpus, share_of_gpus, visible_gpus
from mirai_executor._host import Environments
from mirai_executor._payload.common.preparation import Preparation

HOST = Preparation((), "/", (), b"", None, None, None, None, "Boss", 4711, (1,))


@pytest.fixture(autouse=True)
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have neither GPUs nor variables about them."""
    for name, folder in (("_NVIDIA", "dev"), ("_AMD", "nodes")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(_devices, name, str(tmp_path / folder))
    for variable in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def nvidia(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()


@pytest.fixture
def amd(tmp_path: Path) -> None:
    for node, gpu_id in enumerate((0, 0, 4711, 4712)):
        folder = tmp_path / "nodes" / str(node)
        folder.mkdir()
        (folder / "gpu_id").write_text(f"{gpu_id}\n")


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("0,2", ("0", "2")),
        ("GPU-5ebe9f43, MIG-2", ("GPU-5ebe9f43", "MIG-2")),
        ("3,-1,5", ("3",)),
        ("", ()),
    ],
)
@pytest.mark.usefixtures("nvidia")
def test_what_a_variable_names_outranks_what_the_machine_has(
    value: str, gpus: tuple[str, ...]
) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": value}) == gpus


@pytest.mark.usefixtures("nvidia")
def test_daemons_divide_the_devices_of_nvidia() -> None:
    assert visible_gpus({}) == ("0", "1", "2")
    assert share_of_gpus({}, 2, 1) == {"CUDA_VISIBLE_DEVICES": "1"}
    # What Slurm sets where nobody has told it whose GPUs they are.
    both = {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "ROCR_VISIBLE_DEVICES": "4,5,6,7"}
    assert share_of_gpus(both, 2, 2) == {"CUDA_VISIBLE_DEVICES": "6,7"}


@pytest.mark.usefixtures("amd")
def test_daemons_divide_the_devices_of_amd_whose_other_variables_count_from_0() -> None:
    assert share_of_gpus({}, 2, 1) == {"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}
    both = {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "ROCR_VISIBLE_DEVICES": "4,5,6,7"}
    assert share_of_gpus(both, 2, 2) == {
        "ROCR_VISIBLE_DEVICES": "6,7",
        "HIP_VISIBLE_DEVICES": "0,1",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    assert share_of_gpus({"HIP_VISIBLE_DEVICES": "1,0"}, 1, 1) == {"HIP_VISIBLE_DEVICES": "1"}


def test_too_few_gpus_are_an_error_that_says_how_many_there_are() -> None:
    with pytest.raises(ValueError, match=r"daemon 2 .* there are 3 here: CUDA_.*=0,1,2"):
        share_of_gpus({"CUDA_VISIBLE_DEVICES": "0,1,2"}, 2, 2)
    with pytest.raises(ValueError, match="there are 0 here"):
        share_of_gpus({}, 1, 1)


def test_each_daemon_gets_its_variables_and_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,4")
    environments = Environments(lambda number: {"WHO": f"daemon {number}"}, 2)
    assert environments.default_workers(64) == 2
    environments.check(2)
    with pytest.raises(ValueError, match="daemon 3"):
        environments.check(3)
    here = environments.put_into(HOST, 2)
    assert here.variables == (("CUDA_VISIBLE_DEVICES", "2,3"), ("WHO", "daemon 2"))
    there = environments.put_into(HOST.elsewhere(), 7)
    assert (there.variables, there.gpus) == ((("WHO", "daemon 7"),), 2)


@pytest.mark.parametrize("value", ["A=1", ["A"], {"A": 1}, {1: "A"}, lambda number: None])
def test_variables_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="env must"):
        Environments(value, None).check(1)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("value", [{"": "1"}, {"A=": "1"}, {"A": "\0"}])
def test_variables_that_no_environment_can_hold_are_refused(value: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="impossible variable"):
        Environments(value, None)


@pytest.fixture
def whose() -> Iterator[str]:
    """Return whose daemons claim GPUs here; what they have claimed is free at the end."""
    yield secrets.token_hex(8)
    _devices._forget_claims()


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of Linux")


@linux
def test_daemons_that_do_not_know_of_each_other_have_different_gpus(whose: str) -> None:
    four, name = {"CUDA_VISIBLE_DEVICES": "0,GPU-1,2,3"}, "CUDA_VISIBLE_DEVICES"
    assert claim_gpus(four, 2, whose) == {name: "0,GPU-1"}
    assert claim_gpus(four, 1, f"{whose} another") == {name: "0"}
    # As for each worker of dask-cuda, whose own comes first.
    assert claim_gpus({name: "3,0,GPU-1,2"}, 1, whose) == {name: "3"}
    assert claim_gpus(four, 1, whose) == {name: "2"}
    # All are taken; or each job sees its own as the first, and they only seem to be.
    assert claim_gpus(four, 1, whose) == {name: "0"}
    with pytest.raises(ValueError, match="there are 4 here"):
        claim_gpus(four, 5, whose)


@linux
def test_a_gpu_is_free_again_once_its_daemon_has_ended(whose: str) -> None:
    code = "import sys; from mirai_executor._devices import *; "
    code += "print(claim_gpus({'CUDA_VISIBLE_DEVICES': '0,1'}, 1, sys.argv[1]), flush=True)"
    words = [sys.executable, "-c", f"{code}; input()", whose]
    two = {"CUDA_VISIBLE_DEVICES": "0,1"}
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert b"'0'" in other.stdout.readline()
        assert claim_gpus(two, 1, whose) == {"CUDA_VISIBLE_DEVICES": "1"}
        other.kill()
    assert claim_gpus(two, 1, whose) == {"CUDA_VISIBLE_DEVICES": "0"}


@linux
def test_what_a_task_forks_keeps_no_gpu_from_the_next_daemon(whose: str) -> None:
    one, name = {"CUDA_VISIBLE_DEVICES": "7"}, "CUDA_VISIBLE_DEVICES"
    assert claim_gpus(one, 1, whose) == {name: "7"}
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begins, b".")
        signal.pause()
    try:
        assert os.read(begun, 1) == b"."
        for claim in _devices._claims:  # as at the end of the daemon
            claim.close()
        _devices._claims.clear()
        two = {name: "7,8"}
        assert claim_gpus(two, 1, whose) == {name: "7"}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(begun)
        os.close(begins)


@linux
@pytest.mark.usefixtures("amd")
def test_variables_of_rocm_are_claimed_like_those_of_cuda(whose: str) -> None:
    assert claim_gpus({}, 1, whose) == share_of_gpus({}, 1, 1)
    assert claim_gpus({}, 1, whose) == share_of_gpus({}, 2, 1)
