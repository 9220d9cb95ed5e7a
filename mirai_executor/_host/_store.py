"""Keeps the large buffers of tasks, from their submission until the tasks have ended."""

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mirai_executor import _arena
from mirai_executor._arena import Buffer, LateExchange, Place, whole

if TYPE_CHECKING:
    from mirai_executor._reactor import Reactor, Timer

_SHARE = 4  # one part of so many of this machine's memory may be filled, or be kept warm
_KEEP_WARM = 1.0  # seconds until memory that is free is given back
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
        self.is_shared = shared and _arena.available()  # by its daemons
        self._pools: dict[None, _arena.Pool] = {}  # the pool, once there is something for it

    def _pool(self) -> "_arena.Pool":
        if (pool := self._made) is not None:
            return pool
        made = _arena.Pool(limit=_arena.physical_memory() // _SHARE, count=_ARENAS)
        return self._pools.setdefault(None, made)  # in one step: another thread may come here too

    @property
    def _made(self) -> "_arena.Pool | None":
        return self._pools.get(None)

    def keep(
        self, buffers: "Sequence[memoryview | list[bytes]]", retries: int
    ) -> tuple[Buffer, ...]:
        """Copy the large buffers of a task.

        What is to be sent a second time must not lie where the first daemon may have written to
        it, so the buffers of tasks that may be retried stay in this process, and each daemon
        gets a copy of them.
        """
        if not self.is_shared:
            return tuple(map(whole, buffers))
        pool = self._pool()
        kept = [None if isinstance(it, list) else pool.locate(it) for it in buffers]
        own = [it for it, place in zip(buffers, kept, strict=True) if place is None]
        places = None if retries else pool.place(own)
        copied: Iterator[Buffer] = iter(places) if places else map(whole, own)
        return tuple(
            next(copied) if place is None else Lasting.of(place, it)
            for it, place in zip(buffers, kept, strict=True)
        )

    def let_go(self, buffers: Sequence[Buffer]) -> None:
        """Give back what :meth:`keep` has returned: their task has ended."""
        if (pool := self._made) is not None:
            pool.release({buffer[0] for buffer in buffers if isinstance(buffer, tuple)})

    def share(self, buffers: Sequence[memoryview]) -> tuple[memoryview, ...]:
        """Copy large buffers to where daemons can look at them; return views.

        Raises:
            OSError: The system has no memory, or no descriptor, left.
        """
        if not self.is_shared:
            return tuple(memoryview(whole(buffer)) for buffer in buffers)
        pool = self._pool()
        # One by one, so that each is let go of by itself.
        return tuple(pool.share([buffer]).views()[0] for buffer in buffers)

    @property
    def is_sharing(self) -> bool:
        """Whether something may be shared."""
        return (pool := self._made) is not None and pool.is_sharing

    def exchange(self) -> tuple[LateExchange, int] | None:
        """Return an exchange with a new daemon, and the descriptor that the daemon inherits."""
        if not self.is_shared:
            return None
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return LateExchange(self._pool, here.detach()), there.detach()

    def trim(self) -> None:
        """Give what is free back to the system."""
        if (pool := self._made) is not None:
            pool.trim()

    def close(self) -> None:
        """Let go of everything; in a forked child, of what is the parent's."""
        if (pool := self._made) is not None:
            pool.close()


class Trimmer:
    """Gives memory back once no large buffer has come or gone for a while.

    Args:
        store: Has what is free.
        reactor: Tells when it is time.
        rest: Tells daemons; returns whether memory of theirs may be in use here.
    """

    def __init__(self, store: Store, reactor: "Reactor", rest: Callable[[], bool]) -> None:
        self._store = store
        self._reactor = reactor
        self._rest = rest
        self._pause = _KEEP_WARM
        self._timer: Timer | None = None

    def put_off(self) -> None:
        """Note that a large buffer comes or goes."""
        self._pause = _KEEP_WARM
        if self._timer is None or self._timer.is_over:
            self._timer = self._reactor.call_in(_KEEP_WARM, self._trim)
        else:
            self._reactor.move(self._timer, self._reactor.now() + _KEEP_WARM)

    def _trim(self) -> None:
        """Give back what is free, and come again while something is in use."""
        self._store.trim()
        is_borrowing = self._rest()
        # Nothing tells when the user drops an array; looking ever more seldom is enough.
        if is_borrowing or self._store.is_sharing:
            self._pause *= 2
            self._timer = self._reactor.call_in(self._pause, self._trim)
