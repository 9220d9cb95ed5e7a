"""Keeps the large buffers of tasks, from their submission until the tasks have ended."""

from collections.abc import Sequence

from mirai_executor import _arena
from mirai_executor._arena import Buffer, Exchange

_SHARE = 4  # one part of so many of this machine's memory may be filled, or be kept warm
_ARENAS = 32  # each costs two descriptors here, and one at each daemon


class Store:
    """The memory that a host fills, for all its daemons. Any thread."""

    def __init__(self) -> None:
        self._pool: _arena.Pool | None = None
        if _arena.available():
            self._pool = _arena.Pool(limit=_arena.physical_memory() // _SHARE, count=_ARENAS)

    @property
    def is_shared(self) -> bool:
        """Whether large buffers are better kept out of payloads."""
        return self._pool is not None

    def keep(self, buffers: Sequence[memoryview], retries: int) -> tuple[Buffer, ...]:
        """Copy the large buffers of a task.

        What is to be sent a second time must not lie where the first daemon may have written to
        it, so the buffers of tasks that may be retried stay in this process, and each daemon
        gets a copy of them.
        """
        places = self._pool.place(buffers) if self._pool is not None and not retries else None
        return tuple(map(bytes, buffers)) if places is None else places

    def let_go(self, buffers: Sequence[Buffer]) -> None:
        """Give back what :meth:`keep` has returned: their task has ended."""
        if self._pool is not None:
            self._pool.release({buffer[0] for buffer in buffers if isinstance(buffer, tuple)})

    def exchange(self) -> tuple[Exchange, int] | None:
        """Return an exchange with a new daemon, and the descriptor that the daemon inherits."""
        if self._pool is None:
            return None
        channel, fd = _arena.Channel.create()
        return Exchange(self._pool, channel), fd

    def trim(self) -> None:
        """Give what is free back to the system."""
        if self._pool is not None:
            self._pool.trim()

    def close(self) -> None:
        """Let go of everything; in a forked child, of what is the parent's."""
        if self._pool is not None:
            self._pool.close()
