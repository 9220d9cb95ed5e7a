"""Keeps what a daemon prints from ever blocking it.

Standard error is a pipe to the host. Where the host has stalled and the pipe stays full, text is
dropped, and the daemon goes on. The descriptor itself does block, as a task's children expect of
theirs: with O_NONBLOCK, which they would share, one that wrote 8 MB failed, though the host read
all the time.
"""

import contextlib
import faulthandler
import io
import os
import select
import sys

_PIECE = select.PIPE_BUF  # bytes that do not block when written to a pipe that can be written to
_PATIENCE = 500  # milliseconds for a full pipe to be read


class _Lossy(io.RawIOBase):
    """The raw side of standard error: writes what fits, and drops the rest."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._has_stalled = False

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # any buffer
        pieces = memoryview(data).cast("B")
        with contextlib.suppress(BlockingIOError):  # a task has changed the descriptor
            while pieces and self._can_write():
                pieces = pieces[os.write(self._fd, pieces[:_PIECE]) :]
        return len(data)

    def _can_write(self) -> bool:
        # Once it has stalled, nobody waits again until it is read.
        self._has_stalled = not self._poll.poll(0 if self._has_stalled else _PATIENCE)
        return not self._has_stalled


def prepare() -> None:
    """Set up standard error and the dump of Python frames at a crash."""
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
    # A task has closed or replaced one, or its reader is gone. To suppress that, or to loop over
    # the two, takes longer than to flush.
    try:  # noqa: SIM105
        sys.stdout.flush()
    except Exception:  # noqa: S110
        pass
    try:  # noqa: SIM105
        sys.stderr.flush()
    except Exception:  # noqa: S110
        pass
