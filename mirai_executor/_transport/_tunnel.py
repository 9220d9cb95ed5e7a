"""Presents a WebSocket as a plain socket, so that nothing else need know about NNG.

::

    host thread                 pump thread                    NNG
    Link ── socket ══ socket ── _Joint ── Stream ── TCP or TLS ─── ... the same at the daemon

One pump serves a listener and all that came by it; a dialled connection has one of its own. It
holds at most one piece for each direction of each connection: who does not read, holds up only
who sends to him.
"""

import atexit
import contextlib
import errno
import logging
import os
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from mirai_executor.credentials import Certificate, TlsVersion
from mirai_executor.urls import Url

from ._listening import listening_socket
from ._nng import (
    PIECE,
    DistrustError,
    StreamListener,
    Trust,
    dial_stream,
    end_without_nng,
    free_stream,
    peer_of,
    save_threads,
)
from ._pump import LINGER, Pump, running
from ._strangers import Strangers
from ._tls import client_context

__all__ = ["WebSocketListener", "dial_websocket"]

_LOG = logging.getLogger("mirai_executor")
_WAITING = 128  # who have come and have not been fetched; the next takes the place of the oldest
_TRIES = 10  # to find a free port that nobody else takes first
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)

_listeners: set["WebSocketListener"] = set()  # those that are open


class WebSocketListener:
    """Listens for WebSockets at one address; a listener as :class:`SocketListener` is one.

    Args:
        url: The address; port 0 for a free one.
        certificate: What is shown at wss addresses.

    Raises:
        OSError: Listening failed.

    Attributes:
        url: The address, with the port that was found.
    """

    def __init__(self, url: Url, certificate: Certificate | None) -> None:
        self._pump = Pump(self._on_round)
        try:
            self._listener, host, port = _listen(
                url, certificate if url.is_tls else None, partial(self._pump.put, self._on_come)
            )
        except BaseException:
            self._pump.close_copy()
            raise
        self.url = url.with_port(port)
        self._hears_ipv6 = ":" in host
        self._strangers = Strangers(host if url.is_wildcard else url.host, port)
        self._come: deque[Any] = deque()  # streams, until they are fetched
        self._door, self._knocker = socket.socketpair()  # readable while somebody may be there
        self._door.setblocking(False)
        self._knocker.setblocking(False)
        self._owner = os.getpid()
        self._is_closed = False
        self._has_closed = threading.Event()
        _listeners.add(self)
        self._listener.accept()
        self._pump.start()

    def fileno(self) -> int:
        """Return the descriptor, readable when somebody connects."""
        return self._door.fileno()

    def accept(self) -> tuple[socket.socket, str] | None:
        """Return a connection and where it comes from, or None. Neither it nor this blocks.

        Raises:
            OSError: This process has no descriptor free.
        """
        if not self._come:
            with contextlib.suppress(BlockingIOError):
                while self._door.recv(PIECE):
                    pass
            if not self._come:  # else one has come before its knock was taken away
                return None
        here, there = socket.socketpair()
        try:
            pointer, peer = self._come.popleft()
        except IndexError:  # the pump has sent the oldest away a moment ago
            here.close()
            there.close()
            return None
        self._pump.put(partial(self._pump.join, pointer, there))
        here.setblocking(False)
        return here, peer[0]

    def covers(self, host: str) -> bool:
        """Tell whether what listens at all addresses does so at this one, too."""
        return ":" not in host or self._hears_ipv6

    def close(self) -> None:
        """Stop listening. Connections that were fetched stay, but not in a forked child."""
        if self._is_closed:
            return
        self._is_closed = True
        _listeners.discard(self)
        if self._owner != os.getpid():
            # A forked child: NNG's copies are the parent's, and not to stay open when it ends.
            self._strangers.close_all()
            self._strangers.close()
        else:
            self._pump.put(self._on_close)
            while not self._has_closed.wait(LINGER) and self._pump.thread.is_alive():
                pass
        self._door.close()
        self._knocker.close()

    # On the pump's thread

    def _on_come(self) -> None:
        pointer = self._listener.accepted()
        if self._has_closed.is_set():
            if pointer is not None:
                free_stream(pointer)
            return
        self._listener.accept()
        if pointer is None:
            return
        peer = peer_of(pointer)
        if peer is None:
            free_stream(pointer)
            return
        with contextlib.suppress(IndexError):
            if len(self._come) >= _WAITING:
                free_stream(self._come.popleft()[0])
        self._come.append((pointer, peer))
        with contextlib.suppress(BlockingIOError):
            self._knocker.send(b"!", _FLAGS)

    def _on_round(self, now: float) -> None:
        known = {joint.stream.peer for joint in self._pump.joints}
        known.update(peer for _, peer in list(self._come))
        if count := self._strangers.expel({one for one in known if one is not None}, now):
            _LOG.debug("%d connections to %s were not WebSockets", count, self.url)

    def _on_close(self) -> None:
        self._pump.on_round = None
        self._pump.stays = False
        self._listener.close()
        self._strangers.close()
        self._has_closed.set()
        self._listener.free()  # may take a while: NNG answers those who knock at this moment
        while self._come:
            free_stream(self._come.popleft()[0])


def _listen(
    url: Url, certificate: Certificate | None, on_come: Callable[[], None]
) -> tuple[StreamListener, str, int]:
    """Listen; return at which address and port, too.

    Two listeners of one process at one port share a server in NNG, the certificate of the first
    included, and so do all at port 0. So a socket of ours finds out whether a port is free.
    """
    for _ in range(_TRIES):
        with listening_socket(url) as probe:
            host, port = probe.getsockname()[:2]
        # NNG's HTTP server answers those alone who ask for the host that it listens at.
        place = (url.with_host(host) if url.is_wildcard else url).with_port(port)
        try:
            listener = StreamListener(_for_nng(place), certificate, on_come)
        except OSError as error:
            if url.port or error.errno != errno.EADDRINUSE:
                raise
        else:
            return listener, str(host), port
    raise OSError(errno.EADDRINUSE, "other processes took each port that was free")


def _for_nng(url: Url) -> str:
    return f"{url.scheme}://{url.authority}{url.path or '/'}"


def dial_websocket(
    url: Url,
    timeout: float,
    authority: str = "",
    server_name: str = "",
    tls_minimum: TlsVersion = TlsVersion.TLS_1_3,
) -> socket.socket:
    """Return a connection to an address; it blocks, for up to ``timeout`` seconds.

    Args:
        url: The address.
        timeout: Seconds.
        authority: The certificates that are trusted, as PEM; empty for those of the system.
        server_name: What the certificate has to bear; empty for the host of the address.
        tls_minimum: The oldest version of TLS that is spoken.

    Raises:
        OSError: There is nobody.
        ssl.SSLCertVerificationError: There is somebody else.
    """
    save_threads()
    name = server_name or url.host
    trust = Trust(authority, name, tls_minimum) if url.is_tls else None
    pump = Pump()
    try:
        here, there = socket.socketpair()
        try:
            pointer = dial_stream(_for_nng(url), timeout, trust)
        except BaseException:
            here.close()
            there.close()
            raise
    except DistrustError:
        pump.close_copy()
        _ask_openssl(url, timeout, client_context(authority, tls_minimum), name)
        raise
    except BaseException:
        pump.close_copy()
        raise
    pump.stays = True
    pump.put(partial(_begin, pump, pointer, there))
    pump.start()
    return here


def _begin(pump: Pump, pointer: Any, end: socket.socket) -> None:
    pump.join(pointer, end)
    pump.stays = False  # it ends with the connection


def _ask_openssl(url: Url, timeout: float, context: ssl.SSLContext, name: str) -> None:
    """Find out whether it is the certificate that is wrong.

    Raises:
        OSError: It is; or there is nobody any more.
    """
    with socket.create_connection((url.socket_host, url.port), timeout) as raw:
        context.wrap_socket(raw, server_hostname=name).close()


# Ends of the process


def _end_all() -> None:
    """Before NNG ends: it aborts the process if somebody still uses it."""
    for listener in list(_listeners):
        listener.close()
    for pump in list(running):
        pump.put(pump.stop)
        pump.thread.join(2 * LINGER)
    if running:
        end_without_nng()


def _let_go() -> None:
    """In a forked child: the parent's connections are not to stay open when it ends."""
    end_without_nng()
    for listener in list(_listeners):
        listener.close()
    for pump in list(running):
        for joint in list(pump.joints):
            joint.close_copy()
        pump.close_copy()
    _listeners.clear()
    running.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_let_go)
