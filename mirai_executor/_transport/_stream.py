"""Carries frames over a connected stream socket, with no thread between the two ends.

A frame is its length in eight bytes, and the bytes. A daemon's end blocks; the host's end never
does: what does not fit into the kernel's buffer waits in the link until the socket is writable.
"""

import _socket  # the module around it takes milliseconds to import
import os
import select
import struct
import sys
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice

from mirai_executor._nameless import Pipes, new_poll
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    import selectors
    from typing import TypeAlias

    from mirai_executor._waiting import Reactor

    from ._tls import TlsSocket

    Connection: TypeAlias = _socket.socket | Pipes | TlsSocket

Bytes = bytes | bytearray | memoryview

_LENGTH = struct.Struct("<Q")
_HEAD = _LENGTH.size
# A program may have given SIGPIPE its default action: to end it.
_FLAGS = int(getattr(_socket, "MSG_NOSIGNAL", 0))  # as in _nowait
_WRITE = 2  # selectors.EVENT_WRITE, whose module a daemon has no other use for
_MOST_GATHERED = 16  # pieces that are sent at once, as POSIX grants
_PIECE = 1 << 16  # bytes read at once; a longer frame is read straight into its own memory
# Up to so many bytes, memory that cannot be written to will do: there are no large buffers inside.
_READ_ONLY = 1 << 17


def _closed() -> ConnectionError:
    return ConnectionError("the other side has closed the link")


class LinkClosedError(ConnectionError):
    """The other side is gone, or this side has been closed."""


class Link:
    """One end of a connection. Not thread-safe: one thread uses it.

    Args:
        connection: A connected stream socket, its descriptor, or two pipes; owned by the link from
            now on.
        blocking: Whether :meth:`send` and :meth:`receive` wait. A daemon's do; a host's must not.

    Attributes:
        heard: Set whenever something comes. Who watches over the other side clears it.
        largest: The other side is cut off if it announces a frame of more bytes.
    """

    def __init__(self, connection: "int | Connection", *, blocking: bool) -> None:
        if isinstance(connection, int):
            connection = _socket.socket(fileno=connection)
        self._socket: Connection | None = connection
        self._recv: Callable[[int], bytes] = connection.recv
        self._send: Callable[[memoryview], int]  # of an end that does not wait, as the next
        self._gather: Callable[[list[memoryview]], int] | None = None  # several at once
        self._socket.setblocking(blocking)
        if not blocking:
            self._do_not_wait()
        self.heard = False
        self.largest = sys.maxsize
        self._blocking = blocking
        self._made_poll: select.poll | None = None
        self._outbox: deque[memoryview] = deque()
        self._read = bytearray()  # of frames that are not complete
        self._long: bytearray | None = None  # a long frame, and how much of it has come
        self._long_at = 0
        self._expects_long = False  # the last frame was
        self._is_drained = False  # nothing more has come, as far as this end knows
        _links.add(self)

    def fileno(self) -> int:
        """Return the descriptor to wait for, until something has come."""
        return self._open_socket().fileno()

    def _fileno_to_write(self) -> int:
        connection = self._open_socket()
        return getattr(connection, "fileno_to_write", connection.fileno)()

    def _do_not_wait(self) -> None:
        """Choose the calls that return at once; with the GIL in hand, if they can."""
        from mirai_executor import _nowait  # daemons, who wait, do without it

        connection = self._open_socket()
        if isinstance(connection, Pipes):
            self._recv = partial(_nowait.read, connection.fileno())
            self._send = partial(_nowait.write, connection.fileno_to_write())
            self._gather = partial(os.writev, connection.fileno_to_write())
        elif isinstance(connection, _socket.socket):
            self._recv = partial(_nowait.receive, connection)
            self._send = partial(_nowait.send, connection, flags=_FLAGS)
        else:
            self._send = connection.send

    # Sending

    @property
    def has_more_to_send(self) -> bool:
        """Whether :meth:`flush` has to be called once the socket is writable."""
        return bool(self._outbox)

    def send(self, *pieces: Bytes) -> None:
        """Send a frame, or keep what the kernel does not take yet.

        Args:
            pieces: The frame, in as many pieces as it has. A large frame is not copied: who does
                not wait must not change it.

        Raises:
            LinkClosedError: The other side is gone.
        """
        size = sum(map(len, pieces))
        pieces = (_LENGTH.pack(size), *pieces)
        if size < _PIECE:
            pieces = (b"".join(pieces),)
        if not self._blocking:
            self._outbox.extend(map(memoryview, pieces))
            self.flush()
            return
        connection = self._socket or self._open_socket()
        try:
            if isinstance(connection, Pipes):
                connection.send_all_of(pieces)
                return
            for piece in pieces:
                connection.sendall(piece, _FLAGS)
        except OSError as error:
            raise LinkClosedError(str(error)) from error

    def send_at_once(self, frame: bytes) -> bool:
        """Send a short frame if the other side has room for it; False if that is to be awaited.

        Only over two pipes, which take it as a whole or not at all, whatever strikes meanwhile.

        Raises:
            LinkClosedError: The other side is gone.
        """
        pipes = self._open_socket()
        assert isinstance(pipes, Pipes)  # noqa: S101 - for the type checker
        try:
            return pipes.send_at_once(_LENGTH.pack(len(frame)) + frame)
        except OSError as error:
            raise LinkClosedError(str(error)) from error

    def flush(self) -> None:
        """Send as much as the kernel takes of what is kept."""
        outbox = self._outbox
        self._open_socket()
        try:
            while outbox:
                if self._gather is not None and len(outbox) > 1:
                    # In one: the other side would be woken up for the length alone.
                    sent = self._gather(list(islice(outbox, _MOST_GATHERED)))
                else:
                    sent = self._send(outbox[0])
                while outbox and sent >= len(outbox[0]):
                    sent -= len(outbox.popleft())
                if sent:
                    outbox[0] = outbox[0][sent:]
        except BlockingIOError:
            pass
        except OSError as error:
            raise LinkClosedError(str(error)) from error

    def follow(self, selector: "selectors.BaseSelector | Reactor") -> None:
        """Have a selector that waits for this link tell when it takes more, if it has more."""
        reads, writes = self.fileno(), self._fileno_to_write()
        key = selector.get_map().get(reads)
        if key is None:
            return  # nothing is expected of the other side any more
        if writes != reads:
            if self.has_more_to_send is not (writes in selector.get_map()):
                if self.has_more_to_send:
                    selector.register(writes, _WRITE, key.data)
                else:
                    selector.unregister(writes)
        elif self.has_more_to_send is not bool(key.events & _WRITE):
            selector.modify(reads, key.events ^ _WRITE, key.data)

    def leave(self, selector: "selectors.BaseSelector | Reactor") -> None:
        """Have a selector wait for this link no more."""
        reads, writes = self.fileno(), self._fileno_to_write()
        selector.unregister(reads)
        if writes in selector.get_map():
            selector.unregister(writes)

    # Receiving

    def wait(self, seconds: float) -> bool:
        """Wait for the next frame, or a part of it; False if nothing has come in time."""
        return self._has_begun() or bool(self._poll().poll(1000 * seconds))

    def _has_begun(self) -> bool:
        return bool(self._read) or self._long is not None

    def _poll(self) -> "select.poll":
        if self._made_poll is None:
            self._made_poll = new_poll()
            self._made_poll.register(self._open_socket().fileno(), select.POLLIN)
        return self._made_poll

    def receive(self) -> bytes | bytearray | memoryview | None:
        """Return the next frame; None if none has come, which a blocking link waits for.

        Raises:
            LinkClosedError: The other side is gone, and all that it had sent has been received;
                or it has sent what it must not.
        """
        frame: bytes | bytearray | None = None
        try:
            while frame is None:
                if self._read or self._long is not None:
                    frame = self._next_frame()
                if frame is None:
                    if self._is_drained:
                        self._is_drained = False
                        return None
                    frame = self._take()
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkClosedError(str(error)) from error
        return frame

    def _take(self) -> bytes | None:
        """Read what has come; return it if it is one frame, as nearly always."""
        sock = self._socket or self._open_socket()
        if self._long is not None:
            count = sock.recv_into(memoryview(self._long)[self._long_at :], 0)
            if not count:
                raise _closed()
            self.heard = True
            self._long_at += count
            return None
        if self._expects_long and not self._read:
            return self._take_long()
        came = self._recv(_PIECE)
        if not (count := len(came)):
            raise _closed()
        self.heard = True
        # Less than was asked for is all there is: asking again would cost as much.
        self._is_drained = count < _PIECE and not self._blocking
        if not self._read and came[:_HEAD] == _LENGTH.pack(max(count - _HEAD, 0)):
            return came[_HEAD:]
        self._read += came
        return None

    def _take_long(self) -> bytes | None:
        """Read the length alone, then the frame into its own memory, if all of it has come."""
        self._read += self._recv(_HEAD)
        if not self._read:
            raise _closed()
        self.heard = True
        if len(self._read) < _HEAD:
            return None
        (length,) = _LENGTH.unpack(self._read)
        self._expects_long = length > _PIECE
        if not _PIECE < length <= min(_READ_ONLY, self.largest):
            return None
        came = self._recv(length)
        if len(came) == length:
            self._read.clear()
            return came
        self._read += came
        return None

    def _next_frame(self) -> bytes | bytearray | None:
        if (long := self._long) is not None:
            if self._long_at < len(long):
                return None
            self._long = None
            return long
        read = self._read
        if len(read) < _HEAD:
            return None
        (length,) = _LENGTH.unpack_from(read)
        end = _HEAD + length
        if len(read) >= end:
            frame = bytes(memoryview(read)[_HEAD:end])
            del read[:end]
            return frame
        if length > self.largest:
            raise LinkClosedError(f"the other side announced a frame of {length} bytes")
        if length > _PIECE:
            try:
                self._long = bytearray(length)
            except (MemoryError, OverflowError) as error:
                raise LinkClosedError(
                    f"not enough memory for a frame of {length} bytes"
                ) from error
            self._expects_long = True
            self._long_at = len(read) - _HEAD
            self._long[: self._long_at] = memoryview(read)[_HEAD:]
            self._read = bytearray()
        return None

    # Ends

    def close(self) -> None:
        """Close this end, and drop what has not been sent."""
        _links.discard(self)
        if self._socket is not None:
            self._socket.close()
            self._socket = self._made_poll = None
        self._outbox.clear()

    def give_away(self) -> "tuple[Connection, deque[memoryview], bytearray]":
        """Return the connection, what it has not sent, and what has come, for another to go on."""
        connection = self._open_socket()
        _links.discard(self)
        self._socket = self._made_poll = None
        return connection, self._outbox, self._read

    def _open_socket(self) -> "Connection":
        if self._socket is None:
            raise LinkClosedError("the link has been closed, or belongs to another process")
        return self._socket


_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


def _close_all() -> None:
    """In a forked child: the links are the parent's, and a copy would keep them open."""
    for link in list(_links):
        link.close()


os.register_at_fork(after_in_child=_close_all)
