"""Turns an HTTP connection into a WebSocket: the opening handshake of RFC 6455.

::

    daemon                          host
      | -- GET /path, Upgrade ------> |   answer_to
      | <---- 101 Switching --------- |   check_answer

These are functions of bytes: none of them touches a socket.
"""

import base64
import binascii
import re
from hashlib import sha1

from mirai_executor.urls import Url

LARGEST_HEAD = 8192  # bytes of a request, or of an answer
_END = b"\r\n\r\n"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_REQUEST = re.compile(r"GET (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_KEY_SIZE = 16


class UpgradeError(ConnectionError):
    """The other side does not open a WebSocket.

    Attributes:
        reply: What an HTTP client should read before the connection is closed; or nothing.
    """

    def __init__(self, message: str, status: str = "", field: str = "") -> None:
        super().__init__(message)
        head = [
            f"HTTP/1.1 {status}",
            "Connection: close",
            "Content-Length: 0",
            *filter(None, [field]),
        ]
        self.reply = "\r\n".join([*head, "", ""]).encode() if status else b""


def end_of_head(data: bytes | bytearray) -> int:
    """Return where the head of a message ends; 0 if it has not come yet.

    Raises:
        UpgradeError: It is too long.
    """
    end = data.find(_END, 0, LARGEST_HEAD)
    if end < 0 and len(data) >= LARGEST_HEAD:
        status = "431 Request Header Fields Too Large"
        raise UpgradeError(f"an HTTP head of more than {LARGEST_HEAD} bytes", status)
    return 0 if end < 0 else end + len(_END)


# The daemon's side


def request_for(url: Url, nonce: bytes) -> bytes:
    """Return the request that asks for a WebSocket.

    Args:
        url: Where.
        nonce: Sixteen random bytes, for this connection.
    """
    lines = [
        f"GET {url.path or '/'} HTTP/1.1",
        f"Host: {url.authority}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(nonce).decode()}",
        "Sec-WebSocket-Version: 13",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def check_answer(head: bytes, nonce: bytes) -> None:
    """Require that the other side has answered to this request, and agrees.

    Raises:
        UpgradeError: It has not; the message has its status.
    """
    status, fields = _parse(head)
    if not re.match(r"HTTP/1\.1 101\b", status):
        raise UpgradeError(f"no WebSocket is offered there: {status[:80]!a}")
    accepted = fields.get("sec-websocket-accept", "")
    if accepted != _accept(base64.b64encode(nonce)) or not _asks_for_upgrade(fields):
        raise UpgradeError("the answer to the request for a WebSocket is not one")
    if "sec-websocket-extensions" in fields or "sec-websocket-protocol" in fields:
        raise UpgradeError("the answer has extensions that were not asked for")


# The host's side


def answer_to(head: bytes, path: str) -> bytes:
    """Return the answer to a request for a WebSocket.

    Args:
        head: The request.
        path: The path at which there is one.

    Raises:
        UpgradeError: It is another request; its ``reply`` says so to an HTTP client.
    """
    line, fields = _parse(head)
    request = _REQUEST.fullmatch(line)
    if request is None or "host" not in fields or _has_body(fields):
        raise UpgradeError("not an HTTP request for a WebSocket", "400 Bad Request")
    if request[1].partition("?")[0] != (path or "/"):
        raise UpgradeError("a request for another path", "404 Not Found")
    if not _asks_for_upgrade(fields) or fields.get("sec-websocket-version") != "13":
        status, field = "426 Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13"
        raise UpgradeError("an HTTP request that asks for no WebSocket", status, field)
    key = fields.get("sec-websocket-key", "").encode("latin-1")
    if not _is_key(key):
        raise UpgradeError("a request for a WebSocket without a key", "400 Bad Request")
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {_accept(key)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    """Return the first line, and the fields by their names in lower case."""
    first, *lines = head.removesuffix(_END).decode("latin-1").split("\r\n")
    fields: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise UpgradeError("an invalid HTTP head", "400 Bad Request")
        name, value = field[1].lower(), field[2].strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return first, fields


def _asks_for_upgrade(fields: dict[str, str]) -> bool:
    return "websocket" in _words(fields, "upgrade") and "upgrade" in _words(fields, "connection")


def _words(fields: dict[str, str], name: str) -> list[str]:
    return [word.strip().lower() for word in fields.get(name, "").split(",")]


def _has_body(fields: dict[str, str]) -> bool:
    return "transfer-encoding" in fields or fields.get("content-length", "0") != "0"


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_SIZE
    except binascii.Error:
        return False


def _accept(key: bytes) -> str:
    digest = sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()
