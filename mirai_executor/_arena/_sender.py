"""Lends the arenas of a pool to one peer, and takes them back."""

from collections import Counter, deque
from collections.abc import Iterable

from ._arenas import Arena, Memory
from ._channel import Channel
from ._late import Place
from ._pool import Pool


class Sender:
    """What one peer has of a pool. One thread at a time.

    Args:
        pool: Where the memory comes from; its other peers may be lent the same arenas.
        channel: Leads to the peer; its owner closes it.
    """

    def __init__(self, pool: Pool, channel: Channel) -> None:
        self._pool = pool
        self._channel = channel
        self._known: dict[int, Memory] = {}  # what the peer has a descriptor of
        self._lent: Counter[int] = Counter()  # how often the peer has to release each
        self._gone: deque[int] = deque()  # of what the peer has yet to be told

    def lend(self, places: Iterable[Place]) -> bool:
        """Let the peer use what lies at these places; to be done before the frame that names them.

        The peer holds each of the arenas until it releases it. The caller's own hold, from
        ``Pool.place``, stays.

        Returns:
            False if the peer cannot be reached now: then nothing has been lent.

        Raises:
            ArenaError: The pool has let go of them.
        """
        self.flush()
        numbers = dict.fromkeys(place.arena for place in places if place.arena)
        memories = [self._pool.find(number) for number in numbers]
        if not all(map(self._introduce, memories)):
            return False
        for memory in memories:
            if isinstance(memory, Arena):
                memory.hold()
                self._lent[memory.number] += 1
        return True

    def _introduce(self, memory: Memory) -> bool:
        number = memory.number
        if number not in self._known:
            if not self._channel.send(number, memory.size, memory.fd, writable=memory.writable):
                return False
            memory.peers.add(self)
            self._known[number] = memory
        return True

    def release(self, arenas: Iterable[int]) -> None:
        """Take back what the peer's ``Receiver.take_released`` has returned.

        A number that was not lent counts for nothing.
        """
        for said in arenas:
            number = max(said, ~said)
            if self._lent[number] > 0:
                self._lent[number] -= 1
                self._pool.release((number,), spoilt=said < 0)
        self.flush()

    def forget(self, arena: int) -> None:
        """Note that the pool has let go of an arena. Any thread."""
        self._gone.append(arena)

    def flush(self) -> bool:
        """Tell the peer what is gone, as far as the channel takes it; True if there was any."""
        has_told = False
        while self._gone and self._channel.send_gone(self._gone[0]):
            self._known.pop(self._gone.popleft(), None)
            has_told = True
        return has_told

    def close(self) -> None:
        """Take everything back from a peer that has gone.

        Arenas that it had are never filled again: a process that it has forked may live on.
        """
        for memory in self._known.values():
            memory.peers.discard(self)
        self._pool.release(self._lent.elements(), spoilt=True)
        self._known.clear()
        self._lent.clear()
        self._gone.clear()
