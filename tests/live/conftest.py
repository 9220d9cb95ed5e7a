"""What tests of several files here wait on, count with, and look after."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.mischief import Bell, Tally
from mirai_executor._payload.common import descriptors


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    bell = Bell(tmp_path)
    yield bell
    bell.close()


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally(tmp_path)


@pytest.fixture
def nothing_is_left_lent() -> Iterator[None]:
    yield
    gc.collect()  # queues and their locks refer to each other
    assert not descriptors._sharer._cache
    descriptors._sharer.stop()
