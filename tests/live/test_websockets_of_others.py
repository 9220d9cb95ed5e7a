"""Not only our own daemons may speak: NNG by itself does, and any client of RFC 6455."""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor._transport import dial
from mirai_executor._transport._upgrade import request_for
from mirai_executor.urls import Url

pynng = pytest.importorskip("pynng", reason="there is no wheel of it for Python 3.15")
from mirai_executor._transport import Pump, UpgradeRequest, WebSocket  # noqa: E402

pytestmark = [pytest.mark.live, pytest.mark.transports, pytest.mark.own_url]

SECONDS = 20.0
SIZES = [1, 125, 126, 65_536, 300_000]
lib, ffi = pynng.lib, pynng.ffi


def check(code: int) -> None:
    assert code == 0, ffi.string(lib.nng_strerror(code))


class Nng:
    """What NNG calls a stream: one WebSocket."""

    def __init__(self, pointer: Any) -> None:
        self._stream = pointer

    def _do(self, call: Any, data: Any) -> int:
        with operation() as aio:
            iov = ffi.new("nng_iov *", (ffi.from_buffer(data), len(data)))
            check(lib.nng_aio_set_iov(aio, 1, iov))
            call(self._stream, aio)
            lib.nng_aio_wait(aio)
            check(lib.nng_aio_result(aio))
            return int(lib.nng_aio_count(aio))

    def sendall(self, data: bytes) -> None:
        while data:
            data = data[self._do(lib.nng_stream_send, data) :]

    def recv(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self._do(lib.nng_stream_recv, buffer)])

    def close(self) -> None:
        lib.nng_stream_close(self._stream)
        lib.nng_stream_free(self._stream)


@contextlib.contextmanager
def operation() -> Iterator[Any]:
    pointer = ffi.new("nng_aio **")
    check(lib.nng_aio_alloc(pointer, ffi.NULL, ffi.NULL))
    lib.nng_aio_set_timeout(pointer[0], round(1000 * SECONDS))
    try:
        yield pointer[0]
    finally:
        lib.nng_aio_free(pointer[0])


def output(aio: Any) -> Nng:
    lib.nng_aio_wait(aio)
    check(lib.nng_aio_result(aio))
    return Nng(ffi.cast("nng_stream *", lib.nng_aio_get_output(aio, 0)))


def admit(ours: WebSocket, theirs: Any) -> None:
    """Trust the other side, and tell it so, as the last word of the handshake does."""
    ours.trust()
    ours.sendall(b"?")
    assert theirs.recv(100).endswith(b"?")


def accepted(connection: socket.socket) -> WebSocket:
    """Take the request of a peer that has sent it, or is about to."""
    connection.settimeout(SECONDS)
    request = UpgradeRequest(connection, "/mirai")
    request.shake_hands()
    pump = Pump()
    ours = WebSocket(pump, connection, request.begun, is_client=False)
    pump.finish()
    ours.settimeout(SECONDS)
    return ours


@contextlib.contextmanager
def nng_dials() -> Iterator[tuple[Any, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pointer = ffi.new("nng_stream_dialer **")
        url = f"ws://127.0.0.1:{server.getsockname()[1]}/mirai"
        check(lib.nng_stream_dialer_alloc(pointer, url.encode()))
        with operation() as aio:
            lib.nng_stream_dialer_dial(pointer[0], aio)
            connection, _ = server.accept()
            ours = accepted(connection)
            theirs = output(aio)
        theirs.sendall(b"!")
        assert ours.recv(1) == b"!"
        admit(ours, theirs)
        with contextlib.closing(ours), contextlib.closing(theirs):
            yield ours, theirs
        lib.nng_stream_dialer_free(pointer[0])


@contextlib.contextmanager
def we_dial() -> Iterator[tuple[Any, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    pointer = ffi.new("nng_stream_listener **")
    url = f"ws://127.0.0.1:{port}/mirai"
    check(lib.nng_stream_listener_alloc(pointer, url.encode()))
    check(lib.nng_stream_listener_listen(pointer[0]))
    with operation() as aio:
        lib.nng_stream_listener_accept(pointer[0], aio)
        ours = dial(Url.parse(url), SECONDS)
        ours.settimeout(SECONDS)
        theirs = output(aio)
    with contextlib.closing(ours), contextlib.closing(theirs):
        yield ours, theirs
    lib.nng_stream_listener_free(pointer[0])


def receive(end: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = end.recv(count - len(data))
        assert piece, "the other side has closed the connection"
        data += piece
    return data


@pytest.mark.parametrize("connected", [nng_dials, we_dial])
def test_bytes_go_both_ways(connected: Any) -> None:
    with connected() as ends:
        for sender, receiver in (ends, ends[::-1]):
            for size in SIZES:
                data = os.urandom(size)
                thread = threading.Thread(target=sender.sendall, args=(data,))
                thread.start()
                assert receive(receiver, size) == data
                thread.join()


@pytest.mark.parametrize("connected", [nng_dials, we_dial])
def test_the_end_of_theirs_is_noticed(connected: Any) -> None:
    with connected() as (ours, theirs):
        theirs.sendall(b"the last word")
        assert receive(ours, 13) == b"the last word"
        lib.nng_stream_close(theirs._stream)
        assert ours.recv(100) == b""


# Clients of RFC 6455, byte by byte


def frame(kind: int, content: bytes, *, final: bool = True) -> bytes:
    key = b"\x11\x22\x33\x44"
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(content))
    head = bytes([0x80 * final | kind])
    if len(content) < 126:
        return head + bytes([0x80 | len(content)]) + key + masked
    return head + b"\xfe" + struct.pack(">H", len(content)) + key + masked


Pair = tuple[socket.socket, WebSocket]


@pytest.fixture
def peer() -> Iterator[Pair]:
    """A client that can do anything, and the host's end, after the opening handshake."""
    raw, stream = socket.socketpair()
    with raw:
        raw.settimeout(SECONDS)
        raw.sendall(request_for(Url.parse("ws://node:5555/mirai"), b"the sample nonce"))
        with contextlib.closing(accepted(stream)) as end:
            assert raw.recv(1000).startswith(b"HTTP/1.1 101")
            yield raw, end


def test_frames_in_any_pieces_are_their_bytes(peer: Pair) -> None:
    raw, end = peer
    sent = [
        frame(2, b"fra", final=False),
        frame(9, b"ping"),
        frame(0, b"gments, " + b"x" * 300),
        frame(10, b"a pong that nobody asked for"),
        frame(2, b", whole"),
    ]
    for number in b"".join(sent):
        raw.sendall(bytes([number]))
    expected = b"fragments, " + b"x" * 300 + b", whole"
    assert receive(end, len(expected)) == expected
    assert raw.recv(100) == b"\x8a\x04ping"
    end.sendall(b"answer")
    assert raw.recv(100) == b"\x82\x06answer"


def test_who_closes_says_so_behind_the_last_word(peer: Pair) -> None:
    raw, end = peer
    raw.sendall(frame(2, b"!"))
    assert end.recv(1) == b"!"
    end.trust()
    end.sendall(b"last")
    end.close()
    assert receive_all(raw) == b"\x82\x04last" + b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\x05plain",  # not masked
        frame(3, b""),  # of no known kind
        frame(11, b""),
        frame(9, b"x" * 126),  # longer than those of its kind may be
        frame(8, b"\x03\xe8"),  # it closes
        b"\x82\xff" + (1 << 30).to_bytes(8, "big") + bytes(4),  # a gigabyte
    ],
)
def test_what_ends_a_websocket_ends_ours(peer: Pair, data: bytes) -> None:
    raw, end = peer
    raw.sendall(frame(2, b"last") + data)
    assert receive(end, 4) == b"last"
    assert end.recv(100) == b""


def test_text_ends_it_too_though_it_may_arrive(peer: Pair) -> None:
    raw, end = peer
    raw.sendall(frame(1, b"text") + frame(2, b"more"))
    assert receive_all(end) in (b"", b"text")


def receive_all(end: Any) -> bytes:
    data = b""
    while piece := end.recv(1 << 16):
        data += piece
    return data


def test_who_has_not_been_admitted_may_send_a_little_and_no_more(peer: Pair) -> None:
    raw, end = peer
    raw.sendall(frame(9, b"") * 1000)
    assert end.recv(100) == b""


def test_pings_of_one_who_does_not_read_take_no_memory(peer: Pair) -> None:
    raw, end = peer
    raw.sendall(frame(2, b"!"))
    assert end.recv(1) == b"!"
    admit(end, raw)
    raw.settimeout(0.2)
    pings, sent = frame(9, b"") * 10_000, 0
    with contextlib.suppress(TimeoutError):
        while sent < 1 << 22:
            sent += raw.send(pings)
    assert sent < 1 << 22, "nothing holds up who does not read"
