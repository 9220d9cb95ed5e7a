"""An exchange of large buffers that begins with the first of them: most tasks have none."""

from __future__ import annotations

import os

from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._exchange import Exchange
    from ._memory import Buffer
    from ._pool import Pool

__all__ = ["LateExchange"]


class LateExchange:
    """What :class:`Exchange` is, from the moment on at which it is needed.

    Args:
        pool: Returns what this process fills.
        fd: This end of the channel, which the exchange takes over.
    """

    def __init__(self, pool: Callable[[], Pool], fd: int) -> None:
        self._pool = pool
        self._fd = fd
        self._made: Exchange | None = None

    def _exchange(self) -> Exchange:
        if self._made is None:
            from ._channel import Channel
            from ._exchange import Exchange

            self._made = Exchange(self._pool(), Channel(self._fd))
        return self._made

    def lend(self, buffers: Sequence[Buffer | list[bytes]]) -> tuple[Buffer, ...]:
        """Have the peer get buffers; see :meth:`Exchange.lend`."""
        return self._exchange().lend(buffers)

    def views(self, buffers: Sequence[Buffer]) -> tuple[memoryview | bytearray, ...]:
        """Return the buffers that a frame names; see :meth:`Exchange.views`."""
        return self._exchange().views(buffers)

    def take_released(self) -> tuple[int, ...]:
        """Return the arenas that are not used here any more, to be told to the peer."""
        return () if self._made is None else self._made.take_released()

    def release(self, arenas: Iterable[int]) -> None:
        """Take back what the peer has released, and let go of what it has let go of."""
        self._exchange().release(arenas)

    def tell(self) -> bool:
        """Tell the peer what is gone; True if there is something: it should call ``release``."""
        return self._made is not None and self._made.tell()

    @property
    def is_borrowing(self) -> bool:
        """Whether something of the peer's may be in use here."""
        return self._made is not None and self._made.is_borrowing

    def close(self) -> None:
        """Let go of everything; views that are still in use stay valid."""
        if self._made is not None:
            self._made.close()
        else:
            self.forget()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's."""
        if self._made is not None:
            self._made.forget()
        elif self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
