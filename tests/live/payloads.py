"""A host that sends something large and has it sent back, and tells how much memory that took.

As a program: ``payloads.py URL KIND BYTES``, where the URL may be "local", and the kind is "array"
or "nested", which is a list of ``bytes``. It prints, for each way, by how many times its size the
memory of host and daemon has grown at its peak.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mirai_executor import MiraiExecutor


def memory(name: str) -> int:
    """Return a figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> int:
    """Measure the peak from now on; return what there is now."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def peak() -> int:
    return memory("VmHWM")


def make(kind: str, size: int) -> Any:
    """Return an array of zeros that takes no memory yet, but for three bytes; or nested bytes."""
    if kind == "nested":
        pieces = [bytes([n]) * (1 << 20) for n in range((size - 3) >> 20)]
        return [b"\x01", pieces, b"\x02\x03", b"\x00" * (size - 3 - (len(pieces) << 20))]
    array = np.zeros(size, np.uint8)
    array[0], array[size // 2], array[-1] = 1, 2, 3
    return array


def look(value: Any) -> list[int]:
    if isinstance(value, list):
        first, pieces, last, rest = value
        assert all(piece == bytes([n]) * (1 << 20) for n, piece in enumerate(pieces))
        return [len(first) + (len(pieces) << 20) + len(last) + len(rest), *first, *last]
    return [value.size, int(value[0]), int(value[value.size // 2]), int(value[-1])]


def measured(executor: MiraiExecutor, size: int, step: Callable[[], list[int]]) -> list[float]:
    """Return by how many times the size host and daemon have grown at their peaks."""
    before = [forget_peak(), executor.submit(forget_peak).result()]
    seen = step()
    assert seen == [size, 1, 2, 3], seen
    after = [peak(), executor.submit(peak).result()]
    return [(now - then) / size for then, now in zip(before, after, strict=True)]


def main(url: str, kind: str, size: int) -> None:
    if url == "local":
        executor = MiraiExecutor(1)
    else:
        executor = MiraiExecutor(url=url)
        executor.launch_local(1)
    with executor:
        # What it takes to work with arrays at all.
        executor.submit(make, "array", 1 << 20).result()
        given = [make(kind, size)]
        there = measured(executor, size, lambda: executor.submit(look, given.pop()).result())
        back = measured(executor, size, lambda: look(executor.submit(make, kind, size).result()))
    print(json.dumps({"there": there, "back": back}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
