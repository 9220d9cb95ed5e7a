"""What tests of several files here run tasks on, wait on, count with, and look after."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirai_executor import MiraiExecutor
from mirai_executor._payload.common import descriptors


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of a module at each of its ``PLACES``, by the fixture ``executor``."""
    places = getattr(metafunc.module, "PLACES", ())
    if places and "executor" in metafunc.fixturenames:
        metafunc.parametrize("executor", places, indirect=True, scope="module")


@pytest.fixture(scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[MiraiExecutor]:
    """An executor of one daemon, here or elsewhere, or ``inline``, of none."""
    if request.param == "elsewhere":
        executor = MiraiExecutor(url="tcp://127.0.0.1:0")
        executor.launch_local(1)
    else:
        executor = MiraiExecutor(1, mode="inline" if request.param == "inline" else "daemons")
    with executor:
        executor.wait_ready()
        executor.submit(len, bytes(1 << 20)).result()  # its channel is a descriptor
        yield executor


@pytest.fixture
def daemon(executor: MiraiExecutor) -> MiraiExecutor:
    """The same, if its tasks run on a daemon."""
    if executor._host.is_inline:
        pytest.skip("is about daemons")
    return executor


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A pipe at which tasks wait until somebody writes to it."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
def nothing_is_left_lent() -> Iterator[None]:
    yield
    gc.collect()  # queues and their locks refer to each other
    assert not descriptors._sharer._cache
    descriptors._sharer.stop()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many elements each chunk of a map has that is sent."""
    from mirai_executor._maps import _chunks  # few tests need it

    sent: list[int] = []
    send = _chunks.ChunkSender._send_chunk

    def note_and_send(self: Any, places: Any, futures: Any) -> Any:
        sent.append(len(places))
        return send(self, places, futures)

    monkeypatch.setattr(_chunks.ChunkSender, "_send_chunk", note_and_send)
    return sent
