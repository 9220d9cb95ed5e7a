"""Live: how long a map waits to hear how long its elements take, and what it does then."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live import mischief
from live.mischief import SOON, Bell
from mirai_executor import MiraiExecutor
from mirai_executor._host import have_begun
from mirai_executor._maps import _chunks

FOREVER = 1000.0
COUNT = 64
PROBES = [1, 1, 1]


@pytest.fixture
def executor() -> Iterator[MiraiExecutor]:
    with mischief.running(2) as executor:
        yield executor


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Bell]:
    """What elements wait at, to be opened by the test."""
    gate = Bell(tmp_path, "gate")
    yield gate
    gate.close()


def open_gate(gate: Bell) -> None:
    os.write(gate._fd, b"!" * len(PROBES))


def pass_gate(gate: Path) -> int:
    fd = os.open(gate, os.O_RDONLY)
    try:
        return len(os.read(fd, 1))
    finally:
        os.close(fd)


class Importing:
    """Takes as long to arrive as the gate is closed, as what is imported first does."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def __reduce__(self) -> Any:
        return pass_gate, (self.gate,)


def pass_and_ring(gate: Path | None, bell: Path) -> int:
    if gate is None:
        return 1
    mischief.ring(bell)
    return pass_gate(gate)


def test_a_map_waits_longer_while_daemons_import_what_it_calls(
    executor: MiraiExecutor, gate: Bell, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def look_and_open(host: Any, elements: Any) -> bool:
        seen.append(have_begun(host, elements))
        open_gate(gate)
        return seen[-1]

    monkeypatch.setattr(_chunks, "have_begun", look_and_open)
    monkeypatch.setattr(_chunks, "_PATIENCE", 0.0)
    monkeypatch.setattr(_chunks, "_PATIENCE_FOR_IMPORTS", SOON)
    xs = [*(Importing(gate.path) for _ in PROBES), *[1] * COUNT]
    assert executor.mirai_map(xs, abs).collect() == [1] * len(xs)
    assert seen == [False]
    assert sizes[:3] == PROBES
    assert max(sizes) > 1


def test_a_map_does_not_wait_for_elements_that_have_begun_and_take_long(
    executor: MiraiExecutor,
    gate: Bell,
    bell: Bell,
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wait_and_look(host: Any, elements: Any) -> bool:
        bell.wait()
        return have_begun(host, elements)

    monkeypatch.setattr(_chunks, "have_begun", wait_and_look)
    monkeypatch.setattr(_chunks, "_PATIENCE", 0.0)
    monkeypatch.setattr(_chunks, "_PATIENCE_FOR_IMPORTS", FOREVER)
    xs = [*[gate.path] * len(PROBES), *[None] * COUNT]
    ends = executor.mirai_map(xs, pass_and_ring, args=(bell.path,))
    assert (ends.done(), sizes) == (False, PROBES)
    open_gate(gate)
    assert ends.collect() == [1] * len(xs)


def test_a_coroutine_is_not_held_up_by_what_daemons_import(
    executor: MiraiExecutor, gate: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_chunks, "_PATIENCE", 0.0)
    monkeypatch.setattr(_chunks, "_PATIENCE_FOR_IMPORTS", FOREVER)

    async def start() -> list[int]:
        ends = executor.mirai_map([*(Importing(gate.path) for _ in PROBES), *[1] * COUNT], abs)
        open_gate(gate)
        found: list[int] = await ends
        return found

    assert mischief.run(start()) == [1] * (COUNT + len(PROBES))
