"""What there is of shared memory until the first large buffer: whether it is possible, and places.

An exchange begins with that buffer; most tasks have none.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import fcntl
import functools
import mmap
import os
import sys

from mirai_executor._nameless import ALLOW_SEALING, create_in_memory
from mirai_executor._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ._exchange import Exchange
    from ._pool import Pool

# fcntl(2) of Linux: not every Python has the names. Nobody can shrink an arena, so that no reader
# ever meets SIGBUS; nobody can add further seals.
ADD_SEALS = 1033
SEAL_SHRINK = 2
_SEAL_SEAL, _SEAL_GROW = 1, 4
SEALS = SEAL_SHRINK | _SEAL_GROW | _SEAL_SEAL
_NOEXEC_SEAL = 8  # MFD_NOEXEC_SEAL, since Linux 6.3; systems with vm.memfd_noexec=2 demand it

_KEEP_WARM = 1.0  # seconds without a large buffer until free memory goes back to the system
_SELDOM = 3600.0  # seconds at most between two looks at what is still used

Buffer = bytes | bytearray | memoryview | tuple[int, int, int]  # the latter: its place


class ArenaError(RuntimeError):
    """A place lies in no memory that the peer has sent."""


class Place(NamedTuple):
    """Where a buffer lies: the number of its arena (0: nowhere, it is empty), and bytes there."""

    arena: int
    offset: int
    length: int


@functools.cache
def available() -> bool:
    """Tell whether this system can share memory in this way."""
    # What still uses an arena is read off CPython's reference counts, exact only under the GIL.
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        return False
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    try:
        os.close(create(mmap.PAGESIZE))
        for end in _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
            end.close()
    except OSError:  # the kernel or a sandbox has none of it
        return False
    return True


def physical_memory() -> int:
    """Return how many bytes of memory this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def create(size: int) -> int:
    """Return a descriptor of ``size`` new bytes; they take memory only as they are written."""
    fds: list[int] = []
    try:
        create_in(fds, size)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds[0]


def create_in(fds: list[int], size: int) -> None:
    """Put such a descriptor into a list, whose owner closes what is there if this raises."""
    fd = create_empty(fds)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, ADD_SEALS, SEALS)


def create_empty(fds: list[int]) -> int:
    """Put the descriptor of memory that has no size yet, nor seals, into a list; return it."""
    try:
        return create_in_memory("mirai-arena", ALLOW_SEALING | _NOEXEC_SEAL, fds)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return create_in_memory("mirai-arena", ALLOW_SEALING, fds)


def flat(buffer: object) -> memoryview:
    """Return a C-contiguous buffer as bytes."""
    view = memoryview(buffer)  # type: ignore[arg-type]  # typeshed has no Buffer before 3.12
    if view.nbytes == 0:
        return memoryview(b"")
    return view.cast("B")


def size_of(buffer: object) -> int:
    """Return how many bytes a C-contiguous buffer has, or a list of ``bytes``."""
    return sum(map(len, buffer)) if isinstance(buffer, list) else flat(buffer).nbytes


def whole(buffer: object) -> bytes:
    """Return a C-contiguous buffer, or a list of ``bytes``, as it is now."""
    if isinstance(buffer, list):
        return b"".join(buffer)
    if isinstance(buffer, memoryview):
        owner = buffer.obj
        if type(owner) is bytes and len(owner) == buffer.nbytes:
            return owner
    return buffer if type(buffer) is bytes else bytes(flat(buffer))


def in_frames(buffers: Sequence[object]) -> tuple[bytes, ...]:
    """Return buffers as they are now, to travel in a frame."""
    return tuple(map(whole, buffers))


def writable(buffers: Iterable[Buffer]) -> tuple[memoryview | bytearray, ...]:
    """Return those that came in a frame such that they can be written to.

    One that is most of its frame stays there, if that can be written to; else it is copied, or it
    would keep the whole frame.
    """
    return tuple(in_frame(buffer) for buffer in buffers if not isinstance(buffer, tuple))


def in_frame(buffer: bytes | bytearray | memoryview) -> memoryview | bytearray:
    """Return one of them."""
    view = memoryview(buffer)
    is_most_of_its_frame = 2 * view.nbytes > memoryview(view.obj).nbytes
    return view if is_most_of_its_frame and not view.readonly else bytearray(view)


class LateExchange:
    """What :class:`Exchange` is, from the moment on at which it is needed.

    Args:
        make: Makes the exchange, or raises OSError if there is no channel now.
        in_frames: Returns as bytes, in that case, what was to be lent.
        let_go: Is called at the end if there never was an exchange.
    """

    def __init__(
        self,
        make: Callable[[], Exchange],
        in_frames: Callable[[Sequence[Buffer | list[bytes]]], tuple[bytes, ...]],
        let_go: Callable[[], None],
    ) -> None:
        self._make = make
        self._in_frames = in_frames
        self._let_go = let_go
        self._made: Exchange | None = None

    def _exchange(self) -> Exchange:
        if self._made is None:
            self._made = self._make()
        return self._made

    def lend(self, buffers: Sequence[Buffer | list[bytes]]) -> tuple[Buffer, ...]:
        """Have the peer get buffers; see :meth:`Exchange.lend`."""
        try:
            exchange = self._exchange()
        except OSError:
            return self._in_frames(buffers)
        return exchange.lend(buffers)

    def views(self, buffers: Sequence[Buffer]) -> tuple[memoryview | bytearray, ...]:
        """Return the buffers that a frame names; see :meth:`Exchange.views`."""
        return self._exchange().views(buffers)

    def take_released(self) -> tuple[int, ...]:
        """Return the arenas that are not used here any more, to be told to the peer."""
        return () if self._made is None else self._made.take_released()

    def release(self, arenas: Iterable[int]) -> None:
        """Take back what the peer has released, and let go of what it has let go of."""
        if self._made is not None:  # else neither has lent the other anything
            self._made.release(arenas)

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
            self._let_go()

    def forget(self) -> None:
        """In a forked child: let go of what is the parent's."""
        if self._made is not None:
            self._made.forget()


class DaemonMemory:
    """Large buffers that come from the host, and go to it.

    Args:
        make: Makes memory of its own, and what exchanges it over a channel.
        key: What this daemon leaves the host's end of its channel under.
        letterbox: The descriptor of the host's letterbox, if the host can share memory.
    """

    def __init__(
        self, make: Callable[[int], tuple[Pool, Exchange]], key: int = 0, letterbox: int = -1
    ) -> None:
        self._make = make
        self._exchange: LateExchange | None = None
        self._pool: Pool | None = None
        self.is_shared = False  # by the host
        self.patience: float | None = None  # seconds until trim() has something to do
        if letterbox < 0:
            return
        if not available():
            os.close(letterbox)  # without a letter, so that the host sends its buffers in frames
            return
        if (fd := leave_channel(letterbox, key)) >= 0:
            self._exchange = LateExchange(
                lambda: self._new_exchange(fd), in_frames, lambda: os.close(fd)
            )
            self.is_shared = True

    def _new_exchange(self, channel: int) -> Exchange:
        self._pool, exchange = self._make(channel)
        return exchange

    def views(self, buffers: Sequence[Buffer]) -> Sequence[memoryview | bytearray]:
        """Return the large buffers of a task; to be called for each task that comes.

        Raises:
            OSError: This process has no descriptor free.
        """
        if self._exchange is None:
            return writable(buffers)
        self.patience = _KEEP_WARM
        return self._exchange.views(buffers)

    def skip(self, buffers: Sequence[Buffer]) -> None:
        """Release the buffers of a task that runs elsewhere, or not at all."""
        if buffers:
            # What was shared may be gone: nobody waits for this task.
            with contextlib.suppress(ArenaError, OSError):
                self.views(buffers)

    def lend(self, buffers: Sequence[memoryview | list[bytes]]) -> tuple[Buffer, ...]:
        """Copy large buffers to where the host finds them; return what a frame says of them."""
        if self._exchange is None:
            return in_frames(buffers)
        self.patience = _KEEP_WARM
        return self._exchange.lend(buffers)

    def release(self, arenas: Sequence[int]) -> None:
        """Take back what the host has released, and let go of what it has let go of."""
        if self._exchange is not None:
            self.patience = _KEEP_WARM
            self._exchange.release(arenas)

    def take_released(self) -> tuple[int, ...]:
        """Return what is not used here any more. A handler of signals may call it."""
        if self._exchange is None or self.patience is None:  # then nothing is borrowed
            return ()
        return self._exchange.take_released()

    def trim(self) -> tuple[int, ...] | None:
        """Give what is free back to the system; ``patience`` has passed without any work.

        Returns:
            What is not used here any more; None if the host has nothing to be told.
        """
        if self._exchange is None or self.patience is None:
            return None
        import gc

        released = self._exchange.take_released()
        if self._exchange.is_borrowing and gc.isenabled():
            gc.collect()  # the frames of an error are often cycles; and there is nothing to do
            released += self._exchange.take_released()
        if self._pool is not None:
            self._pool.trim()
        # Nothing tells when a view dies that a task has left somewhere; ever more seldom is fine.
        borrowing = self._exchange.is_borrowing
        self.patience = min(2 * self.patience, _SELDOM) if borrowing else None
        return released if self._exchange.tell() or released else None

    def close(self) -> None:
        """Let go of everything."""
        if self._exchange is not None:
            self._exchange.close()
        if self._pool is not None:
            self._pool.close()


def leave_channel(slot: int, key: int) -> int:
    """Make a channel, leave one end in a letterbox, and return the other.

    Args:
        slot: Of the letterbox; it is closed.
        key: What the end is left under.

    Returns:
        A descriptor; -1 if the letterbox is full, or there is no descriptor free.
    """
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    except OSError:
        os.close(slot)
        return -1
    box = _socket.socket(fileno=slot)
    # As Channel.send() writes it, which is not imported before there is a large buffer.
    letter = b"\0" + key.to_bytes(8, "little") + bytes(8)
    end = theirs.fileno().to_bytes(4, sys.byteorder)  # an int of C
    try:
        box.sendmsg([letter], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, end)])
    except OSError:
        ours.close()
        return -1
    finally:
        theirs.close()
        box.close()
    return ours.detach()
