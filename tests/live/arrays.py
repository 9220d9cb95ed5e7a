"""What tasks of ``test_arrays`` do with large buffers, at a daemon."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def echo(value: Any) -> Any:
    return value


def make(size: int) -> Any:
    """Return an array of so many bytes."""
    return np.full(size, 7, dtype=np.uint8)


def fill_and_tell(array: Any, value: int) -> tuple[int, bool]:
    """Write to the argument; tell what it was, and whether that was possible."""
    before = int(array.flat[0])
    try:
        array[...] = value
    except ValueError:
        return before, False
    return before, True


def wait_and_sum(gate: Path, array: Any) -> int:
    gate.read_bytes()
    return int(array.sum())


def total(array: Any) -> int:
    return int(array.sum(dtype=np.int64))


def total_of(arrays: dict[str, Any], name: str) -> int:
    return total(arrays[name])


def total_of_both(one: Any, other: Any) -> int:
    return total(one) + total(other)


KEPT: list[Any] = []


def keep(array: Any) -> Any:
    """Return an array that the daemon keeps, and goes on to write to."""
    KEPT.append(array)
    return array


def overwrite_kept(value: int) -> int:
    for array in KEPT:
        array[...] = value
    return len(KEPT)


def spoil_and_die_once(flag: Path, array: Any) -> int:
    """Write to the argument and die, the first time; then tell what it is."""
    told = int(array.sum())
    array[...] = 99
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return told
    os._exit(1)


class ArrayError(Exception):
    def __init__(self, array: Any) -> None:
        super().__init__("it has an array")
        self.array = array


def raise_with(array: Any) -> None:
    raise ArrayError(array)


class Box:
    """Memory without numpy: its bytes travel as a buffer of their own."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Box, (pickle.PickleBuffer(self.data),)


def flip(box: Box) -> Box:
    """Change the first byte of what came, and send it back."""
    view = memoryview(box.data)
    view[0] = 255 - view[0]
    return box


def kill_during(what: Callable[[], Any], pid: int) -> Any:
    os.kill(pid, 9)
    return what()


def fork_child_that_writes(array: Any) -> Any:
    """Return an array that a child, which lives on, writes to all the time."""
    if os.fork() == 0:
        while True:
            array[:10] = array[:10] + 1
    return array
