"""Runs a daemon as a task of an engine: a process beside the engine's worker, and bound to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Self

from mirai_executor.errors import LaunchError

from ._daemon import environment_for

if TYPE_CHECKING:
    from ._daemon import DaemonCommand

_LAST_WORDS = 4096  # bytes
_TO_END = 5.0  # seconds for a daemon whose task was cancelled
# Becomes the daemon. The variable of its secret comes in the first line of its input: the child
# would show it, as long as it lives, if this were started with it. The child reads what the worker
# has open: a line says that the daemon has ended; the end of the pipe without one, that the worker
# is gone, and takes the daemon along.
_BOUND = """\
exec 3<&0 </dev/null
[ -z "$1" ] || { IFS= read -r "$1" <&3 && export "$1"; } || exit
shift
{ read -r line <&3 || kill "$$"; } >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"""


@dataclass(frozen=True)
class DaemonTask:
    """What a worker has to know: the secret is no part of its repr, which workers log.

    Args:
        words: The daemon's command line behind the interpreter.
        environment: What the daemon must find in its environment.
        python: The interpreter, or the words that run it; by default, that of the worker.
        secret: The pair of name and value that nobody else is to find there, if there is one.
    """

    words: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = field(repr=False)
    python: tuple[str, ...] = ()
    secret: tuple[str, str] = field(default=("", ""), repr=False)

    @classmethod
    def of(cls, daemon: DaemonCommand, python: tuple[str, ...]) -> Self:
        """Return what runs a daemon."""
        name, environment = daemon.apart()
        return cls(daemon.argv(()), tuple(environment.items()), python, (name, daemon.secret))


def run(task: DaemonTask) -> None:
    """Run a daemon until it ends; if this is interrupted, it ends, too.

    Raises:
        LaunchError: It could not be started, or has failed; with its last words.
    """
    words = (*(task.python or (sys.executable,)), *task.words)
    name, secret = task.secret
    process = subprocess.Popen(
        ("/bin/sh", "-c", _BOUND, "mirai-daemon", name, *words),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment_for(dict(task.environment)),
        start_new_session=True,  # a terminal's Ctrl-C is the engine's business
        bufsize=0,
    )
    said = bytearray()
    with _passing_on(process, said, f"{secret}\n".encode() if name else b""):
        code = process.wait()
    if code != 0:
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit status {code}"
        text = said.decode("utf-8", "replace").strip()
        last = f"; last output: {text.splitlines()[-1]}" if text else ""
        raise LaunchError(f"a daemon {how}{last}", command=words, exitcode=code, stderr=text)


@contextlib.contextmanager
def _passing_on(process: subprocess.Popen[bytes], said: bytearray, first: bytes) -> Iterator[None]:
    """Copy what it writes to standard error to this process's own, and keep the end of it.

    Its standard input begins with ``first``, and stays open.
    """
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stderr is not None  # noqa: S101 - the same
    thread = threading.Thread(target=_copy, args=(process.stderr, said), daemon=True)
    thread.start()
    try:
        with contextlib.suppress(OSError):  # it has ended already
            process.stdin.write(first)
        yield
        with contextlib.suppress(OSError):
            process.stdin.write(b"\n")
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_TO_END)
        # What a task has left running may hold the stream open for ever.
        thread.join(1.0)


def _copy(stream: IO[bytes], said: bytearray) -> None:
    with stream:
        while piece := os.read(stream.fileno(), 65536):
            said += piece
            del said[:-_LAST_WORDS]
            with contextlib.suppress(OSError):
                os.write(2, piece)
