"""Tasks that misbehave, and the means to watch them. Daemons import this module by name."""

import asyncio
import contextlib
import ctypes
import decimal
import importlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from mirai_executor import MiraiExecutor

SOON = 20.0  # seconds that no passing test waits, however loaded the machine is


@contextlib.contextmanager
def running(daemons: int = 1, **options: Any) -> Iterator[MiraiExecutor]:
    """Make an executor whose daemons are connected; a test that fails does not wait for it."""
    executor = MiraiExecutor(daemons, **options)
    try:
        executor.wait_ready(SOON)
        yield executor
    except BaseException:
        executor.kill_workers()
        raise
    finally:
        executor.shutdown()


class Bell:
    """A FIFO on which tasks report, and on which the test waits."""

    def __init__(self, folder: Path, name: str = "bell") -> None:
        self.path = folder / name
        os.mkfifo(self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)  # open for writing: never at EOF

    def wait(self, seconds: float = SOON) -> str:
        """Return the next report, or fail."""
        text = b""
        deadline = time.monotonic() + seconds
        while not text.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._fd], [], [], left)[0]:
                raise TimeoutError(f"nobody rang {self.path.name}")
            text += os.read(self._fd, 1)
        return text.decode().rstrip("\n")

    def close(self) -> None:
        os.close(self._fd)


class Tally:
    """A file to which each execution appends its name, in one write."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tally"
        self.path.touch()

    def counts(self) -> Counter[str]:
        return Counter(self.path.read_text().split())


def ring(path: Path, text: object = "rang") -> None:
    """Write a line to a FIFO or a file, at once."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def own_pid() -> int:
    return os.getpid()


def answer() -> int:
    return 42


def give(value: Any) -> Any:
    return value


def count_and_return(tally: Path, name: str, value: Any = None) -> Any:
    """Leave a mark, so that a second execution would be seen."""
    ring(tally, name)
    return value


def count_and_spin(tally: Path, name: str, seconds: float) -> str:
    """As the above, and take a little time."""
    ring(tally, name)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return name


def count_spin_and_return(tally: Path, name: str, seconds: float, size: int) -> tuple[str, bytes]:
    """As the above, with a result whose content is known."""
    count_and_spin(tally, name, seconds)
    return content_of(name, size)


def content_of(name: str, size: int) -> tuple[str, bytes]:
    pattern = name.encode() + b"."
    return name, (pattern * (size // len(pattern) + 1))[:size]


def ring_and(bell: Path, what: Any, *args: Any) -> Any:
    """Report that the task runs, then do something else."""
    ring(bell, os.getpid())
    return what(*args)


# Ways to die, and to fail


def exit_python() -> NoReturn:
    sys.exit("enough")


def exit_at_once() -> NoReturn:
    os._exit(77)


def exit_in_c() -> None:
    ctypes.CDLL(None).exit(5)


def crash() -> None:
    ctypes.string_at(0)


def fail() -> NoReturn:
    raise ArithmeticError("on purpose")


def die_by(signum: int) -> int:
    os.kill(os.getpid(), signum)
    return signum


def close_descriptors() -> str:
    os.closerange(0, 4096)
    return "closed"


class AtUnpickle:
    """Does something while it is unpickled, in daemons or at the host."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return call, (self.what,)


class AtPickle:
    """Does something while it is pickled."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        self.what()
        return AtPickle, (self.what,)


def call(what: Any) -> Any:
    return what()


def return_at_pickle(what: Any) -> AtPickle:
    return AtPickle(what)


def return_at_unpickle(what: Any) -> AtUnpickle:
    return AtUnpickle(what)


# Ways not to end


def sleep_long() -> None:
    time.sleep(600)  # ended from outside


def loop_for_ever() -> None:
    while True:
        pass


def hold_the_gil() -> None:
    ctypes.PyDLL(None).usleep(600_000_000)


def wait_for_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def wait_for_a_child() -> None:
    subprocess.run(["sleep", "600"], check=True)  # noqa: S607 - any sleep


def read_a_pipe() -> bytes:
    out, into = os.pipe()
    try:
        return os.read(out, 1)
    finally:
        os.close(out)
        os.close(into)


def run_an_event_loop() -> None:
    asyncio.run(asyncio.sleep(600))


def raise_a_huge_power() -> None:
    decimal.getcontext().prec = decimal.MAX_PREC
    decimal.getcontext().Emax = decimal.MAX_EMAX
    _ = decimal.Decimal(7) ** (10**9)


def match_for_ever() -> None:
    re.match(r"(a?){60}a{60}$", "a" * 59)


def ignore_signals_and_sleep(bell: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    ring(bell, os.getpid())
    time.sleep(600)


def import_from(folder: Path, module: str) -> Any:
    sys.path.insert(0, str(folder))
    return importlib.import_module(module)


def spin_and_return(seconds: float, value: Any) -> Any:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return value


def ring_wait_and_count(bell: Path, gate: Path, tally: Path, name: str) -> None:
    ring(bell)
    gate.read_bytes()
    ring(tally, name)


def wait_for_end(pidfd: int) -> None:
    """At the host: wait until a process has ended."""
    if not select.select([pidfd], [], [], SOON)[0]:
        raise TimeoutError("the process goes on")


def swallow_everything(bell: Path) -> None:
    ring(bell, os.getpid())
    while True:
        try:
            time.sleep(600)
        except BaseException:  # noqa: BLE001, PERF203 - the mischief
            ring(bell, "swallowed")


def swallow_once(bell: Path) -> str:
    ring(bell, os.getpid())
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(600)
    return "went on"


def block_until_open(gate: Path) -> bytes:
    return gate.read_bytes()


def fork_and(parent: Any, child_bell: Path) -> Any:
    """Fork; the child reports its pid and stays until it is killed."""
    pid = os.fork()
    if pid == 0:
        ring(child_bell, os.getpid())
        signal.pause()
        os._exit(0)
    return parent()


def fork_and_return(bell: Path) -> int:
    """Fork; the child returns from the task, too."""
    me = os.getpid()
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    ring(bell, "parent" if os.getpid() == me else "child")
    return os.getpid()


def leave_a_thread_and(what: Any) -> Any:
    """Start a thread that nobody joins and that never ends."""
    threading.Thread(target=signal.sigwait, args=({signal.SIGUSR1},)).start()
    return what()
