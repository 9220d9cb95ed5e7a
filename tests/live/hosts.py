"""Runs a script as a host of its own, and tells what it said and what it left behind."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import elsewhere
import mirai_executor

PATIENCE = 40.0  # seconds that no passing test waits, however loaded the machine is
GONE = 5.0  # seconds in which a host's daemons, and all that they have started, are gone
PACKAGE = Path(mirai_executor.__file__).parents[1]
TESTS = Path(elsewhere.__file__).parent

# What every script begins with.
PRELUDE = """
import collections, ctypes, itertools, os, signal, sys, threading, time, warnings
from concurrent.futures import wait
from pathlib import Path
from mirai_executor import MiraiExecutor, ForkedExecutorError

# Since 3.12 Python itself warns of every fork beside other threads, NNG's included.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def say(*words):
    # One write, to the descriptor: threads and processes share it.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def hold_the_gil():
    # Forever in C: it neither gives the GIL away nor looks for signals.
    collections.deque(itertools.repeat(0), maxlen=0)

def wait_for_ever():
    threading.Event().wait()

def swallow_interrupts():
    while True:
        try:
            threading.Event().wait()
        except BaseException:
            pass

def say_and(what):
    say("runs")
    what()
"""


@dataclass(frozen=True)
class Ended:
    """How a host ended: exit status (minus the signal), what it wrote, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def tracebacks(self) -> int:
        return len(re.findall(r"^Traceback", self.err, re.MULTILINE))


class Script:
    """A running host. Whatever it starts carries a mark of its own in its environment.

    Args:
        code: What it runs.
        prelude: What it runs before that.
        where: The command that runs it, such as ``ip netns exec NAME``; else it runs right here.
        **options: Those of Popen.
    """

    def __init__(
        self, code: str, *, prelude: str = PRELUDE, where: Sequence[str] = (), **options: object
    ) -> None:
        self._mark = f"MIRAI_TEST_HOST={uuid.uuid4().hex}"
        name, value = self._mark.split("=")
        environment = dict(os.environ)
        environment.pop("PYTHONUNBUFFERED", None)  # else the parts of a print come one by one
        first = [str(PACKAGE), str(TESTS)] if elsewhere.is_chosen() else [str(PACKAGE)]
        python_path = os.pathsep.join([*first, *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": {**environment, name: value, "PYTHONPATH": python_path},
            **options,
        }
        program = prelude + textwrap.dedent(code)
        if elsewhere.is_chosen():
            program = elsewhere.FOR_SCRIPTS + program
        # Since 3.12 Python itself warns of every fork of a process with threads.
        forks = "ignore:This process:DeprecationWarning"
        warnings = ("-W", "always::ResourceWarning", "-W", forks)
        command = [*where, sys.executable, *warnings, "-c", program]
        self.process: subprocess.Popen[bytes] = subprocess.Popen(command, **settings)  # type: ignore[call-overload]  # options of Popen
        self._begin = time.monotonic()

    def line(self) -> str:
        """Return the next line that it, or a daemon of its, writes to standard output."""
        assert self.process.stdout is not None
        text = b""
        while not text.endswith(b"\n"):  # byte by byte: nothing is read ahead of what is used
            if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
                raise TimeoutError(f"the script has said {text!r}, and no more")
            if not (byte := os.read(self.process.stdout.fileno(), 1)):
                raise EOFError(f"the script ended after {text!r}: {self.end().err}")
            text += byte
        return text.decode().rstrip("\n")

    def go_on(self) -> None:
        """Let it go on, if it waits for a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go on\n")
        self.process.stdin.flush()

    def is_quiet_for(self, seconds: float) -> bool:
        """Wait for its next word; True if there was none in time."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], seconds)[0]

    def kill(self, signum: int = signal.SIGKILL) -> None:
        self._begin = time.monotonic()
        self.process.send_signal(signum)

    def end(self) -> Ended:
        """Wait for its end, and for that of its output; the clock runs since :meth:`kill`."""
        out, err = self.process.communicate(timeout=PATIENCE)
        seconds = time.monotonic() - self._begin
        return Ended(
            self.process.returncode, (out or b"").decode(), (err or b"").decode(), seconds
        )

    def processes(self) -> list[int]:
        """Return all that carry its mark, whoever is their parent by now."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if self._mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def ends(self, pids: Iterable[int], seconds: float) -> bool:
        """Wait for the end of these processes; False if one goes on."""
        deadline = time.monotonic() + seconds
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                if not _ends(pid, deadline - time.monotonic()):
                    return False
        return True

    def takes_daemons_along(self) -> bool:
        """Kill it once it has said which its daemons are; False if one of them goes on."""
        daemons = [int(word) for word in self.line().split()]
        self.kill()
        return self.ends(daemons, GONE)

    def leaves_nothing(self, seconds: float = GONE) -> bool:
        """Wait for the end of all that it has started; False if something stays."""
        deadline = time.monotonic() + seconds
        while pids := self.processes():
            if not self.ends(pids, deadline - time.monotonic()):
                return False
        return True


def _ends(pid: int, seconds: float) -> bool:
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], max(0.0, seconds))[0])
    finally:
        os.close(fd)


@contextlib.contextmanager
def script(code: str, **options: object) -> Iterator[Script]:
    """Start a host; at the end, all of it is killed, whatever the test has found."""
    host = Script(code, **options)  # type: ignore[arg-type]  # options of Popen
    try:
        yield host
    finally:
        for pid in host.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with host.process:
            pass


def run(code: str, **options: object) -> Ended:
    """Run a host to its end; it must leave nothing behind."""
    with script(code, **options) as host:
        ended = host.end()
        assert host.leaves_nothing(), (ended, host.processes())
        return ended


def printed_by(
    folder: Path,
    text: str,
    *arguments: str,
    name: str = "program.py",
    patience: float = PATIENCE,
) -> str:
    """Run a program as a process of its own; return what it has printed."""
    program = folder / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, *(arguments or [str(program)])],
        capture_output=True,
        text=True,
        timeout=patience,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
