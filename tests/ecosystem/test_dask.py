"""dask's collections with an executor as their scheduler, when something goes wrong."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from live.mischief import ring
from mirai_executor import DaemonLostError, MiraiExecutor


@pytest.fixture
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(2) as executor:
        yield executor


def die_once(folder: Path) -> str:
    try:
        (folder / "died").touch(exist_ok=False)
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def test_a_crash_ends_the_computation_or_is_tried_again(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    fragile = dask.delayed(die_once)(tmp_path)
    with pytest.raises(DaemonLostError):
        fragile.compute(scheduler=executor)
    (tmp_path / "died").unlink()
    assert fragile.compute(scheduler=executor.with_options(retries=1)) == "alive"


def ring_and_hang(path: Path) -> None:
    ring(path)
    time.sleep(3600)


def fail_when_it_has_rung(path: Path) -> None:
    path.read_bytes()
    raise KeyError(path.name)


def test_what_goes_on_after_an_error_can_be_cancelled(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    hanging = dask.delayed(ring_and_hang)(gate)
    failing = dask.delayed(fail_when_it_has_rung)(gate)
    with pytest.raises(KeyError, match="gate"):
        dask.compute(hanging, failing, scheduler=executor)
    executor.cancel_all()
    assert [executor.submit(abs, n).result() for n in (-1, -2)] == [1, 2]
