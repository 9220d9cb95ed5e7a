"""Admits daemons that prove that they know the executor's secret, and nobody else.

::

    connection ─► (TLS) ─► (upgrade ─► NNG) ─► handshake ─► admitted: a link
                                       └─── too late, too much, wrong ──► dropped, and counted

Nothing of what a guest sends is unpickled, and a frame of his has at most 512 bytes. It all runs
on the host thread, which never waits for a guest; NNG gets to hear those alone who have asked for
a WebSocket as they should.
"""

import errno
import functools
import itertools
import logging
import selectors
import socket
import ssl
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from mirai_executor._transport import (
    WEBSOCKETS,
    FarLink,
    Link,
    Listener,
    TlsSocket,
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
from ._guests import (
    WEBSOCKET,
    Refusals,
    is_reserved,
    most_guests,
    most_places,
    network_of,
    who_goes,
)
from ._settings import ListenConfig

if TYPE_CHECKING:
    from mirai_executor._transport import Pump, UpgradeRequest, WebSocket

    # Has NNG go on with the connection, behind what has come of it.
    Join = Callable[[socket.socket | TlsSocket, bytes], WebSocket]

_LOG = logging.getLogger("mirai_executor")
_PATIENCE = 10.0  # seconds that a guest may take to prove the secret
_KNOCKS = 32  # that are answered between two looks at the daemons
_REST = 0.5  # seconds until the next guest, when this process has no descriptor left
_RESERVED = "the last file descriptors of this process are not for guests"


class _Guest:
    """A connection that has proved nothing yet.

    Attributes:
        fd: What is waited for.
        places: How many descriptors it takes, and those that it leaves to be closed.
    """

    def __init__(
        self,
        connection: socket.socket,
        url: Url,
        address: str,
        patience: Timer,
        listen_config: ListenConfig,
        context: ssl.SSLContext | None,
        revoked: Collection[TokenId],
        join: "Join",
    ) -> None:
        self.address = address
        self.network = network_of(address)
        self.patience = patience
        self.fd = connection.fileno()
        self.places = 1
        self._sealed = not url.is_tls and url.scheme != "ipc"
        self._layers: list[TlsSocket | UpgradeRequest] = []  # that have not shaken hands yet
        self._stream: socket.socket | TlsSocket = connection
        if url.is_tls and context is not None:
            self._stream = TlsSocket(connection, context)
            self._layers.append(self._stream)
        self._join = join
        self._request: UpgradeRequest | None = None
        self._websocket: WebSocket | None = None
        if url.scheme in WEBSOCKETS:
            self._request = _request_over(self._stream, url.path)
            self._layers.append(self._request)
        self.link = Link(self._stream, blocking=False)
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
        if self._request is not None and self._websocket is None:
            self._enter(self._request)
        while (frame := self.link.receive()) is not None:
            self._answer(bytes(frame))
            if (keys := self._handshake.keys) is not None:
                seals = (Sealer(keys.to_daemon), Opener(keys.to_host)) if self._sealed else ()
                return FarLink(self.link, *seals)
        return None

    def _answer(self, frame: bytes) -> None:
        try:
            answer = self._handshake.receive(frame)
        except ProtocolError as error:
            if error.reply is not None:
                self.link.send(error.reply)
            raise
        if self._websocket is not None and self._handshake.keys is not None:
            self._websocket.trust()  # before it may send more
        self.link.send(answer)

    def _enter(self, request: "UpgradeRequest") -> None:
        """Go on over a WebSocket."""
        # A child that is forked between the one and the other would keep the connection open.
        with _registry.no_fork:
            self._websocket = self._join(self._stream, request.begun)
            self.link.give_away()
            self.link = Link(self._websocket, blocking=False)
        self.link.largest = LARGEST_FRAME


def _request_over(stream: socket.socket | TlsSocket, path: str) -> "UpgradeRequest":
    from mirai_executor._transport import UpgradeRequest  # other addresses do without

    return UpgradeRequest(stream, path)


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
        self._guests: dict[int, _Guest] = {}  # by number, in the order of their coming
        self._numbers = itertools.count()
        self._pump: Pump | None = None  # of all WebSockets that have come here
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
                    self._on_exhaustion(OSError(errno.EMFILE, _RESERVED))
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
        self._make_room(1, 1)
        number = next(self._numbers)
        late = "it did not authenticate in time"
        patience = self._reactor.call_in(_PATIENCE, lambda: self._drop(number, late))
        try:
            guest = _Guest(
                connection,
                listener.url,
                address,
                patience,
                self._listen_config,
                self._context,
                self._revoked,
                functools.partial(self._join, number),
            )
        except OSError as error:  # gone already
            patience.cancel()
            connection.close()
            self._refusals.note(address, error)
            return
        self._guests[number] = guest
        self._reactor.register(guest.fd, selectors.EVENT_READ, lambda: self._on_guest(number))

    def _make_room(self, guests: int, places: int, without: int | None = None) -> None:
        """Have room for more guests, or for more of one, at the cost of any but this."""
        others = {number: guest for number, guest in self._guests.items() if number != without}
        guests += len(self._guests)
        places += sum(guest.places for guest in self._guests.values())
        while others and (guests > most_guests() or places > most_places()):
            number = who_goes(others)
            guests -= 1
            places -= others.pop(number).places
            self._drop(number, "too many connections wait to authenticate")

    def _join(self, number: int, network: socket.socket | TlsSocket, begun: bytes) -> "WebSocket":
        """Have NNG go on with a guest that has asked for a WebSocket.

        Raises:
            OSError: There are no descriptors for that.
        """
        from mirai_executor._transport import Pump, WebSocket  # which is there

        if is_reserved(network.fileno() + WEBSOCKET):
            raise OSError(errno.EMFILE, _RESERVED)
        # Whoever is sent away has them a moment longer: so each counts twice.
        self._make_room(0, 2 * WEBSOCKET - 1, number)
        if self._pump is None:
            self._pump = Pump()
        if self._pump.strangers >= max(1, most_places() // WEBSOCKET):
            raise ConnectionError("too many connections have been WebSockets a moment ago")
        websocket = WebSocket(self._pump, network, begun, is_client=False)
        self._guests[number].places = 2 * WEBSOCKET
        return websocket

    def _on_guest(self, number: int) -> None:
        guest = self._guests[number]
        event = selectors.EVENT_READ
        try:
            link = guest.go_on()
        except (BlockingIOError, ssl.SSLWantReadError):
            link = None
        except ssl.SSLWantWriteError:
            link, event = None, selectors.EVENT_WRITE
        except OSError as error:
            self._drop(number, error)
            return
        if link is None:
            self._await(number, event)
        else:
            self._take_out(number)
            self._admit(link, guest.address, functools.partial(self._revoke, guest.token))

    def _revoke(self, token: TokenId) -> None:
        """Let nobody in with this token; one without a member may belong to several daemons."""
        if token.member:
            self._revoked.add(token)

    def _await(self, number: int, event: int) -> None:
        guest = self._guests[number]
        if guest.fd == (fd := guest.link.fileno()):
            self._reactor.modify(fd, event, lambda: self._on_guest(number))
        else:  # it goes on over a WebSocket
            self._reactor.unregister(guest.fd)
            self._reactor.register(fd, event, lambda: self._on_guest(number))
            guest.fd = fd

    def _drop(self, number: int, why: object) -> None:
        guest = self._take_out(number)
        guest.link.close()
        self._refusals.note(guest.address, why)

    def _take_out(self, number: int) -> _Guest:
        guest = self._guests.pop(number)
        guest.patience.cancel()
        self._reactor.unregister(guest.fd)
        return guest

    # Ends

    def close(self) -> None:
        """Let nobody in any more."""
        for number in list(self._guests):
            self._take_out(number).link.close()
        if self._pump is not None:
            self._pump.finish()
        self._refusals.close()
        if self._rest is None:
            self._shut()
        else:
            self._rest.cancel()
            self._rest = None
        self._listen_config.close()
