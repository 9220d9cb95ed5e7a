"""Admits daemons that prove that they know the executor's secret, and nobody else.

::

    connection ─► (TLS) ─► handshake ─► admitted: a link
                   └─── too late, too much, wrong ──► dropped, and counted

Nothing of what a guest sends is unpickled, and a frame of his has at most 512 bytes. It all runs
on the host thread, which never waits for a guest.
"""

import functools
import logging
import selectors
import socket
import ssl
from collections.abc import Callable

from mirai_executor._reactor import Reactor, Timer
from mirai_executor._transport import FarLink, Link, Listener, TlsSocket, server_context
from mirai_executor.credentials import (
    LARGEST_FRAME,
    HostHandshake,
    Opener,
    ProtocolError,
    Sealer,
    Secret,
)

from . import _registry
from ._settings import ListenConfig

__all__ = ["Acceptor"]

_LOG = logging.getLogger("mirai_executor")
_PATIENCE = 10.0  # seconds that a guest may take to prove the secret
_GUESTS = 128  # at once; who comes then takes the place of the one who has been here longest
_KNOCKS = 32  # that are answered between two looks at the daemons
_REST = 0.5  # seconds until the next guest, when this process has no descriptor left


class _Guest:
    """A connection that has proved nothing yet."""

    def __init__(
        self,
        connection: socket.socket,
        address: str,
        patience: Timer,
        secret: Secret,
        context: ssl.SSLContext | None,
        *,
        sealed: bool,
    ) -> None:
        self.address = address
        self.patience = patience
        self.sealed = sealed
        self._tls = None if context is None else TlsSocket(connection, context)
        self.link = Link(self._tls or connection, blocking=False)
        self.link.largest = LARGEST_FRAME
        self._handshake = HostHandshake(secret)

    def go_on(self) -> FarLink | None:
        """Take in what has come; return a link to a daemon once the secret is proved.

        Raises:
            ssl.SSLWantReadError, ssl.SSLWantWriteError: It goes on once that can be done.
            OSError: It is no daemon of ours.
        """
        if self._tls is not None:
            self._tls.shake_hands()
            self._tls = None
        while (frame := self.link.receive()) is not None:
            try:
                self.link.send(self._handshake.receive(bytes(frame)))
            except ProtocolError as error:
                if error.reply is not None:
                    self.link.send(error.reply)
                raise
            if (keys := self._handshake.keys) is not None:
                seals = (Sealer(keys.to_daemon), Opener(keys.to_host)) if self.sealed else ()
                return FarLink(self.link, *seals)
        return None


class Acceptor:
    """The listening sockets of one executor, and those who have connected.

    Args:
        listen_config: Where, and what has to be proved.
        reactor: Tells when a descriptor is ready, and when it is time.
        admit: Is given the link of each daemon, and where it comes from.
    """

    def __init__(
        self,
        listen_config: ListenConfig,
        reactor: Reactor,
        admit: Callable[[FarLink, str], None],
    ) -> None:
        self._listen_config = listen_config
        self._reactor = reactor
        self._admit = admit
        self._guests: dict[int, _Guest] = {}  # by descriptor, in the order of their coming
        self._rest: Timer | None = None  # until the next guest
        self.refused = 0
        self._context = (
            None
            if listen_config.certificate is None
            else server_context(listen_config.certificate)
        )
        self._open()

    def _open(self) -> None:
        for listener in self._listen_config.listeners:
            self._reactor.register(
                listener.fileno(),
                selectors.EVENT_READ,
                functools.partial(self._on_connection, listener),
            )

    def _shut(self) -> None:
        for listener in self._listen_config.listeners:
            self._reactor.unregister(listener.fileno())

    # Guests

    def _on_connection(self, listener: Listener) -> None:
        for _ in range(_KNOCKS):
            # A child that is forked before there is a link would keep the connection open.
            with _registry.no_fork:
                try:
                    connection = listener.accept()
                except OSError as error:
                    self._on_exhaustion(error)
                    return
                if connection is None:
                    return
                self._receive(listener, *connection)

    def _on_exhaustion(self, error: OSError) -> None:
        """Make room, or wait for some: looking again at once would only take time."""
        if self._guests:
            self._drop(next(iter(self._guests)), error)
            return
        if self._rest is None:
            _LOG.warning("no daemon can connect at the moment: %s", error)
            self._shut()
            self._rest = self._reactor.call_in(_REST, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        self._open()

    def _receive(self, listener: Listener, connection: socket.socket, address: str) -> None:
        if len(self._guests) >= _GUESTS:
            self._drop(next(iter(self._guests)), "too many connections wait to authenticate")
        url = listener.url
        fd = connection.fileno()
        late = "it did not authenticate in time"
        patience = self._reactor.call_in(_PATIENCE, lambda: self._drop(fd, late))
        try:
            self._guests[fd] = _Guest(
                connection,
                address,
                patience,
                self._listen_config.secret,
                self._context if url.scheme == "tls+tcp" else None,  # wss has done it already
                sealed=not url.is_tls and url.scheme != "ipc",
            )
        except OSError as error:  # gone already
            patience.cancel()
            connection.close()
            self._count(address, error)
            return
        self._reactor.register(fd, selectors.EVENT_READ, lambda: self._on_guest(fd))

    def _on_guest(self, fd: int) -> None:
        guest = self._guests[fd]
        try:
            link = guest.go_on()
        except ssl.SSLWantReadError:
            self._await(fd, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._await(fd, selectors.EVENT_WRITE)
        except OSError as error:
            self._drop(fd, error)
        else:
            if link is not None:
                self._take_out(fd)
                self._admit(link, guest.address)

    def _await(self, fd: int, event: int) -> None:
        self._reactor.modify(fd, event, lambda: self._on_guest(fd))

    def _drop(self, fd: int, why: object) -> None:
        guest = self._take_out(fd)
        guest.link.close()
        self._count(guest.address, why)

    def _take_out(self, fd: int) -> _Guest:
        guest = self._guests.pop(fd)
        guest.patience.cancel()
        self._reactor.unregister(fd)
        return guest

    def _count(self, address: str, why: object) -> None:
        self.refused += 1
        if isinstance(why, ProtocolError):
            _LOG.warning("a connection from %s was refused: %s", address, why)
        else:
            _LOG.debug("a connection from %s was dropped: %s", address, why)

    # Ends

    def close(self) -> None:
        """Let nobody in any more."""
        for fd in list(self._guests):
            self._take_out(fd).link.close()
        if self._rest is None:
            self._shut()
        else:
            self._rest.cancel()
            self._rest = None
        self._listen_config.close()
