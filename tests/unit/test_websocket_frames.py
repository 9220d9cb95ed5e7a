"""The opening handshake and the frames of WebSockets, as RFC 6455 has them."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor._transport import WebSocket, dial
from mirai_executor._transport._upgrade import (
    UpgradeError,
    answer_to,
    check_answer,
    end_of_head,
    request_for,
)
from mirai_executor.urls import Url

URL = Url.parse("ws://node:5555/mirai")
NONCE = b"the sample nonce"  # that of RFC 6455, section 1.3
ACCEPTED = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
SECONDS = 20.0


def changed(old: bytes, new: bytes) -> bytes:
    request = request_for(URL, NONCE)
    assert old in request
    return request.replace(old, new)


def test_a_request_is_answered_as_the_rfc_says() -> None:
    answer = answer_to(request_for(URL, NONCE), "/mirai")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert ACCEPTED in answer
    check_answer(answer, NONCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/mirai", b"/mirai?token=1"),
        (b"Host: node:5555", b"Host: proxy.example"),
        (b"Upgrade: websocket", b"upgrade:WebSocket"),
        (b"Connection: Upgrade", b"Connection: keep-alive, upgrade\r\nX-Real-IP: 192.0.2.1"),
    ],
)
def test_what_proxies_change_does_no_harm(old: bytes, new: bytes) -> None:
    assert ACCEPTED in answer_to(changed(old, new), "/mirai")


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"POST", "400"),
        (b"HTTP/1.1", b"HTTP/1.0", "400"),
        (b"Host: node:5555\r\n", b"", "400"),
        (b"Host:", b"Content-Length: 7\r\nHost:", "400"),
        (b"Host:", b" folded: yes\r\nHost:", "400"),
        (b"Host:", b"X\0: yes\r\nHost:", "400"),
        (b"dGhl", b"!!!!", "400"),
        (b"dGhl", b"", "400"),
        (b"/mirai", b"/other", "404"),
        (b"Upgrade: websocket\r\n", b"", "426"),
        (b"Version: 13", b"Version: 8", "426"),
    ],
)
def test_another_request_gets_an_answer_of_http(old: bytes, new: bytes, status: str) -> None:
    with pytest.raises(UpgradeError) as refused:
        answer_to(changed(old, new), "/mirai")
    assert refused.value.reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert refused.value.reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"101", b"200"),
        (b"HTTP/1.1", b"SSH-2.0"),
        (b"s3pP", b"t3pP"),
        (b"Upgrade: websocket\r\n", b""),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
    ],
)
def test_an_answer_that_agrees_to_something_else_is_none(old: bytes, new: bytes) -> None:
    answer = answer_to(request_for(URL, NONCE), "/mirai")
    assert old in answer
    with pytest.raises(UpgradeError):
        check_answer(answer.replace(old, new), NONCE)


def test_a_head_has_an_end_and_a_limit() -> None:
    assert end_of_head(b"GET / HTTP/1.1\r\n\r") == 0
    assert end_of_head(b"GET / HTTP/1.1\r\n\r\nmore") == 18
    with pytest.raises(UpgradeError, match="8192"):
        end_of_head(b"x" * 8192)


# Frames


@pytest.fixture
def peer() -> Iterator[tuple[socket.socket, WebSocket]]:
    """A client that can do anything, and the host's end, after the opening handshake."""
    raw, stream = socket.socketpair()
    with raw, contextlib.closing(WebSocket(stream, "/mirai")) as end:
        raw.settimeout(SECONDS)
        stream.settimeout(SECONDS)
        raw.sendall(request_for(URL, NONCE))
        end.shake_hands()
        assert raw.recv(1000).startswith(b"HTTP/1.1 101")
        yield raw, end


def frame(kind: int, content: bytes, *, final: bool = True) -> bytes:
    key = b"\x11\x22\x33\x44"
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(content))
    head = bytes([0x80 * final | kind])
    if len(content) < 126:
        return head + bytes([0x80 | len(content)]) + key + masked
    return head + b"\xfe" + struct.pack(">H", len(content)) + key + masked


Pair = tuple[socket.socket, WebSocket]


def receive(end: Any, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += end.recv(count - len(data))
    return data


def test_frames_in_any_pieces_are_their_bytes(peer: Pair) -> None:
    raw, end = peer
    sent = [
        frame(2, b"fra", final=False),
        frame(9, b"ping"),
        frame(0, b""),
        frame(0, b"gments, " + b"x" * 300),
        frame(10, b"a pong that nobody asked for"),
        frame(2, b", whole"),
    ]
    end.setblocking(False)
    found = b""
    for number in b"".join(sent):
        raw.sendall(bytes([number]))
        with contextlib.suppress(BlockingIOError):
            found += end.recv(1 << 16)
    assert found == b"fragments, " + b"x" * 300 + b", whole"
    assert raw.recv(100) == b"\x8a\x04ping"
    assert end.send(memoryview(b"answer")) == 6
    assert raw.recv(100) == b"\x82\x06answer"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x82\x05plain", "dialect"),  # not masked
        (b"\xc2\x80\0\0\0\0", "dialect"),  # of an extension
        (frame(1, b"text"), "text"),
        (frame(3, b""), "text"),
        (frame(11, b""), "no known kind"),
        (frame(9, b"x" * 126), "too long"),
        (frame(9, b"", final=False), "too long"),
    ],
)
def test_what_the_rfc_forbids_ends_the_connection(peer: Pair, data: bytes, why: str) -> None:
    raw, end = peer
    raw.sendall(data)
    with pytest.raises(ConnectionError, match=why):
        end.recv(100)


def test_a_frame_that_closes_is_the_end(peer: Pair) -> None:
    raw, end = peer
    raw.sendall(frame(2, b"last") + frame(8, b"\x03\xe8") + frame(2, b"too late"))
    assert receive(end, 4) == b"last"
    assert end.recv(100) == b""
    assert end.recv(100) == b""


def test_who_has_not_been_admitted_may_send_a_little_and_no_more(peer: Pair) -> None:
    raw, end = peer
    raw.sendall(frame(9, b"") * 1000)
    with pytest.raises(ConnectionError, match="too much"):
        end.recv(100)


def test_pings_of_one_who_does_not_read_take_no_memory(peer: Pair) -> None:
    raw, end = peer
    end.trust()
    end.setblocking(False)
    for number in range(300):
        raw.sendall(frame(9, b"%d" % number) * 500)
        with contextlib.suppress(BlockingIOError):
            end.recv(100)
    assert len(end._pending) + len(end._pong) < 300


def test_what_the_stream_does_not_take_at_once_is_sent_on(peer: Pair) -> None:
    raw, end = peer
    end.setblocking(False)
    rest, sent = memoryview(bytes(range(256)) * 8192), 0
    received = bytearray()
    while rest:
        try:
            count = end.send(rest)
        except BlockingIOError:
            received += raw.recv(1 << 20)
            continue
        rest = rest[count:]
        sent += count
    thread = threading.Thread(target=end.close)
    thread.start()
    while piece := raw.recv(1 << 20):
        received += piece
    thread.join()
    whole = bytearray()
    while received:
        assert received[:2] == b"\x82\x7f"
        (length,) = struct.unpack_from(">Q", received, 2)
        whole += received[10 : 10 + length]
        del received[: 10 + length]
    assert bytes(whole) == bytes(range(256)) * 8192


def test_who_offers_no_websocket_is_named_to_who_dials() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        url = Url.parse(f"ws://127.0.0.1:{server.getsockname()[1]}/x")
        with pytest.raises(ConnectionError, match="502 Bad Gateway"):
            dial(url, SECONDS)
        thread.join()
