"""Carries descriptors of memory from one process to the other, and nothing else.

Each message is one packet: what it says, the number of an arena, its size; a descriptor beside it
unless it says that the arena is gone. The channel works in both directions at once.
"""

import _socket
import array
import contextlib
import errno
import os
import struct
from collections.abc import Iterator

from mirai_executor._typing import NamedTuple, Self

_MESSAGE = struct.Struct("<BQQ")
_ARENA, _CONSTANT, _GONE = range(3)
_ONE_FD = array.array("i", [0]).itemsize


class NewMemory(NamedTuple):
    """The peer has sent memory; whoever receives this closes ``fd``."""

    arena: int
    size: int
    fd: int
    writable: bool


class Gone(NamedTuple):
    """The peer will never name this arena again."""

    arena: int


class Channel:
    """One end; it never blocks. Each direction belongs to one thread at a time.

    Args:
        fd: A descriptor of this end, which the channel takes over.
    """

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(False)

    @classmethod
    def create(cls) -> tuple[Self, int]:
        """Return one end, and a descriptor of the other for the peer (the caller closes it)."""
        here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        return cls(here.detach()), there.detach()

    def fileno(self) -> int:
        """Return the descriptor, to wait on: readable when something has come."""
        return self._socket.fileno()

    def send(self, arena: int, size: int, fd: int, *, writable: bool) -> bool:
        """Send memory to the peer; False where that is impossible now, or for ever."""
        message = _MESSAGE.pack(_ARENA if writable else _CONSTANT, arena, size)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))
        try:
            self._socket.sendmsg([message], [rights])
        except OSError:  # full, or the peer has gone, which its link will tell
            return False
        return True

    def send_gone(self, arena: int) -> bool:
        """Tell the peer to let go of an arena; False where that is impossible now, or for ever."""
        try:
            self._socket.send(_MESSAGE.pack(_GONE, arena, 0))
        except OSError:
            return False
        return True

    def receive(self) -> Iterator[NewMemory | Gone]:
        """Return what has come. What raises while it is dealt with, comes again the next time.

        Raises:
            OSError: This process has no descriptor free (EMFILE); nothing is lost.
        """
        while (message := self._peek()) is not None:
            yield message
            # Only now does it leave the queue; without room for it, its descriptor is not made.
            self._socket.recv(_MESSAGE.size)

    def _peek(self) -> NewMemory | Gone | None:
        try:
            # Not socket.recv_fds(), which ignores its flags (Lib/socket.py of 3.11 to 3.13).
            data, ancillary, flags, _ = self._socket.recvmsg(
                _MESSAGE.size,
                _socket.CMSG_SPACE(_ONE_FD),
                _socket.MSG_PEEK | _socket.MSG_CMSG_CLOEXEC,
            )
        except BlockingIOError:
            return None
        except ConnectionResetError:
            # The peer has gone without reading everything; what it sent before is still here.
            return self._peek()
        if flags & _socket.MSG_CTRUNC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not data:
            return None
        kind, arena, size = _MESSAGE.unpack(data)
        if not ancillary:
            return Gone(arena)
        (fd,) = array.array("i", ancillary[0][2][:_ONE_FD])
        return NewMemory(arena, size, fd, kind == _ARENA)

    def close(self) -> None:
        """Close this end; memory that both sides have stays."""
        with contextlib.suppress(OSError):
            self._socket.close()
