"""Connects a socket of ours with an NNG of this process, over the loopback interface.

NNG can be given no socket, but it can listen, or dial. Other users of this machine can connect to
what listens there, too: so it does for one connection only, and the path that has to be asked for
is known to nobody else::

    NNG as the server                          NNG as the client
      ours --- GET /secret -----> NNG            ours <----- GET /secret --- NNG
           <-- 101 Switching ----                     --- 101 Switching --->
"""

import contextlib
import secrets
import selectors
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from mirai_executor.urls import Url

from ._nng import LOCALHOST, Accept, Dial, free_stream
from ._pump import Pump, Side
from ._upgrade import answer_to, check_answer, end_of_head, request_for

_NONCE_SIZE = 16
_HEAD = 1 << 13  # bytes of a head that are read at once
_CALLERS = 8  # who may knock, beside NNG


class Opening:
    """What is to become a connection with NNG. For the pump's thread.

    Args:
        pump: The pump.
        on_open: Is given a socket of ours, and what NNG calls its other end; or
        on_failure: is told why there are none.
    """

    def __init__(
        self,
        pump: Pump,
        on_open: Callable[[Side, Any], None],
        on_failure: Callable[[OSError], None],
    ) -> None:
        self._pump, self._on_open, self._on_failure = pump, on_open, on_failure
        self._path = f"/{secrets.token_hex(16)}"
        self._nng: Accept | Dial | None = None
        self._pointer: Any = None  # NNG's end, once it is there
        self._side: Side | None = None  # ours
        self._port = 0  # of ours, if it is the one that has connected
        self._is_agreed = False  # it has shaken hands
        self._is_over = False
        self._heads: dict[Side, bytes] = {}  # of those who have knocked, as far as they have come

    def start(self) -> None:
        """Begin.

        Raises:
            OSError: It cannot.
        """
        raise NotImplementedError

    def _on_nng(self) -> None:
        """Take what NNG has."""
        if self._is_over or self._nng is None:
            return
        self._pointer = self._nng.output(self._port)
        if self._pointer is None:
            self._fail(ConnectionError("NNG cannot be connected with"))
        else:
            self._look()

    def _agree(self) -> None:
        self._is_agreed = True
        self._look()

    def _look(self) -> None:
        if self._pointer is None or not self._is_agreed or self._side is None:
            return
        side, pointer = self._side, self._pointer
        side.await_read(False)
        self._side = self._pointer = None
        self.close()
        self._on_open(side, pointer)

    def _fail(self, error: OSError) -> None:
        self.close()
        self._on_failure(error)

    def close(self) -> None:
        """Give up what has not become one; and nobody can knock any more."""
        self._is_over = True
        if self._nng is not None:
            self._nng.free()
        if self._side is not None:
            self._side.close()
        if self._pointer is not None:
            free_stream(self._pointer)
        self._nng = self._side = self._pointer = None

    def close_copy(self) -> None:
        """In a forked child, close what is the parent's."""
        if self._side is not None:
            self._side.stream.close()


class ServerOpening(Opening):
    """NNG will be the server, for a peer that is a client."""

    def start(self) -> None:
        """Have NNG listen, and connect.

        Raises:
            OSError: It cannot.
        """
        self._nonce = secrets.token_bytes(_NONCE_SIZE)
        self._answer = b""
        self._nng = Accept(self._path, partial(self._pump.put, self._on_nng))
        place = Url("ws", LOCALHOST, self._nng.port, self._path)
        self._request = memoryview(request_for(place, self._nonce))
        connection = socket.socket()
        self._side = Side(self._pump.reactor, connection)
        self._side.on_write, self._side.on_read = self._ask, self._hear
        _send_at_once(connection)
        with contextlib.suppress(BlockingIOError):
            connection.connect((LOCALHOST, self._nng.port))
        self._port = connection.getsockname()[1]
        self._side.await_write(True)

    def _ask(self) -> None:
        assert self._side is not None  # noqa: S101 - for the type checker: it is what is ready
        try:
            self._request = self._request[self._side.send(self._request) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if not self._request:
            self._side.await_write(False)
            self._side.await_read(True)

    def _hear(self) -> None:
        assert self._side is not None  # noqa: S101 - as above
        try:
            self._answer += _received(self._side)
            if end := end_of_head(self._answer):
                # NNG says no more than that before the peer has said something.
                check_answer(self._answer[:end], self._nonce)
                self._side.await_read(False)
                self._agree()
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)


class ClientOpening(Opening):
    """NNG will be the client, for a peer that is a server."""

    _listening: socket.socket | None = None

    def start(self) -> None:
        """Listen, and have NNG dial.

        Raises:
            OSError: It cannot.
        """
        self._listening = socket.create_server((LOCALHOST, 0))
        self._listening.setblocking(False)
        port = self._listening.getsockname()[1]
        fd = self._listening.fileno()
        self._pump.reactor.register(fd, selectors.EVENT_READ, self._on_knock)
        self._nng = Dial(port, self._path, partial(self._pump.put, self._on_nng))

    def _on_knock(self) -> None:
        assert self._listening is not None  # noqa: S101 - as above
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            _send_at_once(connection)
            side = Side(self._pump.reactor, connection)
            if len(self._heads) == _CALLERS:  # all others than NNG
                next(iter(self._heads)).close()
                del self._heads[next(iter(self._heads))]
            self._heads[side] = b""
            side.on_read = partial(self._hear, side)
            side.await_read(True)

    def _hear(self, side: Side) -> None:
        try:
            self._heads[side] += _received(side)
            if end := end_of_head(self._heads[side]):
                answer = answer_to(self._heads[side][:end], self._path)
                del self._heads[side]
                self._side = side
                self._stop_listening()
                side.send(memoryview(answer))  # the first bytes: there is room for them
                self._agree()
        except BlockingIOError:
            return
        except OSError:
            side.close()
            self._heads.pop(side, None)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._pump.reactor.unregister(self._listening.fileno())
            self._listening.close()
            self._listening = None
        for side in self._heads:
            side.close()
        self._heads.clear()

    def close(self) -> None:
        """Give up what has not become one; and nobody can knock any more."""
        super().close()
        self._stop_listening()

    def close_copy(self) -> None:
        """In a forked child, close what is the parent's."""
        super().close_copy()
        for one in (self._listening, *(side.stream for side in self._heads)):
            if one is not None:
                one.close()


def _received(side: Side) -> bytes:
    came = side.stream.recv(_HEAD)
    if not came:
        raise ConnectionError("the other side has closed the connection")
    return came


def _send_at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
