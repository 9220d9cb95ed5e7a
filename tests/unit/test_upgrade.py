"""The opening handshake of WebSockets, as RFC 6455 has it."""

import socket
import threading

import pytest

from mirai_executor._transport import dial
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


def test_who_offers_no_websocket_is_named_to_who_dials() -> None:
    pytest.importorskip("pynng", reason="there is no wheel of it for Python 3.15")
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
