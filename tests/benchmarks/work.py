"""What the measured executors run. Importable by name in every worker."""

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def nothing(x: Any = None) -> Any:
    return x


def sleep_ms(milliseconds: float) -> float:
    """Take up time as a computation does: busily."""
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        pass
    return milliseconds


def rest(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def echo(array: Any) -> Any:
    return array


def first(array: Any) -> float:
    return float(array[0])


def pid(_: Any = None) -> int:
    return os.getpid()


def wait_at(gate: Path) -> bytes:
    return gate.read_bytes()


MODULUS = 1_000_003


@dataclass
class Parcel:
    """What tasks of a workflow hand on: an instance of a package's class."""

    number: int
    data: bytes
    moment: float
    identity: uuid.UUID

    @staticmethod
    def of(number: int, size: int = 100) -> "Parcel":
        """Make one that holds so many bytes."""
        return Parcel(number, bytes(size), time.time(), uuid.uuid4())


def pass_on(parcel: Parcel) -> Parcel:
    return Parcel.of(parcel.number + 1, len(parcel.data))


def merge(parcels: list[Parcel]) -> Parcel:
    return Parcel.of(sum(p.number for p in parcels) % MODULUS, len(parcels[0].data))


def factor(tile: Any) -> Any:
    import numpy as np

    return np.linalg.cholesky(tile)


def solve(factor: Any, tile: Any) -> Any:
    """Return ``tile`` times the inverse of ``factor``'s transpose."""
    import numpy as np

    return np.linalg.solve(factor, tile.T).T


def update(tile: Any, left: Any, right: Any) -> Any:
    return tile - left @ right.T
