"""Exchanges large buffers with one peer: through shared memory where that is possible."""

import contextlib
from collections.abc import Iterable, Sequence

from ._channel import Channel
from ._late import Buffer, Place, in_frame, whole
from ._pool import Pool
from ._receiver import Receiver
from ._sender import Sender


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

    def lend(self, buffers: "Sequence[Buffer | list[bytes]]") -> tuple[Buffer, ...]:
        """Have the peer get buffers; return what the next frame has to say of them.

        Args:
            buffers: Places of the pool that the caller holds, and goes on to hold; or bytes, which
                are copied; a list of them is one buffer.

        Returns:
            Places that the peer may use from now on. If it cannot be reached, or there is no
            shared memory left: bytes, to travel in the frame.
        """
        own = self._pool.place([data for data in buffers if not isinstance(data, tuple)]) or ()
        placed = iter(own)
        lent = tuple(
            Place(*data) if isinstance(data, tuple) else next(placed, data) for data in buffers
        )
        try:
            if self._sender.lend(place for place in lent if isinstance(place, Place)):
                return tuple(map(_as_it_travels, lent))
            return out_of_arenas(self._pool, buffers)
        finally:
            self._pool.release({place.arena for place in own})

    def views(self, buffers: Sequence[Buffer]) -> tuple[memoryview | bytearray, ...]:
        """Return the buffers that a frame names, to be called once for each message.

        Raises:
            ArenaError: The peer has sent no such memory.
            OSError: This process has no descriptor free (EMFILE).
        """
        places = [Place(*buffer) for buffer in buffers if isinstance(buffer, tuple)]
        views = iter(self._receiver.views(places))
        return tuple(
            next(views) if isinstance(buffer, tuple) else in_frame(buffer) for buffer in buffers
        )

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


def out_of_arenas(pool: Pool, buffers: "Sequence[Buffer | list[bytes]]") -> tuple[bytes, ...]:
    """Return buffers as bytes, for a peer that cannot be lent any; see :meth:`Exchange.lend`."""
    return tuple(
        whole(pool.view(Place(*buffer)) if isinstance(buffer, tuple) else buffer)
        for buffer in buffers
    )


def _as_it_travels(buffer: "Buffer | list[bytes]") -> Buffer:
    """Return places as they are, and bytes as they are now."""
    return buffer if isinstance(buffer, tuple) else whole(buffer)
