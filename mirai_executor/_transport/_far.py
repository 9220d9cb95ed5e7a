"""Carries frames between machines, in chunks, so that what is urgent never waits for what is long.

Frames wait in two lanes. A chunk is cut off the first of them only when the kernel is about to
take it, and one of the urgent lane goes first, also between two chunks of a long frame. ::

    urgent    stop, kill, beat ──────────┐
                                         ├──► chunk ─► (tag) ─► kernel: about one chunk
    in order  tasks, results, all else ──┘

On a sealed link, the head of a chunk has a tag of its own: no memory is taken, and nothing is
waited for, on the word of somebody who does not know the keys.
"""

import _socket
import contextlib
import fcntl
import select
import struct
import time
from collections import deque

from mirai_executor._nameless import Pipes, new_poll
from mirai_executor._typing import TYPE_CHECKING

from ._stream import Bytes, Link, LinkClosedError

if TYPE_CHECKING:
    from mirai_executor.credentials import Opener, Sealer

    from ._compression import Packer

_HEAD = struct.Struct("<IB")  # bytes that follow, without their tag; what they are
_LAST, _URGENT, _DROPPED = 1, 2, 4  # the frame ends; it is one that overtakes; it will never end
_PACKED, _METHODS = 8, 16  # the chunk is compressed; it is no frame, but says how one may do that
_LARGEST = 1 << 20  # bytes that the other side may announce at once
_TAG = 32
_PIECE = 1 << 16  # bytes read at once; the rest of a longer chunk is read into its own memory

# A chunk is about what goes out in 2 to 20 ms, between these sizes: 65 ms at 1 Mbit/s.
_LEAST, _MOST = 1 << 13, 1 << 18
_QUICK, _SLOW = 2e-3, 20e-3  # seconds in which a full kernel has taken half of what it holds
# What is compressed is cut longer, by as much as it became shorter the last time; but what does
# not become shorter by a tenth is left as it is, to its end, as is what is short.
_GAIN, _MOST_GAIN, _SHORT = 1.1, 16.0, 256
_TCP = (_socket.AF_INET, _socket.AF_INET6)
_UNSENT = 0x894B  # SIOCOUTQNSD of Linux: the bytes that have not been sent even once
_NOT_SENT_LOWAT: int | None = getattr(_socket, "TCP_NOTSENT_LOWAT", None)


class PendingFrame:
    """A frame of which not all has been cut into chunks yet."""

    def __init__(self, pieces: tuple[Bytes, ...], flags: int) -> None:
        self._pieces = deque(memoryview(piece) for piece in pieces)
        self.left = sum(map(len, self._pieces))
        self.flags = flags
        self.has_begun = False
        self.gain = 1.0  # by compression; 0 if it is not worth it

    def cut(self, size: int) -> list[memoryview]:
        """Return the next bytes, at most so many."""
        self.has_begun = True
        chunk, pieces = [], self._pieces
        size = min(size, self.left)
        self.left -= size
        while size:
            piece = pieces[0]
            if len(piece) <= size:
                pieces.popleft()
            else:
                pieces[0], piece = piece[size:], piece[:size]
            chunk.append(piece)
            size -= len(piece)
        return chunk

    def give_back(self, data: memoryview) -> None:
        """Have the next chunk begin with this."""
        self._pieces.appendleft(data)
        self.left += len(data)


class FarLink(Link):
    """One end of a connection to another machine, once both sides have proved who they are.

    It never waits. Not thread-safe: one thread uses it.

    Args:
        link: What has carried the proof; taken over, with what has come or waits already.
        sealer: Seals the chunks that are sent; None if the connection needs no seals.
        opener: Opens those that come; likewise.

    Attributes:
        may_compress: Whether what is sent is compressed, if the line is slow and the other side
            has said which methods it knows.
    """

    def __init__(
        self, link: Link, sealer: "Sealer | None" = None, opener: "Opener | None" = None
    ) -> None:
        connection, outbox, came = link.give_away()
        super().__init__(connection, blocking=False)
        self._outbox, self._read = outbox, came
        self.heard = bool(came)
        self._sealer, self._opener = sealer, opener
        self._tag_size = 0 if sealer is None else _TAG
        # Sending
        self._first: deque[PendingFrame] = deque()
        self._in_order: deque[PendingFrame] = deque()
        self._chunk_size = _LEAST
        self._unasked = 0  # bytes that the kernel got since it was asked whether it is full
        self._full_since: float | None = None  # when the kernel would take no more
        self._takes_more = new_poll()
        self._takes_more.register(self._fileno_to_write(), select.POLLOUT)
        self._is_tcp = not isinstance(connection, Pipes) and connection.family in _TCP
        self._keep_kernel_short()
        self.may_compress = False
        self._is_slow = False
        self._packer: Packer | None = None
        # Receiving
        self._offered = b""  # the methods that the other side may compress by
        self._expected: tuple[int, int] | None = None  # the chunk whose head has come
        self._chunk: bytearray | None = None  # a long one, and how much of it has come
        self._chunk_at = 0
        self._parts: dict[int, bytearray] = {}  # of frames that are not complete, by lane

    # Sending

    @property
    def has_more_to_send(self) -> bool:
        """Whether :meth:`flush` has to be called once the socket is writable."""
        return bool(self._outbox or self._first or self._in_order)

    @property
    def backlog(self) -> int:
        """How many frames of :meth:`send` have not left yet."""
        return len(self._in_order)

    def send(self, *pieces: Bytes) -> None:
        """Send a frame behind all others, or keep what the kernel does not take yet.

        Args:
            pieces: The frame, in as many pieces as it has; they must not be changed.

        Raises:
            LinkClosedError: The other side is gone.
        """
        self._in_order.append(PendingFrame(pieces, 0))
        self.flush()

    def offer_compression(self) -> None:
        """Tell the other side, which does likewise, that it may compress what it sends.

        Raises:
            LinkClosedError: The other side is gone.
        """
        from ._compression import known  # hardly any link has a use for it

        self.may_compress, self._offered = True, known()
        if self._offered:
            self._first.append(PendingFrame((self._offered,), _METHODS))
            self.flush()

    @property
    def last(self) -> PendingFrame | None:
        """The last frame of :meth:`send`, for :meth:`withdraw`; None if it has left."""
        return self._in_order[-1] if self._in_order else None

    def send_first(self, *pieces: Bytes) -> None:
        """Send a frame that overtakes all of :meth:`send` which has not left yet.

        Raises:
            LinkClosedError: The other side is gone.
        """
        self._first.append(PendingFrame(pieces, _URGENT))
        self.flush()

    def withdraw(self, frame: PendingFrame) -> bool:
        """Send no more of a frame, which the other side will then never see; False if it is late.

        Only of the last one: those behind it may build on it.
        """
        if not self._in_order or self._in_order[-1] is not frame:
            return False
        self.drop(frame)
        return True

    def drop(self, frame: PendingFrame) -> None:
        """Send no more of a frame of :meth:`send` on which no other builds, unless it has left."""
        if frame in self._in_order and not frame.has_begun:
            self._in_order.remove(frame)
        elif frame in self._in_order:  # as the first one
            self._in_order[0] = dropped = PendingFrame((), _DROPPED)
            dropped.has_begun = True

    def flush(self) -> None:
        """Send as much as the kernel takes without becoming a queue of its own."""
        if self._full_since is not None:
            if not self._takes_more.poll(0):
                return
            self._adapt(time.monotonic() - self._full_since)
            self._full_since = None
        super().flush()
        while not self._outbox and (lane := self._first or self._in_order):
            if self._unasked > self._chunk_size:  # a sender of little need not ask each time
                if not self._takes_more.poll(0):
                    break
                self._unasked = 0
            self._outbox.append(memoryview(self._next_chunk(frame := lane[0])))
            if not frame.left:
                lane.popleft()
            super().flush()
        if self.has_more_to_send:
            self._full_since = time.monotonic()

    def _next_chunk(self, frame: PendingFrame) -> bytes:
        data, flags = self._cut(frame)
        size = sum(map(len, data))
        self._unasked += size
        head = _HEAD.pack(size, frame.flags | flags | (0 if frame.left else _LAST))
        if self._sealer is None:
            return b"".join((head, *data))
        return b"".join((head, self._sealer.seal(head), *data, self._sealer.seal(*data)))

    def _cut(self, frame: PendingFrame) -> tuple[list[memoryview], int]:
        """Return the data of the next chunk, compressed where that pays, and its flag for that."""
        packer, size = self._packer, self._chunk_size
        if packer is None or not self._is_slow or not frame.gain or frame.left < _SHORT:
            return frame.cut(size), 0
        data = b"".join(frame.cut(min(int(size * frame.gain), _LARGEST)))
        packed = packer.pack(data)
        frame.gain = min(len(data) / len(packed), _MOST_GAIN)
        if frame.gain >= _GAIN:
            return [memoryview(packed)], _PACKED
        frame.gain = 0
        whole = memoryview(data)
        if len(whole) > size:
            frame.give_back(whole[size:])
        return [whole[:size]], 0

    def _adapt(self, seconds: float) -> None:
        """Cut longer chunks where they leave at once, and shorter ones where they do not.

        A process that is busy comes late to give the kernel more: then that needs more at once.
        """
        size = self._chunk_size
        if seconds < _QUICK or self._has_run_empty():
            size = min(2 * size, _MOST)
            self._is_slow = False
        elif seconds > _SLOW:
            size = max(size // 2, _LEAST)
            self._is_slow = True
        if size != self._chunk_size:
            self._chunk_size = size
            self._keep_kernel_short()

    def _has_run_empty(self) -> bool:
        """Tell whether the kernel has sent all that it was given, as far as it says so."""
        if not self._is_tcp:
            return False
        try:
            unsent = fcntl.ioctl(self._fileno_to_write(), _UNSENT, bytes(4))
        except OSError:
            return False
        return not any(unsent)

    def _keep_kernel_short(self) -> None:
        """Have the kernel ask for more only when it holds less than a chunk that is not sent."""
        size = 2 * self._chunk_size  # it tells that it takes more once half of this is left
        if (keep_short := getattr(self._socket, "keep_short", None)) is not None:
            keep_short(size)  # a WebSocket, which has more than one kernel's
        elif self._is_tcp and _NOT_SENT_LOWAT is not None:
            self._open_socket().setsockopt(_socket.IPPROTO_TCP, _NOT_SENT_LOWAT, size)  # type: ignore[union-attr]  # TCP

    # Receiving

    def receive(self) -> Bytes | None:
        """Return the next frame; None if none has come.

        Raises:
            LinkClosedError: The other side is gone, and all that it had sent has been received;
                or it has sent what it must not.
        """
        try:
            while True:
                while (chunk := self._next_chunk_come()) is not None:
                    if (frame := self._add(*chunk)) is not None:
                        return frame
                if self._is_drained:
                    self._is_drained = False
                    return None
                self._take_in()
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkClosedError(str(error)) from error
        except MemoryError as error:
            raise LinkClosedError("not enough memory for a frame") from error

    def _take_in(self) -> None:
        """Read what has come."""
        connection = self._socket or self._open_socket()
        if self._chunk is not None:
            count = connection.recv_into(memoryview(self._chunk)[self._chunk_at :], 0)
            self._chunk_at += count
        else:
            came = self._recv(_PIECE)
            count = len(came)
            self._read += came
            # Less than was asked for is all there is: asking again would cost as much.
            self._is_drained = count < _PIECE
        if not count:
            raise LinkClosedError("the other side has closed the link")
        self.heard = True

    def _next_chunk_come(self) -> tuple[memoryview, int] | None:
        """Return the next chunk that is here as a whole, and what it is."""
        if self._expected is None:
            self._expected = self._read_head()
        if self._expected is None:
            return None
        size, flags = self._expected
        end = size + self._tag_size
        if (long := self._chunk) is not None:
            if self._chunk_at < end:
                return None
            self._chunk = None
        elif len(self._read) >= end:
            long = self._read[:end]
            del self._read[:end]
        else:
            if end > _PIECE:
                self._chunk = bytearray(end)
                self._chunk_at = len(self._read)
                self._chunk[: self._chunk_at] = self._read
                self._read = bytearray()
            return None
        self._expected = None
        return (memoryview(long) if self._opener is None else self._opener.open(long)), flags

    def _read_head(self) -> tuple[int, int] | None:
        end = _HEAD.size + self._tag_size
        if len(self._read) < end:
            return None
        head: Bytes = self._read[:end]
        del self._read[:end]
        if self._opener is not None:
            head = self._opener.open(head)
        size, flags = _HEAD.unpack(head)
        if size > _LARGEST:
            raise LinkClosedError(f"the other side announced a chunk of {size} bytes")
        return size, flags

    def _add(self, chunk: memoryview, flags: int) -> Bytes | None:
        """Add a chunk to its frame; return that if it is complete."""
        if flags & _METHODS:
            self._hear_of_methods(bytes(chunk))
            return None
        if flags & _PACKED:
            chunk = self._unpacked(chunk)
        lane = flags & _URGENT
        begun = self._parts.pop(lane, None)
        if flags & _DROPPED:
            return None
        if len(chunk) + (0 if begun is None else len(begun)) > self.largest:
            raise LinkClosedError(f"the other side sent a frame of over {self.largest} bytes")
        if begun is None and flags & _LAST:
            return chunk
        # It grows with what comes, whatever the other side might say of its length.
        begun = bytearray() if begun is None else begun
        begun += chunk
        if flags & _LAST:
            return begun
        self._parts[lane] = begun
        return None

    def _hear_of_methods(self, theirs: bytes) -> None:
        if not self.may_compress or self._packer is not None:
            return
        from ._compression import Packer

        if not self._offered:
            self.offer_compression()
        with contextlib.suppress(ValueError):  # this side knows none of these
            self._packer = Packer(theirs)

    def _unpacked(self, chunk: memoryview) -> memoryview:
        from ._compression import unpack

        return unpack(chunk, self._offered, _LARGEST)

    # Ends

    def close(self) -> None:
        """Close this end, and drop what has not been sent."""
        super().close()
        self._first.clear()
        self._in_order.clear()
