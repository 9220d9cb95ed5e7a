"""Owns the arenas that this process fills, and decides which of them is filled next.

An arena is *held* by whoever placed something there and by each peer that it was lent to; with
the last hold it is free, to be filled again while its pages are warm.

Any thread may use a pool, also when an exception may come at any moment, so nothing here takes a
lock: each step that two threads could take at once is one operation of a dict or a list, which
the GIL makes whole. Whoever may be interrupted keeps a list of what it has taken, to give it back.
"""

import contextlib
import itertools
import mmap
import sys
from collections.abc import Iterable, Sequence

from mirai_executor._typing import Any

from ._arenas import Arena, Constant, Memory
from ._late import ArenaError, Place, flat, size_of
from ._memory import create_constant, in_steps, map_memory, unused

_ALIGNMENT = 64  # bytes: what vector instructions and cache lines like
_SMALLEST = 1 << 16
_DEEPEST = 8  # arrays upon arrays upon memory


class Shared:
    """Buffers that never change, in memory that each peer maps once.

    They are let go of when nothing refers to this object, nor to any of its views.
    """

    def __init__(self, places: tuple[Place, ...], mapping: mmap.mmap) -> None:
        self.places = places
        self._mapping = mapping

    def views(self) -> tuple[memoryview, ...]:
        """Return the buffers, for reading only."""
        whole = memoryview(self._mapping)
        return tuple(whole[at : at + length] for _, at, length in self.places)


class Pool:
    """The arenas that this process fills. Any thread.

    Args:
        limit: How many bytes the arenas may have together, in use or kept warm.
        count: How many arenas there may be; each costs two descriptors here and one at each
            peer (with Python 3.13 and newer, one here and none there).
    """

    def __init__(self, *, limit: int, count: int = 32) -> None:
        self._limit = limit
        self._count = count
        self._numbers = itertools.count(1)
        self._arenas: dict[int, Arena] = {}  # all of them
        self._free: dict[int, Arena] = {}  # those that nobody holds, the latest used last
        self._constants: dict[int, Constant] = {}
        self._mappings: dict[int, mmap.mmap] = {}  # of the constants

    # Filling

    def place(
        self, buffers: Sequence[object], taken: "list[Arena | None] | None" = None
    ) -> tuple[Place, ...] | None:
        """Copy C-contiguous buffers into one arena, which the caller then holds.

        Each lies at a multiple of 64 bytes. A list of ``bytes`` is one buffer, too.

        Args:
            buffers: The buffers.
            taken: Where the arena is noted as soon as it is taken. If this is interrupted, the
                caller gives back what is in there, with :meth:`give_back`.

        Returns:
            Their places, or None where the limits, or the system, leave no memory: the buffers
            then have to travel in a frame.
        """
        sizes = [size_of(buffer) for buffer in buffers]
        starts, size = _lay_out(sizes)
        if not size:
            return _places(0, starts, sizes)
        own: list[Arena | None] = [] if taken is None else taken
        try:
            if (arena := self._take(size, own)) is None:
                return None
            for at, buffer in zip(starts, buffers, strict=True):
                for data in in_steps(buffer):
                    arena.write(at, data)
                    at += len(data)
        except OSError:  # there is no memory
            self.give_back(own, spoilt=True)
            return None
        except BaseException:
            if taken is None:
                self.give_back(own)
            raise
        return _places(arena.number, starts, sizes)

    def share(self, buffers: Sequence[object]) -> Shared:
        """Copy C-contiguous buffers into memory that never changes; the limits do not count it.

        Raises:
            OSError: The system has no memory, or no descriptor, left.
        """
        self.sweep()
        flats = [flat(buffer) for buffer in buffers]
        sizes = [data.nbytes for data in flats]
        starts, size = _lay_out(sizes)
        memory = Constant(next(self._numbers), max(size, mmap.PAGESIZE), used=size)
        try:
            create_constant(memory.fds, memory.size, zip(starts, flats, strict=True))
            mapping = map_memory(memory.fd, memory.size, writable=False)
            shared = Shared(_places(memory.number, starts, sizes), mapping)
            self._constants[memory.number] = memory
            self._mappings[memory.number] = mapping
        except BaseException:
            self._mappings.pop(memory.number, None)
            self._constants.pop(memory.number, None)
            memory.drop()
            raise
        return shared

    def locate(self, view: memoryview) -> Place | None:
        """Return the place of a buffer that was shared alone, as a whole; None for any other."""
        exporter: Any = view
        for _ in range(_DEEPEST):
            if isinstance(exporter, mmap.mmap):
                break
            # An array that lies in the memory of something else says so in this way.
            of_array = getattr(exporter, "base", None)
            exporter = exporter.obj if isinstance(exporter, memoryview) else of_array
        for number, mapping in self._mappings.copy().items():
            if mapping is exporter:
                memory = self._constants.get(number)
                whole = memory is not None and memory.used == view.nbytes
                return Place(number, 0, view.nbytes) if whole else None
        return None

    # Letting go

    def release(self, arenas: Iterable[int], *, spoilt: bool = False) -> None:
        """Give back one hold on each of these arenas.

        Args:
            arenas: Their numbers; one that is no arena of this pool (0, a constant) counts for
                nothing.
            spoilt: Somebody may go on using them, so they must not be filled again.
        """
        for number in arenas:
            arena = self._arenas.get(number)
            if arena is None:
                continue
            arena.spoilt = arena.spoilt or spoilt
            if arena.let_go():
                if arena.spoilt or not arena.is_open:  # whoever made it was interrupted
                    self._drop(arena)
                else:
                    arena.renew()
                    self._free[number] = arena

    def give_back(self, taken: "list[Arena | None]", *, spoilt: bool = False) -> None:
        """Release what :meth:`place` has noted there."""
        numbers = [arena.number for arena in taken if arena is not None]
        taken.clear()
        self.release(numbers, spoilt=spoilt)

    def sweep(self) -> None:
        """Let go of constants that nothing refers to."""
        for number in unused(self._mappings):
            self._mappings.pop(number, None)
            memory = self._constants.pop(number, None)
            if memory is not None:
                memory.drop()

    def trim(self) -> None:
        """Give the memory of all free arenas back to the system."""
        self.sweep()
        while self._evict():
            pass

    def close(self) -> None:
        """Let go of everything; what peers have mapped stays valid for them.

        A forked child may close the pool that it has inherited, and do nothing else with it.
        """
        self._mappings.clear()
        for memory in [*self._arenas.values(), *self._constants.values()]:
            if isinstance(memory, Arena):
                memory.spoilt = True  # it may be in use over there
            memory.drop()
        self._arenas.clear()
        self._free.clear()
        self._constants.clear()

    # For Sender, and for those who watch

    def view(self, place: Place) -> memoryview:
        """Return what lies at a place that the caller holds.

        Raises:
            ArenaError: It has been let go of.
        """
        memory = self.find(place.arena)
        end = place.offset + place.length
        if isinstance(memory, Arena):
            return memory.view(end)[place.offset :]
        return memoryview(self._mappings[place.arena])[place.offset : end]

    @property
    def is_sharing(self) -> bool:
        """Whether there are constants."""
        return bool(self._constants)

    def find(self, number: int) -> Memory:
        """Return an arena or a constant.

        Raises:
            ArenaError: It has been let go of.
        """
        memory = self._arenas.get(number) or self._constants.get(number)
        if memory is None:
            raise ArenaError(f"this pool has no memory {number}")
        return memory

    @property
    def size(self) -> int:
        """How many bytes the arenas have together."""
        return sum(arena.size for arena in list(self._arenas.values()))

    @property
    def held(self) -> tuple[int, ...]:
        """The numbers of the arenas that are not free."""
        return tuple(number for number in list(self._arenas) if number not in self._free)

    # Which arena

    def _take(self, need: int, taken: "list[Arena | None]") -> Arena | None:
        """Return an arena for ``need`` bytes: a warm one, a new one, one much too large."""
        size = _size_class(need)
        return (
            self._reuse(need, 2 * size, taken)
            or self._make(size, taken)
            or self._reuse(need, sys.maxsize, taken)
            or self._make(size, taken, evict=True)
        )

    def _reuse(self, at_least: int, at_most: int, taken: "list[Arena | None]") -> Arena | None:
        latest_first = reversed(list(self._free.values()))
        fits = [arena for arena in latest_first if at_least <= arena.size <= at_most]
        for arena in sorted(fits, key=lambda arena: arena.size):
            # In one go: what is free no longer is noted, wherever an interrupt strikes.
            taken.extend(map(self._free.pop, (arena.number,), (None,)))
            if taken[-1] is not None:  # no other thread was faster
                return arena
        return None

    def _make(
        self, size: int, taken: "list[Arena | None]", *, evict: bool = False
    ) -> Arena | None:
        arena = Arena(next(self._numbers), size)
        taken.append(arena)
        self._arenas[arena.number] = arena  # it counts from now on, for other threads too
        if evict and self._fits_without_free():
            while self._is_over() and self._evict():
                pass
        with contextlib.suppress(OSError):
            if not self._is_over():
                arena.open()
                return arena
        self._drop(arena)
        taken.remove(arena)
        return None

    def _is_over(self) -> bool:
        return self.size > self._limit or len(self._arenas) > self._count

    def _fits_without_free(self) -> bool:
        free = list(self._free.values())
        size = self.size - sum(arena.size for arena in free)
        return size <= self._limit and len(self._arenas) - len(free) <= self._count

    def _evict(self) -> bool:
        """Drop the free arena that was used longest ago; False if none is free."""
        for number in list(self._free):
            arena = self._free.pop(number, None)
            if arena is not None:
                self._drop(arena)
                return True
        return False

    def _drop(self, arena: Arena) -> None:
        self._arenas.pop(arena.number, None)
        arena.drop()


def _lay_out(sizes: Sequence[int]) -> tuple[list[int], int]:
    starts, end = [], 0
    for size in sizes:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        starts.append(start)
        end = start + size
    return starts, end


def _places(arena: int, starts: Sequence[int], sizes: Sequence[int]) -> tuple[Place, ...]:
    return tuple(
        Place(arena, start, size) if size else Place(0, 0, 0)
        for start, size in zip(starts, sizes, strict=True)
    )


def _size_class(need: int) -> int:
    """Round up, by at most a quarter, so that arenas of like sizes serve for each other."""
    step = max(mmap.PAGESIZE, 1 << max(0, (need - 1).bit_length() - 3))
    return max(_SMALLEST, -(-need // step) * step)
