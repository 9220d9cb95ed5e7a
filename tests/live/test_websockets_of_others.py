"""NNG's WebSockets and ours understand each other, whichever of them has dialled."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor._transport import WebSocket, dial
from mirai_executor.urls import Url

pynng = pytest.importorskip("pynng", reason="there is no wheel of it for Python 3.15")

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


@contextlib.contextmanager
def nng_dials() -> Iterator[tuple[Any, Any]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pointer = ffi.new("nng_stream_dialer **")
        url = f"ws://127.0.0.1:{server.getsockname()[1]}/mirai"
        check(lib.nng_stream_dialer_alloc(pointer, url.encode()))
        with operation() as aio:
            lib.nng_stream_dialer_dial(pointer[0], aio)
            connection, _ = server.accept()
            connection.settimeout(SECONDS)
            ours = WebSocket(connection, "/mirai")
            ours.shake_hands()
            ours.trust()
            theirs = output(aio)
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
