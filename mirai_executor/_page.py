"""A page of memory that a host and one local daemon share, for what cannot wait for a frame.

The daemon writes which task it is about to begin, *before* it begins: when it dies, the host
knows which tasks may have run. The host writes which task has to stop, before it sends the signal:
the daemon's handler compares it with the task that it runs, so that a late signal stops no other.
Each cell is an aligned 8-byte word with one writer, so no lock is needed.
"""

import mmap
import os
import signal
import sys
import tempfile
from typing import Self

# By this signal the host asks a daemon to look at the page: a queued one that nothing else uses,
# or, on systems without those, one that little else uses.
STOP_SIGNAL: int = signal.SIGRTMIN + 7 if sys.platform == "linux" else signal.SIGUSR2

_SIZE = 4096
_BEGUN, _STOP = 0, 1  # cells


class Page:
    """The shared page; task ids are positive, 0 stands for none.

    Args:
        fd: A descriptor of the page; it is closed once the page is mapped.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE)
        os.close(fd)
        self._cells = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls) -> tuple[Self, int]:
        """Return a new page, and a descriptor to hand to the daemon (the caller closes it)."""
        if sys.platform == "linux":
            fd = os.memfd_create("mirai-page", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _SIZE)
        return cls(os.dup(fd)), fd

    @property
    def begun(self) -> int:
        """The task that was begun last; written by the daemon."""
        return self._cells[_BEGUN]

    @begun.setter
    def begun(self, task: int) -> None:
        self._cells[_BEGUN] = task

    @property
    def stop(self) -> int:
        """The task that has to stop; written by the host."""
        return self._cells[_STOP]

    @stop.setter
    def stop(self, task: int) -> None:
        self._cells[_STOP] = task

    def close(self) -> None:
        """Unmap the page."""
        self._cells.release()
        self._map.close()
