"""Makes a WebSocket behave like a plain socket: bytes in, bytes out (RFC 6455).

::

    Link ── WebSocket ── (TlsSocket) ── socket ─── ... the same at the other side

What a frame carries is passed on as it comes, so that no announced length reserves memory. Pings
are answered one at a time, and until a peer is admitted, it may send a few KiB and no more.
"""

import contextlib
import math
import secrets
import socket
import struct

from mirai_executor._waiting import Deadline
from mirai_executor.urls import Url

from ._tls import TlsSocket
from ._upgrade import UpgradeError, answer_to, check_answer, end_of_head, request_for

__all__ = ["WebSocket", "dial_websocket"]

_PIECE = 1 << 16  # bytes that one frame carries, or that are read at once
_ALLOWANCE = 4096  # bytes of frames that a peer may send before it is admitted
_NONCE_SIZE = 16
_FINAL = 0x80  # also, in the next byte: "masked"
_MORE, _BINARY, _CLOSE, _PING, _PONG = 0, 2, 8, 9, 10
_CONTROL = 8  # opcodes from here on
_LONGEST_CONTROL = 125
_SHORT, _LONG = struct.Struct(">H"), struct.Struct(">Q")
_KEY_SIZE = 4
# A program may have given SIGPIPE its default action: to end it.
_FLAGS = int(getattr(socket, "MSG_NOSIGNAL", 0))

Stream = socket.socket | TlsSocket


class WebSocket:
    """One end of a WebSocket.

    Args:
        stream: What carries it; owned from now on.
        path: The path that a daemon has to ask for, at a host; None at a daemon, who has asked.
        begun: What has been received of it already.
    """

    def __init__(self, stream: Stream, path: str | None = None, begun: bytes = b"") -> None:
        self._stream = stream
        self._path = path
        self._is_client = path is None
        self._blocks = True
        self._allowance: float = math.inf if self._is_client else _ALLOWANCE
        self._raw = begun  # what was read of the stream, from _at on
        self._at = 0
        self._left = 0  # bytes of the current frame that have not been passed on
        self._key = b""  # its mask, as the next byte needs it
        self._is_over = False
        self._pending = memoryview(b"")  # a frame that the stream has not taken yet
        self._carried = 0  # bytes of the user's in it
        self._pong = b""

    def shake_hands(self) -> None:
        """At a host, go on with the opening handshake until it is done.

        Raises:
            BlockingIOError: It goes on once something has come.
            OSError: It has failed.
        """
        assert self._path is not None  # noqa: S101 - for the type checker: this is a host
        try:
            while not (end := end_of_head(self._raw)):
                if not (came := self._stream.recv(_PIECE)):
                    raise ConnectionError("the other side left before it asked for a WebSocket")
                self._raw += came
            answer = answer_to(self._raw[:end], self._path)
        except UpgradeError as error:
            with contextlib.suppress(OSError):
                self._stream.send(memoryview(error.reply), _FLAGS)
            raise
        if self._stream.send(memoryview(answer), _FLAGS) < len(answer):
            raise ConnectionError("the other side does not read")
        self._at = end

    @property
    def certificate(self) -> bytes | None:
        """What :class:`TlsSocket` has; None without TLS."""
        return getattr(self._stream, "certificate", None)

    def trust(self) -> None:
        """Let the other side send as much as it likes: it has been admitted."""
        self._allowance = math.inf

    # As a socket has it

    @property
    def family(self) -> int:
        """The family of its addresses."""
        return self._stream.family

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option of the socket below."""
        self._stream.setsockopt(level, option, value)

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        return self._stream.fileno()

    def settimeout(self, seconds: float) -> None:
        """Wait for so long in each call."""
        self._blocks = True
        self._stream.settimeout(seconds)

    def setblocking(self, blocking: bool, /) -> None:
        """Wait in calls, or do not."""
        self._blocks = blocking
        self._stream.setblocking(blocking)

    def close(self) -> None:
        """Close the connection, without a word."""
        self._stream.close()

    # Receiving

    def recv(self, size: int, _flags: int = 0, /) -> bytes:
        """Receive up to ``size`` bytes; all that is there if this end does not wait."""
        found: list[bytes] = []
        while size:
            if piece := self._next_piece(size):
                found.append(piece)
                size -= len(piece)
                continue
            if self._is_over or (found and self._blocks):
                break
            try:
                self._fill()
            except BlockingIOError:
                if not found:
                    raise
                break
        return b"".join(found)

    def recv_into(self, buffer: memoryview, _size: int = 0, _flags: int = 0, /) -> int:
        """Receive into a buffer; return how many bytes."""
        data = self.recv(min(len(buffer), _PIECE))
        buffer[: len(data)] = data
        return len(data)

    def _fill(self) -> None:
        came = self._stream.recv(int(min(_PIECE, self._allowance)))
        if not came:
            self._is_over = True
        self._allowance -= len(came)
        if not self._allowance:
            raise ConnectionError("the other side sends too much before it is admitted")
        self._raw = self._raw[self._at :] + came
        self._at = 0

    def _next_piece(self, size: int) -> bytes:
        """Return some bytes that have come, of one frame; nothing if more has to be read."""
        while not self._left:
            if self._is_over or not self._begin_frame():
                return b""
        piece = self._raw[self._at : self._at + min(size, self._left)]
        self._at += len(piece)
        self._left -= len(piece)
        if self._key:
            piece = _masked(piece, self._key)
            turn = len(piece) % _KEY_SIZE
            self._key = self._key[turn:] + self._key[:turn]
        return piece

    def _begin_frame(self) -> bool:
        """Read the head of the next frame, or a whole frame of control; False if it is not here.

        Raises:
            ConnectionError: RFC 6455 does not allow it, or it carries text.
        """
        raw, at = self._raw, self._at
        if len(raw) < at + 2:
            return False
        kind, length = raw[at] & 0x0F, raw[at + 1] & 0x7F
        is_masked = bool(raw[at + 1] & _FINAL)
        if raw[at] & 0x70 or is_masked is self._is_client:
            raise ConnectionError("the other side speaks another dialect of WebSockets")
        at += 2
        if length > _LONGEST_CONTROL:
            number = _SHORT if length == _LONGEST_CONTROL + 1 else _LONG
            if len(raw) < at + number.size:
                return False
            (length,) = number.unpack_from(raw, at)
            at += number.size
        key = raw[at : at + _KEY_SIZE] if is_masked else b""
        at += len(key)
        if is_masked and len(key) < _KEY_SIZE:
            return False
        if kind >= _CONTROL:
            return self._take_control(kind, length, key, at)
        if kind not in (_MORE, _BINARY):
            raise ConnectionError("the other side sends text where bytes were agreed on")
        self._at, self._left, self._key = at, length, key
        return True

    def _take_control(self, kind: int, length: int, key: bytes, at: int) -> bool:
        if length > _LONGEST_CONTROL or not self._raw[self._at] & _FINAL:
            raise ConnectionError("the other side sends a frame of control that is too long")
        if len(self._raw) < at + length:
            return False
        content = self._raw[at : at + length]
        self._at = at + length
        if kind == _CLOSE:
            self._is_over = True
        elif kind == _PING:
            self._answer_ping(_masked(content, key) if key else content)
        elif kind != _PONG:
            raise ConnectionError("the other side sends a frame of no known kind")
        return True

    def _answer_ping(self, content: bytes) -> None:
        """Send a pong, now or with the next frame; of several that wait, only the last."""
        self._pong = self._frame(_PONG, content)
        if self._pending:
            return
        self._pending, self._pong = memoryview(self._pong), b""
        with contextlib.suppress(BlockingIOError):  # the next frame follows it
            self._flush()

    # Sending

    def send(self, data: memoryview, _flags: int = 0, /) -> int:
        """Send the beginning of some data; return how much. Who has to wait, sends it again."""
        self._flush()
        if not self._carried:
            piece = data[:_PIECE]
            frame = self._pong + self._frame(_BINARY, piece)
            self._pending, self._pong, self._carried = memoryview(frame), b"", len(piece)
            self._flush()
        count, self._carried = self._carried, 0
        return count

    def _flush(self) -> None:
        """Send what is pending.

        Raises:
            BlockingIOError: Some of it has to wait.
        """
        while self._pending:
            self._pending = self._pending[self._stream.send(self._pending, _FLAGS) :]

    def sendall(self, data: bytes | bytearray | memoryview, _flags: int = 0, /) -> None:
        """Send all of it; for one that blocks."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest) :]

    def _frame(self, kind: int, data: bytes | memoryview) -> bytes:
        length, masks = len(data), _FINAL if self._is_client else 0
        if length <= _LONGEST_CONTROL:
            head = bytes([_FINAL | kind, masks | length])
        elif length < 1 << 16:
            head = bytes([_FINAL | kind, masks | 126]) + _SHORT.pack(length)
        else:
            head = bytes([_FINAL | kind, masks | 127]) + _LONG.pack(length)
        if not masks:
            return b"".join((head, data))
        key = secrets.token_bytes(_KEY_SIZE)
        return b"".join((head, key, _masked(data, key)))


def _masked(data: bytes | memoryview, key: bytes) -> bytes:
    """Return data with a mask put on, or taken off: as numbers, which Python computes in C."""
    size = len(data)
    mask = (key * (size // _KEY_SIZE + 1))[:size]
    masked = int.from_bytes(data, "little") ^ int.from_bytes(mask, "little")
    return masked.to_bytes(size, "little")


def dial_websocket(stream: Stream, url: Url, deadline: Deadline) -> WebSocket:
    """Ask for a WebSocket over a connection, and return it.

    Args:
        stream: The connection, with TLS if there is any; it blocks.
        url: The address.
        deadline: When to give up.

    Raises:
        OSError: The other side offers none, or takes too long.
    """
    nonce = secrets.token_bytes(_NONCE_SIZE)
    stream.sendall(request_for(url, nonce))
    head = b""
    while not (end := end_of_head(head)):
        if not (left := deadline.left):
            raise TimeoutError
        stream.settimeout(left)
        if not (came := stream.recv(_PIECE)):
            raise ConnectionError("the other side closed the connection")
        head += came
    check_answer(head[:end], nonce)
    return WebSocket(stream, begun=head[end:])
