"""Keeps the large buffers of tasks, from their submission until the tasks have ended."""

from collections.abc import Iterator, Sequence

from mirai_executor import _arena
from mirai_executor._arena import Buffer, Exchange, Place, whole

_SHARE = 4  # one part of so many of this machine's memory may be filled, or be kept warm
_ARENAS = 32  # each costs two descriptors here, and one at each daemon


class Lasting(Place):
    """The place of a buffer that is shared for as long as somebody refers to it, as this does."""

    view: object

    @classmethod
    def of(cls, place: Place, view: object) -> "Lasting":
        self = cls(*place)
        self.view = view
        return self


class Store:
    """The memory that a host fills, for all its daemons. Any thread.

    Args:
        shared: Whether its daemons are on this machine; else everything travels in frames.
    """

    def __init__(self, *, shared: bool = True) -> None:
        self._pool: _arena.Pool | None = None
        if shared and _arena.available():
            self._pool = _arena.Pool(limit=_arena.physical_memory() // _SHARE, count=_ARENAS)
        self.is_shared = self._pool is not None  # by its daemons

    def keep(
        self, buffers: "Sequence[memoryview | list[bytes]]", retries: int
    ) -> tuple[Buffer, ...]:
        """Copy the large buffers of a task.

        What is to be sent a second time must not lie where the first daemon may have written to
        it, so the buffers of tasks that may be retried stay in this process, and each daemon
        gets a copy of them.
        """
        if self._pool is None:
            return tuple(map(whole, buffers))
        kept = [None if isinstance(it, list) else self._pool.locate(it) for it in buffers]
        own = [it for it, place in zip(buffers, kept, strict=True) if place is None]
        places = None if retries else self._pool.place(own)
        copied: Iterator[Buffer] = iter(places) if places else map(whole, own)
        return tuple(
            next(copied) if place is None else Lasting.of(place, it)
            for it, place in zip(buffers, kept, strict=True)
        )

    def let_go(self, buffers: Sequence[Buffer]) -> None:
        """Give back what :meth:`keep` has returned: their task has ended."""
        if self._pool is not None:
            self._pool.release({buffer[0] for buffer in buffers if isinstance(buffer, tuple)})

    def share(self, buffers: Sequence[memoryview]) -> tuple[memoryview, ...]:
        """Copy large buffers to where daemons can look at them; return views.

        Raises:
            OSError: The system has no memory, or no descriptor, left.
        """
        if self._pool is None:
            return tuple(memoryview(whole(buffer)) for buffer in buffers)
        # One by one, so that each is let go of by itself.
        return tuple(self._pool.share([buffer]).views()[0] for buffer in buffers)

    @property
    def is_sharing(self) -> bool:
        """Whether something may be shared."""
        return self._pool is not None and self._pool.is_sharing

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
