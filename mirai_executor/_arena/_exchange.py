"""Exchanges large buffers with one peer: through shared memory where that is possible."""

import contextlib
from collections.abc import Iterable, Sequence

from ._channel import Channel
from ._memory import Place, flat
from ._pool import Pool
from ._receiver import Receiver
from ._sender import Sender

Buffer = bytes | bytearray | memoryview | tuple[int, int, int]  # the latter: its place


class Exchange:
    """One end of it. One thread; ``take_released`` may also interrupt the others.

    Args:
        pool: What this process fills.
        channel: Leads to the peer; it is closed with the exchange.
    """

    def __init__(self, pool: Pool, channel: Channel) -> None:
        self._pool = pool
        self._channel = channel
        self._sender = Sender(pool, channel)
        self._receiver = Receiver(channel)

    def lend(self, buffers: Sequence[Buffer]) -> tuple[Buffer, ...]:
        """Have the peer get buffers; return what the next frame has to say of them.

        Args:
            buffers: Places of the pool that the caller holds, and goes on to hold; or bytes, which
                are copied. All of one kind.

        Returns:
            Places that the peer may use from now on. If it cannot be reached, or there is no
            shared memory left: the bytes, to travel in the frame.
        """
        places = as_places(buffers)
        if places:
            if self._sender.lend(places):
                return places
            return tuple(bytes(self._pool.view(place)) for place in places)
        own = self._pool.place(buffers)
        if own is not None:
            try:
                if self._sender.lend(own):
                    return own
            finally:
                self._pool.release({place.arena for place in own})
        return tuple(data if type(data) is bytes else bytes(flat(data)) for data in buffers)

    def views(self, buffers: Sequence[Buffer]) -> tuple[memoryview | bytearray, ...]:
        """Return the buffers that a frame names, to be called once for each message.

        Raises:
            ArenaError: The peer has sent no such memory.
            OSError: This process has no descriptor free (EMFILE).
        """
        places = as_places(buffers)
        return self._receiver.views(places) if places else copies(buffers)

    def take_released(self) -> tuple[int, ...]:
        """Return the arenas that are not used here any more, to be told to the peer."""
        return self._receiver.take_released()

    def release(self, arenas: Iterable[int]) -> None:
        """Take back what the peer has released, and let go of what it has let go of."""
        self._sender.release(arenas)
        with contextlib.suppress(OSError):  # no descriptor is free: the next time
            self._receiver.refresh()

    def tell(self) -> bool:
        """Tell the peer what is gone; True if there is something: it should call ``release``."""
        return self._sender.flush()

    @property
    def is_borrowing(self) -> bool:
        """Whether something of the peer's may be in use here."""
        return self._receiver.is_borrowing

    def close(self) -> None:
        """Let go of everything; views that are still in use stay valid."""
        self._sender.close()
        self.forget()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._receiver.close()
        self._channel.close()


def as_places(buffers: Iterable[Buffer]) -> tuple[Place, ...]:
    """Return those that are places."""
    return tuple(Place(*buffer) for buffer in buffers if isinstance(buffer, tuple))


def copies(buffers: Iterable[Buffer]) -> tuple[bytearray, ...]:
    """Return writable copies of those that are bytes."""
    return tuple(bytearray(buffer) for buffer in buffers if not isinstance(buffer, tuple))
