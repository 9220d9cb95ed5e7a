"""Keeps what a daemon prints from ever blocking it.

Standard error is a pipe to the host. It does not wait: where the host has stalled and the pipe is
full, text is dropped, and the daemon goes on.
"""

import contextlib
import faulthandler
import io
import os
import sys


class _Lossy(io.RawIOBase):
    """The raw side of standard error: writes what fits, and drops the rest."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # any buffer
        with contextlib.suppress(BlockingIOError):
            os.write(self._fd, data)
        return len(data)


def prepare() -> None:
    """Set up standard error and the dump of Python frames at a crash."""
    os.set_blocking(2, False)
    # The handler of a crash writes to descriptor 2 by itself.
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Lossy(2)),
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
        line_buffering=True,
    )
    sys.__stderr__ = sys.stderr  # type: ignore[misc]  # what the interpreter itself falls back to
    faulthandler.enable(sys.stderr)


def flush() -> None:
    """Hand on what tasks have printed, whatever they have made of their streams."""
    for stream in (sys.stdout, sys.stderr):
        # A task may have closed or replaced it, or its reader may be gone.
        with contextlib.suppress(Exception):
            stream.flush()
