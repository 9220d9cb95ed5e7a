"""What the contract tests send to their workers. Every kind of worker can import it by name."""

import os
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

remembered: object = None


class TroubleError(Exception):
    """An exception with a word of its own, as users write them."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code


class LockedUp:
    """Cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def multiply(x: int, y: int) -> int:
    return x * y


def capture(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def fail(reason: str, code: int) -> NoReturn:
    raise TroubleError(reason, code)


def fail_at(bad: int, number: int) -> int:
    if number == bad:
        raise TroubleError("bad number", number)
    return number


def leave(code: int) -> NoReturn:
    raise SystemExit(code)


def crash() -> NoReturn:
    os._exit(11)


def hold(started: Path, gate: Path) -> bytes:
    """Say on the FIFO ``started`` that this task runs, then wait until ``gate`` is written."""
    started.write_bytes(b"started")
    return gate.read_bytes()


def step(folder: Path, number: int) -> bytes:
    """Return at once the first time, hold the second time, then leave a file."""
    if number == 0:
        return b"first"
    if number == 1:
        return hold(folder / "started", folder / "gate")
    touch(folder / f"ran-{number}")
    return b""


def read(path: Path) -> bytes:
    return path.read_bytes()


def touch(path: Path) -> None:
    path.touch()


def sleep_and_return(seconds: float, value: int) -> int:
    time.sleep(seconds)  # the duration itself is what the callers test
    return value


def make_unpicklable() -> LockedUp:
    return LockedUp()


def remember(value: object) -> None:
    global remembered
    remembered = value


def recall() -> object:
    return remembered


def worker() -> int:
    return os.getpid()
