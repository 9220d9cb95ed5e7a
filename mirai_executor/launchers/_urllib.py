"""Sends a launcher's request; apart, because it imports http and ssl."""

import contextlib
import functools
import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from mirai_executor._waiting import Deadline

from ._daemon import HttpRequest

_LARGEST_ANSWER = 4096  # bytes


class RefusedError(OSError):
    """The service answered, and not with success.

    Attributes:
        body: The beginning of what it said.
    """

    def __init__(self, message: str, body: str) -> None:
        super().__init__(message)
        self.body = body


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry token and secret to where the user did not send them."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Connection(http.client.HTTPConnection):
    """A connection that is cut off when the time is over.

    A timeout is one for each read: a server that drips could keep us for ever.
    """

    ends: contextlib.ExitStack
    deadline: Deadline

    def connect(self) -> None:
        super().connect()
        # Of its own, as TLS takes the descriptor of the other over.
        handle = self.ends.enter_context(self.sock.dup())
        self.ends.enter_context(_cut_off_at(self.deadline, handle))


class _TlsConnection(http.client.HTTPSConnection, _Connection):
    """The same, with TLS: its handshake comes after the other's ``connect``."""


class _Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    def __init__(self, ends: contextlib.ExitStack, deadline: Deadline) -> None:
        super().__init__()
        self._ends = ends
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(self._make, _Connection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(self._make, _TlsConnection), req)

    def _make(self, kind: type[_Connection], host: str, **more: Any) -> _Connection:
        connection = kind(host, **more)
        connection.ends, connection.deadline = self._ends, self._deadline
        return connection


@contextlib.contextmanager
def _cut_off_at(deadline: Deadline, connection: socket.socket) -> Iterator[None]:
    def cut() -> None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(deadline.left, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def send(request: HttpRequest, deadline: Deadline) -> str:
    """Send a request and return the beginning of the answer.

    Raises:
        OSError: The service could not be reached, refused, or was not done in time.
        Exception: It answered with something else than HTTP.
    """
    prepared = urllib.request.Request(  # noqa: S310 - http_config has checked the scheme
        request.url, request.body, dict(request.headers), method=request.method
    )
    with contextlib.ExitStack() as ends:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect(), _Handler(ends, deadline)]
        if prepared.type == "http":
            # A proxy would read the secret; for https it only passes on what it cannot read.
            handlers.append(urllib.request.ProxyHandler({}))
        opener = urllib.request.build_opener(*handlers)
        try:
            with opener.open(prepared, timeout=max(0.1, deadline.left)) as answer:
                said = answer.read(_LARGEST_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                body = str(error.read(_LARGEST_ANSWER), "utf-8", "replace")
            raise RefusedError(f"status {error.code} {error.reason}", body) from None
        except Exception:
            if deadline.left:
                raise
            said = b""
    if not deadline.left:  # what has come may be a part of it
        raise TimeoutError("no answer in time")
    return str(said, "utf-8", "replace")
