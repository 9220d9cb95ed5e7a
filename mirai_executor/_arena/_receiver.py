"""Maps the memory that a peer sends, and knows when nobody here uses it any more."""

import mmap
import os
import weakref
from collections import Counter
from collections.abc import Sequence

from ._channel import Channel, Gone, NewMemory
from ._late import ArenaError, Place
from ._memory import is_safe, map_memory, unused


class Receiver:
    """The arenas of one peer, as they are mapped here.

    One thread at a time; views may die in any.

    Args:
        channel: Leads to the peer; its owner closes it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        # Each mapping is referred to by one of these, and by its views: see unused().
        self._idle: dict[int, mmap.mmap] = {}  # kept, so that its pages stay warm
        self._lent: dict[int, mmap.mmap] = {}  # to be released when it is unused
        self._constants: dict[int, mmap.mmap] = {}
        self._times: Counter[int] = Counter()  # how often each was lent since its release
        # A forked child keeps its views, whatever becomes of ours: what it may see is not to be
        # filled again. Marked before the fork and after it, with no release in between, so that
        # it does not matter what other threads do meanwhile.
        self._forks: list[None] = []  # under way
        self._spoilt: set[int] = set()
        _receivers.add(self)

    def views(self, places: Sequence[Place]) -> tuple[memoryview, ...]:
        """Return the buffers of one message, to be called once for each message.

        They are writable (those of a constant are not), and nobody else touches them while
        anything refers to any of them: views, slices, arrays.

        Raises:
            ArenaError: The peer has sent no such memory.
            OSError: This process has no descriptor free (EMFILE). Nothing is lost: the call can
                be repeated.
        """
        arenas = dict.fromkeys(place.arena for place in places)
        if not all(map(self._knows, arenas)):
            self.refresh()
        wholes = {arena: self._borrow(arena) for arena in arenas}
        return tuple(_cut(wholes[place.arena], place) for place in places)

    def _knows(self, arena: int) -> bool:
        return arena in self._idle or arena in self._constants or not arena

    def _borrow(self, arena: int) -> memoryview:
        if arena == 0:
            return memoryview(bytearray())
        if arena in self._constants:
            return memoryview(self._constants[arena])
        if arena in self._idle:
            self._lent[arena] = self._idle.pop(arena)
        if arena not in self._lent:
            raise ArenaError(f"the peer has sent no usable memory {arena}")
        self._times[arena] += 1
        return memoryview(self._lent[arena])

    def take_released(self) -> tuple[int, ...]:
        """Return what ``Sender.release`` has to be told: arenas that nobody uses any more.

        Each comes as often as it was lent. Where the peer must not fill it again, the number
        comes inverted, so negative.
        """
        if not self._lent or self._forks:
            return ()
        released: list[int] = []
        for arena in unused(self._lent):
            mapping = self._lent.pop(arena)
            said = arena
            if arena in self._spoilt:
                self._spoilt.discard(arena)
                said = ~arena
            else:
                self._idle[arena] = mapping
            released += [said] * self._times.pop(arena)
        return tuple(released)

    @property
    def is_borrowing(self) -> bool:
        """Whether something was in use when it was last looked at."""
        return bool(self._lent)

    def refresh(self) -> None:
        """Deal with what has come through the channel.

        ``views`` does so when it meets an arena for the first time. A process that waits for
        frames calls it when the channel can be read, so that it lets go of what the peer has
        let go of.

        Raises:
            OSError: This process has no descriptor free (EMFILE). Nothing is lost.
        """
        for message in self._channel.receive():
            if isinstance(message, Gone):
                self._forget(message.arena)
            else:
                self._map(message)

    def _map(self, memory: NewMemory) -> None:
        try:
            if is_safe(memory.fd, memory.size):
                mappings = self._idle if memory.writable else self._constants
                mappings[memory.arena] = map_memory(
                    memory.fd, memory.size, writable=memory.writable
                )
        finally:
            os.close(memory.fd)

    def _forget(self, arena: int) -> None:
        for mappings in (self._idle, self._lent, self._constants):
            mappings.pop(arena, None)
        self._times.pop(arena, None)
        self._spoilt.discard(arena)

    def before_fork(self) -> None:
        """Note that this process is about to fork. Any thread."""
        self._forks.append(None)
        self._spoilt.update(self._lent.copy())

    def after_fork(self) -> None:
        """Note that it has forked. Any thread."""
        self._spoilt.update(self._lent.copy())
        if self._forks:  # empty where the receiver was made meanwhile
            self._forks.pop()

    def close(self) -> None:
        """Let go of everything; views that are still in use stay valid."""
        for mappings in (self._idle, self._lent, self._constants):
            mappings.clear()
        self._times.clear()


def _cut(whole: memoryview, place: Place) -> memoryview:
    end = place.offset + place.length
    if not 0 <= place.offset <= end <= len(whole):
        raise ArenaError(f"{place} lies outside of its memory of {len(whole)} bytes")
    return whole[place.offset : end]


_receivers: weakref.WeakSet[Receiver] = weakref.WeakSet()


def _before_fork() -> None:
    for receiver in list(_receivers):
        receiver.before_fork()


def _after_fork() -> None:
    for receiver in list(_receivers):
        receiver.after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
