"""Takes what a pickler writes: in memory of this process while it is short, then in an arena."""

from ._memory import Place, flat
from ._pool import Pool, Reservation


class Stream:
    """A file to be written to, once, by one thread; nothing that is written is ever too much.

    Args:
        pool: Where an arena comes from; where it has none, the bytes stay in this process.
        threshold: From how many bytes on an arena is better.
    """

    def __init__(self, pool: Pool, threshold: int) -> None:
        self._pool = pool
        self._threshold = threshold
        self._length = 0
        self._pieces: list[bytes] = []
        self._arena: Reservation | None = None
        self._may_move = True

    def write(self, data: object) -> int:
        """Append the bytes of a C-contiguous buffer."""
        piece = flat(data)
        self._length += len(piece)
        if self._may_move and self._length >= self._threshold:
            self._move_in()
        if self._arena is not None and not self._arena.write(piece):
            self._move_out(self._arena)
        if self._arena is None:
            self._pieces.append(data if type(data) is bytes else bytes(piece))
        return len(piece)

    def finish(self) -> Place | bytes:
        """Return what was written, or its place in an arena that the caller then holds."""
        if self._arena is not None:
            return self._arena.commit()
        return b"".join(self._pieces)

    def discard(self) -> None:
        """Give back what was written, instead of ``finish``."""
        if self._arena is not None:
            self._arena.cancel()
            self._arena = None
        self._pieces.clear()

    def _move_in(self) -> None:
        self._may_move = False
        arena = self._pool.reserve(self._length)
        if arena is None:
            return
        if not all(arena.write(memoryview(piece)) for piece in self._pieces):
            arena.cancel()
            return
        self._arena = arena
        self._pieces.clear()

    def _move_out(self, arena: Reservation) -> None:
        self._arena = None
        self._pieces = [bytes(arena.view(arena.length))]
        arena.cancel()
