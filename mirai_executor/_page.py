"""A page of memory that a host and one local daemon share, for what cannot wait for a frame.

The host writes which tasks have to stop, before it sends the signal: the daemon's handler looks
for the task that it runs, so that a late signal stops no other. The cells are aligned 8-byte
words with one writer, so no lock is needed.
"""

import mmap
import os
import signal
import sys

from mirai_executor._typing import Self

# By this signal the host asks a daemon to look at the page: a queued one that nothing else uses,
# or, on systems without those, one that little else uses.
STOP_SIGNAL: int = signal.SIGRTMIN + 7 if sys.platform == "linux" else signal.SIGUSR2

_SIZE = 4096
_COUNT, _FIRST = 0, 1  # cells: how many tasks were ever named, and the last of them, in a ring
_RING = 256  # more than a daemon ever holds


class Page:
    """The shared page; task ids are positive, 0 stands for none.

    Args:
        fd: A descriptor of the page; it is closed once the page is mapped.
    """

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, _SIZE)
        os.close(fd)
        self._cells = memoryview(self._map).cast("Q")
        self._count = 0  # when the daemon last looked
        self._stopped: frozenset[int] = frozenset()

    @classmethod
    def create(cls) -> tuple[Self, int]:
        """Return a new page, and a descriptor to hand to the daemon (the caller closes it)."""
        from mirai_executor._nameless import create  # daemons do without it

        fd = create("mirai-page", bytes(_SIZE))
        try:
            return cls(os.dup(fd)), fd
        except BaseException:
            os.close(fd)
            raise

    def stop(self, task: int) -> None:
        """Name a task that has to stop; for the host."""
        count = self._cells[_COUNT]
        self._cells[_FIRST + count % _RING] = task
        self._cells[_COUNT] = count + 1

    def must_stop(self, task: int) -> bool:
        """Tell whether a task has to stop; for the daemon."""
        count = self._cells[_COUNT]
        if count != self._count:
            self._stopped = frozenset(self._cells[_FIRST : _FIRST + min(count, _RING)])
            self._count = count
        return task in self._stopped

    def close(self) -> None:
        """Unmap the page."""
        self._cells.release()
        self._map.close()
