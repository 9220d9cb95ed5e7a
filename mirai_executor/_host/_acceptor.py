"""Admits daemons that prove that they know the executor's secret, and nobody else.

::

    connection ─► (TLS) ─► (WebSocket) ─► handshake ─► admitted: a link
                                  └─── too late, too much, wrong ──► dropped, and counted

Nothing of what a guest sends is unpickled, and a frame of his has at most 512 bytes. It all runs
on the host thread, which never waits for a guest.
"""

import errno
import functools
import logging
import selectors
import socket
import ssl
from collections.abc import Callable, Collection

from mirai_executor._transport import (
    WEBSOCKETS,
    FarLink,
    Link,
    Listener,
    TlsSocket,
    WebSocket,
    server_context,
)
from mirai_executor._waiting import Reactor, Timer
from mirai_executor.credentials import (
    LARGEST_FRAME,
    NO_CERTIFICATE,
    HostHandshake,
    Opener,
    ProtocolError,
    Sealer,
    TokenId,
)
from mirai_executor.urls import Url

from . import _registry
from ._guests import Refusals, is_reserved, most_guests, network_of, who_goes
from ._settings import ListenConfig

__all__ = ["Acceptor"]

_LOG = logging.getLogger("mirai_executor")
_PATIENCE = 10.0  # seconds that a guest may take to prove the secret
_KNOCKS = 32  # that are answered between two looks at the daemons
_REST = 0.5  # seconds until the next guest, when this process has no descriptor left


class _Guest:
    """A connection that has proved nothing yet."""

    def __init__(
        self,
        connection: socket.socket,
        url: Url,
        address: str,
        patience: Timer,
        listen_config: ListenConfig,
        context: ssl.SSLContext | None,
        revoked: Collection[TokenId],
    ) -> None:
        self.address = address
        self.network = network_of(address)
        self.patience = patience
        self._sealed = not url.is_tls and url.scheme != "ipc"
        self._layers: list[TlsSocket | WebSocket] = []  # that have not shaken hands yet
        stream: socket.socket | TlsSocket = connection
        if url.is_tls and context is not None:
            stream = TlsSocket(connection, context)
            self._layers.append(stream)
        self._websocket = WebSocket(stream, url.path) if url.scheme in WEBSOCKETS else None
        if self._websocket is not None:
            self._layers.append(self._websocket)
        self.link = Link(self._websocket or stream, blocking=False)
        self.link.largest = LARGEST_FRAME
        shown = listen_config.certificate if url.is_tls else None
        self._handshake = HostHandshake(
            listen_config.secret,
            certificate=NO_CERTIFICATE if shown is None else shown.digest,
            revoked=revoked,
        )

    @property
    def token(self) -> TokenId:
        """Which token it has proved."""
        return self._handshake.token

    @property
    def has_greeted(self) -> bool:
        """Whether its Hello was right; it may be that of another one, overheard."""
        return self._handshake.peer is not None

    def go_on(self) -> FarLink | None:
        """Take in what has come; return a link to a daemon once the secret is proved.

        Raises:
            BlockingIOError, ssl.SSLWantReadError: It goes on once something has come.
            ssl.SSLWantWriteError: It goes on once something can be sent.
            OSError: It is no daemon of ours.
        """
        while self._layers:
            self._layers[0].shake_hands()
            del self._layers[0]
        while (frame := self.link.receive()) is not None:
            try:
                self.link.send(self._handshake.receive(bytes(frame)))
            except ProtocolError as error:
                if error.reply is not None:
                    self.link.send(error.reply)
                raise
            if (keys := self._handshake.keys) is not None:
                if self._websocket is not None:
                    self._websocket.trust()
                seals = (Sealer(keys.to_daemon), Opener(keys.to_host)) if self._sealed else ()
                return FarLink(self.link, *seals)
        return None


class Acceptor:
    """The listening sockets of one executor, and those who have connected.

    Args:
        listen_config: Where, and what has to be proved.
        reactor: Tells when a descriptor is ready, and when it is time.
        admit: Is given the link of each daemon, where it comes from, and what keeps its token out.
    """

    def __init__(
        self,
        listen_config: ListenConfig,
        reactor: Reactor,
        admit: Callable[[FarLink, str, Callable[[], None]], None],
    ) -> None:
        self._listen_config = listen_config
        self._reactor = reactor
        self._admit = admit
        self._guests: dict[int, _Guest] = {}  # by descriptor, in the order of their coming
        self._revoked: set[TokenId] = set()
        self._rest: Timer | None = None  # until the next guest
        self._refusals = Refusals(reactor)
        self._context = (
            None
            if listen_config.certificate is None
            else server_context(listen_config.certificate)
        )
        self._open()

    @property
    def refused(self) -> int:
        """How many connections were refused, or dropped."""
        return self._refusals.count

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
                if is_reserved(connection[0].fileno()):
                    connection[0].close()
                    why = "the last file descriptors of this process are not for guests"
                    self._on_exhaustion(OSError(errno.EMFILE, why))
                    return
                self._receive(listener, *connection)

    def _on_exhaustion(self, error: OSError) -> None:
        """Make room, or wait for some: looking again at once would only take time."""
        if self._guests:
            self._drop(who_goes(self._guests), error)
            return
        if self._rest is None:
            _LOG.warning("no daemon can connect at the moment: %s", error)
            self._shut()
            self._rest = self._reactor.call_in(_REST, self._end_rest)

    def _end_rest(self) -> None:
        self._rest = None
        self._open()

    def _receive(self, listener: Listener, connection: socket.socket, address: str) -> None:
        while len(self._guests) >= most_guests():
            self._drop(who_goes(self._guests), "too many connections wait to authenticate")
        fd = connection.fileno()
        late = "it did not authenticate in time"
        patience = self._reactor.call_in(_PATIENCE, lambda: self._drop(fd, late))
        try:
            self._guests[fd] = _Guest(
                connection,
                listener.url,
                address,
                patience,
                self._listen_config,
                self._context,
                self._revoked,
            )
        except OSError as error:  # gone already
            patience.cancel()
            connection.close()
            self._refusals.note(address, error)
            return
        self._reactor.register(fd, selectors.EVENT_READ, lambda: self._on_guest(fd))

    def _on_guest(self, fd: int) -> None:
        guest = self._guests[fd]
        try:
            link = guest.go_on()
        except (BlockingIOError, ssl.SSLWantReadError):
            self._await(fd, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._await(fd, selectors.EVENT_WRITE)
        except OSError as error:
            self._drop(fd, error)
        else:
            if link is not None:
                self._take_out(fd)
                self._admit(link, guest.address, functools.partial(self._revoke, guest.token))

    def _revoke(self, token: TokenId) -> None:
        """Let nobody in with this token; one without a member may belong to several daemons."""
        if token.member:
            self._revoked.add(token)

    def _await(self, fd: int, event: int) -> None:
        self._reactor.modify(fd, event, lambda: self._on_guest(fd))

    def _drop(self, fd: int, why: object) -> None:
        guest = self._take_out(fd)
        guest.link.close()
        self._refusals.note(guest.address, why)

    def _take_out(self, fd: int) -> _Guest:
        guest = self._guests.pop(fd)
        guest.patience.cancel()
        self._reactor.unregister(fd)
        return guest

    # Ends

    def close(self) -> None:
        """Let nobody in any more."""
        for fd in list(self._guests):
            self._take_out(fd).link.close()
        self._refusals.close()
        if self._rest is None:
            self._shut()
        else:
            self._rest.cancel()
            self._rest = None
        self._listen_config.close()
