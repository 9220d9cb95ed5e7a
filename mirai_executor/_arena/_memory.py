"""Makes and maps memory that has no name, that cannot shrink, and that ends with its last user."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
from collections.abc import Iterable, Iterator

from mirai_executor._typing import Any

from ._late import ADD_SEALS, SEAL_SHRINK, SEALS, create_empty, flat

_GET_SEALS = 1034  # as in _late
_SEAL_WRITE = 8
_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, since Linux 5.14

# How much is copied in one step. A step holds the GIL, so this is also what other threads and
# Ctrl-C wait for: about a tenth of a millisecond.
STEP = 1 << 20
_SMALL = STEP // 8  # what is larger is written by itself


def create_constant(fds: list[int], size: int, pieces: Iterable[tuple[int, memoryview]]) -> None:
    """Put a descriptor of ``size`` bytes that hold these pieces for ever into a list.

    Its owner closes what is there if this raises.
    """
    fd = create_empty(fds)
    os.ftruncate(fd, size)
    for offset, data in pieces:
        write_cold(fd, offset, data)
    fcntl.fcntl(fd, ADD_SEALS, SEALS | _SEAL_WRITE)


def is_safe(fd: int, size: int) -> bool:
    """Tell whether a peer's descriptor holds ``size`` bytes, now and for ever."""
    try:
        seals = fcntl.fcntl(fd, _GET_SEALS)
    except OSError:  # not a memfd
        return False
    return 0 < size <= os.fstat(fd).st_size and bool(seals & SEAL_SHRINK)


def map_memory(fd: int, size: int, *, writable: bool) -> mmap.mmap:
    """Map the memory; ``fd`` stays open, and may be closed."""
    # Linux before 6.7 refuses to map write-sealed memory as shared, even for reading. Nothing is
    # ever written to a private mapping for reading, so it stays the same pages.
    flags = mmap.MAP_SHARED if writable else mmap.MAP_PRIVATE
    prot = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, flags=flags, prot=prot, trackfd=False)
    return mmap.mmap(fd, size, flags=flags, prot=prot)  # which keeps a descriptor of its own


def in_steps(buffer: object) -> Iterator[memoryview]:
    """Return a C-contiguous buffer as bytes, or a list of ``bytes`` with small ones joined.

    Each write to new memory hands the GIL over, and a thread that computes keeps it for 5 ms.
    To join costs little: what the pickler has just written is in the cache yet.
    """
    if not isinstance(buffer, list):
        yield flat(buffer)
        return
    waiting: list[bytes] = []
    size = 0
    for piece in buffer:
        is_small = len(piece) <= _SMALL
        if waiting and (not is_small or size + len(piece) > STEP):
            yield memoryview(b"".join(waiting))
            waiting, size = [], 0
        if is_small:
            waiting.append(piece)
            size += len(piece)
        else:
            yield memoryview(piece)
    yield memoryview(b"".join(waiting))


class Mapping:
    """Memory that this process has mapped to write to it."""

    def __init__(self, fd: int, size: int) -> None:
        self._mmap = map_memory(fd, size, writable=True)
        self.view = memoryview(self._mmap)
        self._touched = 0  # up to here the mapping has its pages

    def write(self, offset: int, data: memoryview) -> None:
        """Copy data to pages that exist."""
        for at in range(0, len(data), STEP):
            piece = data[at : at + STEP]
            end = offset + at + len(piece)
            if end > self._touched:
                self._touch(end)
            self.view[end - len(piece) : end] = piece

    def _touch(self, end: int) -> None:
        # At once, rather than by a fault for each page: a third of the time for 100 MB.
        with contextlib.suppress(OSError):  # Linux before 5.14
            self._mmap.madvise(_POPULATE_WRITE, self._touched, end - self._touched)
        self._touched = end // mmap.PAGESIZE * mmap.PAGESIZE

    def punch(self) -> None:
        """Give the pages back to the system, whoever has them mapped."""
        with contextlib.suppress(OSError):
            self._mmap.madvise(mmap.MADV_REMOVE)


def write_cold(fd: int, offset: int, data: memoryview) -> None:
    """Write to pages that may not exist yet.

    Unlike a copy into mapped memory, this takes no page fault for each page (half the time for
    100 MB), and says that memory is short by an error, not by SIGBUS.
    """
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at : at + STEP], offset + at)


def _references(mappings: dict[int, Any]) -> list[int]:
    # In C throughout: what a frame of Python's holds meanwhile differs from version to version.
    return list(map(sys.getrefcount, mappings.values()))


_ALONE = _references({0: object()})[0] + 1  # in the dict that is asked, and in its copy


def unused(mappings: dict[int, mmap.mmap]) -> list[int]:
    """Return those whose memory nobody uses: no view, array, slice or ``mmap`` of it is left.

    Each of those holds a reference to the mapping, so its count says so, exactly: unlike a
    weak reference to an exporter, it is not fooled by a finalizer that revives the views of a
    dying cycle, and it runs no code when they die. A reference that a thread holds for a moment
    only makes the memory seem used for longer.
    """
    asked = mappings.copy()
    counts = _references(asked)
    return [number for number, count in zip(asked, counts, strict=True) if count == _ALONE]
