"""What a host and its fork server say to each other, over a socket pair of their own.

::

    host                                 fork server
      | -- you are process 4711 ----------> |  (else it does not become one)
      | -- the first one's descriptors ---> |  (it may still be importing)
      | <-------------- first daemon: 4712  |
      | -- fork, with descriptors --------> |
      | <------------------ daemon: 4713    |
      | -- reap 4713 ---------------------> |
      | <------------------- its status     |
      | -- (end of file) -----------------> |  it ends

One question at a time; each has one answer, a number.
"""

import _socket  # the module around it takes milliseconds to import
import array
import os
import struct
from collections.abc import Sequence

from mirai_executor._typing import NamedTuple, Self

IDENTITY, FORK, REAP = 1, 2, 3

_QUESTION = struct.Struct("<Bi")  # what is asked, and of which process
_ANSWER = struct.Struct("<i")  # an exit status as subprocess has it, a pid, or minus an errno
_PATIENCE = 2.0  # seconds for an answer that takes milliseconds
_MOST_FDS = 16


class ServerLostError(ConnectionError):
    """The fork server is gone, or does not answer; what it was handed may still be in use."""


class Asking:
    """The host's end. Not thread-safe: one thread asks."""

    def __init__(self, end: _socket.socket, patience: float) -> None:
        self._socket = end
        self._socket.settimeout(patience)

    @classmethod
    def create(cls, patience: float = _PATIENCE) -> tuple[Self, int]:
        """Return an end, and the descriptor of the other one (the caller closes it).

        Args:
            patience: Seconds that an answer may take.
        """
        # Packets: a question arrives whole, with the descriptors that belong to it.
        here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        return cls(here, patience), there.detach()

    def tell_identity(self, pid: int) -> None:
        """Tell the other process which one it has to be."""
        self._send(IDENTITY, pid)

    def order(self, fds: Sequence[int]) -> None:
        """Ask for the first daemon, which gets copies of these descriptors; do not wait for it.

        Raises:
            ServerLostError: There is no server, nor will there be one.
        """
        self._send(FORK, 0, fds)

    def first_daemon(self) -> int:
        """Return the pid of the first daemon, which was ordered.

        Raises:
            ServerLostError: There is no server.
        """
        return self._answer()

    def fork(self, fds: Sequence[int]) -> int:
        """Have a daemon forked that gets copies of these descriptors; return its pid.

        Raises:
            OSError: It could not be forked. If it is a ServerLostError, perhaps it was.
        """
        self._send(FORK, 0, fds)
        pid = self._answer()
        if pid <= 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def reap(self, pid: int) -> int:
        """Have a daemon that has ended collected; return its status.

        Raises:
            ServerLostError: There is nobody left to collect it.
        """
        self._send(REAP, pid)
        return self._answer()

    def close(self) -> None:
        self._socket.close()

    def _send(self, what: int, pid: int, fds: Sequence[int] = ()) -> None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([_QUESTION.pack(what, pid)], rights, _socket.MSG_NOSIGNAL)
        except (ConnectionError, TimeoutError) as error:
            raise ServerLostError(str(error)) from error

    def _answer(self) -> int:
        try:
            data = self._socket.recv(_ANSWER.size)
        except (ConnectionError, TimeoutError) as error:
            raise ServerLostError(str(error)) from error
        if not data:
            raise ServerLostError("it has ended")
        (answer,) = _ANSWER.unpack(data)
        return int(answer)


class Question(NamedTuple):
    """What the host asks for."""

    what: int
    pid: int
    fds: list[int]


class Answering:
    """The fork server's end.

    Args:
        fd: The descriptor that :meth:`Asking.create` returned.
    """

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        # Where the host has a default timeout for sockets, its end was made as one with a
        # timeout, which the kernel knows as one that does not wait; and so was this one.
        self._socket.setblocking(True)
        os.set_inheritable(fd, False)

    def next(self) -> Question | None:
        """Wait for a question; None if none will come any more."""
        fds = array.array("i")
        room = _socket.CMSG_LEN(_MOST_FDS * fds.itemsize)
        # Not socket.recv_fds: it drops the flags (python/cpython, Lib/socket.py).
        data, ancillary, _, _ = self._socket.recvmsg(
            _QUESTION.size, room, _socket.MSG_CMSG_CLOEXEC
        )
        for _, _, content in ancillary:
            fds.frombytes(content)
        if not data:
            return None
        what, pid = _QUESTION.unpack(data)
        return Question(what, pid, list(fds))

    def answer(self, number: int) -> None:
        """Answer the last question."""
        self._socket.send(_ANSWER.pack(number), _socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()
