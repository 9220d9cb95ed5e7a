"""Runs a program on a terminal of its own, and reads what it shows there."""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS, COLUMNS = 24, 100


class Terminal:
    """What a program has written to its terminal.

    Args:
        descriptor: The other end of it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""

    def read_until(self, expected: str) -> None:
        """Wait until this has been shown; AssertionError if the program ends without it."""
        while expected not in self.text:
            assert self._read(), self.text

    def read_all(self) -> str:
        """Wait until the program has ended; return all that it has shown."""
        while self._read():
            pass
        return self.text

    def _read(self) -> bool:
        try:
            found = os.read(self._descriptor, 65536)
        except OSError:  # Linux: nobody has the terminal open any more
            return False
        self.text += found.decode(errors="replace")
        return bool(found)


@contextlib.contextmanager
def on_a_terminal(script: Path, *args: object) -> Iterator[Terminal]:
    """Run a script whose standard streams are a terminal; it has to end well by itself."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    command: list[Any] = [sys.executable, script, *map(str, args)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(COLUMNS)}
    try:
        run = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        try:
            terminal = Terminal(ours)
            yield terminal
            terminal.read_all()
            assert run.wait(60) == 0, terminal.text
        finally:
            run.kill()
            run.wait()
    finally:
        os.close(ours)
