"""What the measured executors run. Importable by name in every worker."""

import os
import time
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
