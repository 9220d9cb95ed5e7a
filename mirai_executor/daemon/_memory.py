"""Owns the memory that this daemon shares with its host, if the two can share any."""

import contextlib
import gc
import os
from collections.abc import Sequence

from mirai_executor import _arena
from mirai_executor._arena import Buffer

_KEEP_WARM = 1.0  # seconds without a large buffer until free memory goes back to the system
_SELDOM = 3600.0  # seconds at most between two looks at what is still used
_SHARE = 8  # one part of so many of this machine's memory may be filled, or be kept warm
_ARENAS = 16  # each costs two descriptors here, and one at the host


class Memory:
    """Large buffers that come from the host, and go to it.

    Args:
        letterbox: The descriptor of the host's letterbox, if the host can share memory.
        key: What this daemon leaves its channel under.
    """

    def __init__(self, key: int, letterbox: int = -1) -> None:
        self._exchange: _arena.LateExchange | None = None
        self._pool: _arena.Pool | None = None
        self.is_shared = False  # by the host
        self.patience: float | None = None  # seconds until trim() has something to do
        if letterbox < 0:
            return
        if not _arena.available():
            os.close(letterbox)  # empty, so that the host sends its buffers in frames
            return
        if (fd := _arena.leave_channel(letterbox, key)) < 0:
            return
        self._exchange = _arena.LateExchange(
            self._new_pool, lambda: _arena.Channel(fd), lambda: os.close(fd)
        )
        self.is_shared = True

    def _new_pool(self) -> "_arena.Pool":
        limit = _arena.physical_memory() // _SHARE
        self._pool = pool = _arena.Pool(limit=limit, count=_ARENAS)
        return pool

    def views(self, buffers: Sequence[Buffer]) -> Sequence[memoryview | bytearray]:
        """Return the large buffers of a task; to be called for each task that comes.

        Raises:
            OSError: This process has no descriptor free.
        """
        if self._exchange is None:
            return _arena.writable(buffers)
        self.patience = _KEEP_WARM
        return self._exchange.views(buffers)

    def skip(self, buffers: Sequence[Buffer]) -> None:
        """Release the buffers of a task that runs elsewhere, or not at all."""
        if buffers:
            # What was shared may be gone: nobody waits for this task.
            with contextlib.suppress(_arena.ArenaError, OSError):
                self.views(buffers)

    def lend(self, buffers: "Sequence[memoryview | list[bytes]]") -> tuple[Buffer, ...]:
        """Copy large buffers to where the host finds them; return what a frame says of them."""
        if self._exchange is None:
            return tuple(map(_arena.whole, buffers))
        self.patience = _KEEP_WARM
        return self._exchange.lend(buffers)

    def release(self, arenas: Sequence[int]) -> None:
        """Take back what the host has released, and let go of what it has let go of."""
        if self._exchange is not None:
            self.patience = _KEEP_WARM
            self._exchange.release(arenas)

    def take_released(self) -> tuple[int, ...]:
        """Return what is not used here any more. A handler of signals may call it."""
        if self._exchange is None or self.patience is None:  # then nothing is borrowed
            return ()
        return self._exchange.take_released()

    def trim(self) -> tuple[int, ...] | None:
        """Give what is free back to the system; ``patience`` has passed without any work.

        Returns:
            What is not used here any more; None if the host has nothing to be told.
        """
        if self._exchange is None or self.patience is None:
            return None
        released = self._exchange.take_released()
        if self._exchange.is_borrowing and gc.isenabled():
            gc.collect()  # the frames of an error are often cycles; and there is nothing to do
            released += self._exchange.take_released()
        if self._pool is not None:
            self._pool.trim()
        # Nothing tells when a view dies that a task has left somewhere; ever more seldom is fine.
        borrowing = self._exchange.is_borrowing
        self.patience = min(2 * self.patience, _SELDOM) if borrowing else None
        return released if self._exchange.tell() or released else None

    def close(self) -> None:
        """Let go of everything."""
        if self._exchange is not None:
            self._exchange.close()
        if self._pool is not None:
            self._pool.close()
