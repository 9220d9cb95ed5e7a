"""Makes the request for a WebSocket over a connection, or takes that of a peer; without NNG."""

import contextlib
import secrets
import socket

from mirai_executor._waiting import Deadline
from mirai_executor.urls import Url

from ._tls import TlsSocket
from ._upgrade import UpgradeError, answer_to, check_answer, end_of_head, request_for

_PIECE = 1 << 13  # bytes read at once
_NONCE_SIZE = 16
# A program may have given SIGPIPE its default action: to end it.
_FLAGS = int(getattr(socket, "MSG_NOSIGNAL", 0))


def ask_for_upgrade(stream: socket.socket | TlsSocket, url: Url, deadline: Deadline) -> bytes:
    """Ask for a WebSocket; return what has come behind the answer.

    Args:
        stream: The connection; it blocks.
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
    return head[end:]


class UpgradeRequest:
    """The request of a peer for a WebSocket, at a host.

    Args:
        stream: The connection, with TLS if there is any.
        path: The path that it has to ask for.

    Attributes:
        begun: What has come behind it, once it is answered.
    """

    def __init__(self, stream: socket.socket | TlsSocket, path: str) -> None:
        self._stream = stream
        self._path = path
        self._head = b""
        self.begun = b""

    def shake_hands(self) -> None:
        """Go on with the opening handshake until it is done.

        Raises:
            BlockingIOError: It goes on once something has come.
            OSError: It has failed.
        """
        try:
            while not (end := end_of_head(self._head)):
                if not (came := self._stream.recv(_PIECE)):
                    raise ConnectionError("the other side left before it asked for a WebSocket")
                self._head += came
            answer = answer_to(self._head[:end], self._path)
        except UpgradeError as error:
            with contextlib.suppress(OSError):
                self._stream.send(memoryview(error.reply), _FLAGS)
            raise
        if self._stream.send(memoryview(answer), _FLAGS) < len(answer):
            raise ConnectionError("the other side does not read")
        self.begun = self._head[end:]
