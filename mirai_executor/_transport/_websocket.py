"""Presents a WebSocket as a plain socket, so that nothing else need know about NNG.

::

    its user's thread               the pump's thread                             NNG's threads
                              ┌─ _from_user ─► NngStream ─► frames ─┐
    Link ── socket ══ socket ─┤                                  ├─ socket ══ socket ─ frames
                              └─ _to_user ◄─── NngStream ◄─ frames ─┘     │
    ... the peer ── network ── (TLS) ── _incoming, _outgoing ──────────┘

The request for the upgrade is not NNG's: it has been answered, or made, before one of these comes
into being. NNG gets the bytes of the peer from a socket of ours, over the loopback interface;
until the peer has been admitted, it gets a few KiB of them and no more.
"""

import contextlib
import logging
import socket
from functools import partial
from typing import Any

from mirai_executor._nameless import new_poll
from mirai_executor._waiting import Deadline, Timer
from mirai_executor.urls import Url

from ._nng import PIECE, NngStream, free_stream, save_threads
from ._opening import ClientOpening, Opening, ServerOpening
from ._pump import Flow, Pump, Side
from ._request import ask_for_upgrade
from ._tls import TlsSocket

_LOG = logging.getLogger("mirai_executor")
_ALLOWANCE = 4096  # bytes of frames that a peer may send before it is admitted
# Bytes that NNG gets without saying any: more than the longest message, but pings are none.
_AHEAD = (1 << 20) + (1 << 18)
_OPENING = 5.0  # seconds for NNG to connect with us
_STUCK = 5.0  # seconds after which it is looked whether who has sent is still there
_GIVE_UP = 1.0  # seconds for NNG to notice that we have closed
_LINGER = 5.0  # seconds for what was sent to get away once its user has closed
_NOT_SENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class WebSocket(socket.socket):
    """What stands for a WebSocket, after the request for it: a plain socket.

    Args:
        pump: Moves its bytes.
        network: The connection with the peer, with TLS if there is any; owned from now on.
        begun: What has come of it, behind the request or its answer.
        is_client: Whether this side has asked for it; then the other side may send at once.

    Attributes:
        certificate: What :class:`TlsSocket` has; None without TLS.
    """

    def __init__(
        self, pump: Pump, network: socket.socket | TlsSocket, begun: bytes, *, is_client: bool
    ) -> None:
        here, there = socket.socketpair()
        super().__init__(here.family, here.type, here.proto, here.detach())
        try:
            self.certificate: bytes | None = getattr(network, "certificate", None)
            self._joint = _Joint(pump, network, there, begun, is_client=is_client)
        except BaseException:
            self.close()
            there.close()
            raise

    def trust(self) -> None:
        """Let the other side send as much as it likes: it has been admitted."""
        self._joint.trust()

    def keep_short(self, size: int) -> None:
        """Have about so many bytes wait in each place on the way, so that others overtake them."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        self._joint.keep_short(size)


class _Joint:
    """Joins the network, NNG and a user; lives on the pump's thread."""

    def __init__(
        self,
        pump: Pump,
        network: socket.socket | TlsSocket,
        end: socket.socket,
        begun: bytes,
        *,
        is_client: bool,
    ) -> None:
        self._pump = pump
        self._network, self._end = Side(pump.reactor, network), Side(pump.reactor, end)
        self._loopback: Side | None = None
        opening = ClientOpening if is_client else ServerOpening
        self._opening: Opening = opening(pump, self._open, self._on_failure)
        self._begun = begun
        self.is_stranger = not is_client
        self._from_network: Flow
        self._to_network: Flow
        self._stream: NngStream | None = None
        self._incoming, self._outgoing = bytearray(PIECE), bytearray(PIECE)
        self._received = memoryview(b"")  # what the user has not taken yet
        self._to_send = memoryview(b"")  # what the stream has not taken yet
        self._piece = PIECE  # bytes that are taken of the user's at once
        self._sent = 0  # bytes that NNG has been given
        self._is_receiving = False
        self._is_finishing = self._is_over = False
        self._is_drained = False  # nothing will go to the network any more
        self._timer: Timer | None = None
        pump.open[self] = None
        pump.put(self._begin)

    def trust(self) -> None:
        """See :meth:`WebSocket.trust`. From any thread: the peer has been heard by then."""
        self._pump.put(self._admit)

    def keep_short(self, size: int) -> None:
        """See :meth:`WebSocket.keep_short`. From any thread: the peer has been heard by then."""
        self._pump.put(partial(self._keep_short, size))

    def _keep_short(self, size: int) -> None:
        if self._is_over:
            return
        self._piece = self._to_network.most = min(size, PIECE)
        network = self._network.stream
        if _NOT_SENT_LOWAT is not None and network.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # the peer has gone
                network.setsockopt(socket.IPPROTO_TCP, _NOT_SENT_LOWAT, size)

    def _admit(self) -> None:
        self.is_stranger = False
        if not self._is_over:
            self._from_network.grant(_AHEAD)

    def _begin(self) -> None:
        self._timer = self._pump.reactor.call_in(_OPENING, self.end)
        try:
            self._opening.start()
        except OSError as error:
            self._on_failure(error)

    def _on_failure(self, error: OSError) -> None:
        _LOG.debug("a WebSocket was dropped: %s", error)
        self.end()

    def _open(self, loopback: Side, pointer: Any) -> None:
        self._loopback = loopback
        put = self._pump.put
        try:
            self._stream = NngStream(
                pointer, partial(put, self._on_received), partial(put, self._on_sent)
            )
        except OSError as error:
            free_stream(pointer)
            self._on_failure(error)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._from_network = Flow(
            self._network,
            loopback,
            self._on_network_end,
            self._begun,
            _ALLOWANCE if self.is_stranger else _AHEAD,
            is_strict=self.is_stranger,
        )
        self._to_network = Flow(loopback, self._network, self._on_loopback_end)
        self._to_network.on_passed = self._send_more
        self._end.on_read, self._end.on_write = self._take, self._pass_on
        self._receive()
        self._end.await_read(True)
        self._to_network.start()
        self._from_network.start()

    # From the network to the user: _from_network, NNG, and

    def _receive(self) -> None:
        if self._stream is not None:
            self._is_receiving = True
            self._stream.receive(self._incoming)

    def _on_received(self) -> None:
        self._is_receiving = False
        if self._is_over:
            self.free()
        if self._is_finishing or self._stream is None:
            return
        if count := self._stream.received():
            self._received = memoryview(self._incoming)[:count]
            if not self.is_stranger:
                self._from_network.grant(_AHEAD)
            self._pass_on()
        else:
            self._finish()

    def _pass_on(self) -> None:
        if self._stream is None:
            return
        try:
            while self._received:
                self._received = self._received[self._end.send(self._received) :]
        except BlockingIOError:
            self._end.await_write(True)
        except OSError:
            self._finish()
        else:
            self._end.await_write(False)
            self._receive()

    # From the user to the network:

    def _take(self) -> None:
        try:
            count = self._end.stream.recv_into(memoryview(self._outgoing)[: self._piece])
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count or self._stream is None:
            self._finish()
            return
        self._end.await_read(False)
        self._sent += count
        self._to_send = memoryview(self._outgoing)[:count]
        self._stream.send(self._to_send)
        if self._timer is None or self._timer.is_over:
            self._watch(_STUCK, self._look)

    def _on_sent(self) -> None:
        if self._is_finishing or self._stream is None:
            return
        count = self._stream.sent()
        self._to_send = self._to_send[count:]
        if not count:
            self._finish()
        elif self._to_send:
            self._stream.send(self._to_send)
        else:
            self._send_more()

    def _send_more(self) -> None:
        """Take more of the user's, once the network has all that NNG was given."""
        if not (self._to_send or self._is_finishing) and self._to_network.passed >= self._sent:
            self._end.await_read(True)

    # Ends

    def _on_network_end(self, error: OSError | None) -> None:
        """Let NNG know that the peer has gone; what has come before is still passed on."""
        if error is not None and self.is_stranger:
            self._on_failure(error)
        elif self._loopback is not None:
            self._is_drained = True  # nobody is there to read
            try:
                self._loopback.end_sending()
            except OSError:
                self.end()
            if self._is_finishing:
                self.end()

    def _on_loopback_end(self, _: OSError | None) -> None:
        """NNG will say no more; what it has received may still be on its way to the user."""
        self._is_drained = True
        if self._is_finishing:
            self.end()

    def _finish(self) -> None:
        """Let what was sent get away, with a goodbye of NNG's behind it."""
        if self._is_over:
            return
        self._end.close()
        self._is_finishing = True
        if self._is_drained or self._stream is None or self.is_stranger:
            self.end()
        else:
            self._stream.close()
            self._watch(_LINGER, self.end)

    def _look(self) -> None:
        """End it if it sends to nobody, for nobody."""
        if self._to_network.passed >= self._sent:
            return
        # Nothing is read from the user while a piece is on its way: its end goes unnoticed.
        poll = new_poll()
        poll.register(self._end.stream, 0)
        if poll.poll(0):
            self.end()
        else:
            self._watch(_STUCK, self._look)

    def _watch(self, seconds: float, call: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._pump.reactor.call_in(seconds, call)

    def end(self) -> None:
        """Close all of it, at once."""
        if self._is_over:
            return
        self._is_over = self._is_finishing = True
        if self._timer is not None:
            self._timer.cancel()
        self._opening.close()
        self._end.close()
        self._network.close()
        if self._loopback is not None:
            self._loopback.close()
        if self._is_receiving:
            # NNG is about to notice. If its stream were freed before, the one thread with which it
            # does that would wait for the goodbye of the other side, 100 ms for each.
            self._watch(_GIVE_UP, self.free)
        else:
            self.free()

    def free(self) -> None:
        """Let go of what is NNG's."""
        if self._timer is not None:
            self._timer.cancel()
        if self._stream is not None:
            self._stream.free()
            self._stream = None
        self._pump.open.pop(self, None)

    def close_copy(self) -> None:
        """In a forked child: close what is the parent's."""
        self._opening.close_copy()
        for side in (self._end, self._network, self._loopback):
            if side is not None:
                side.stream.close()


def dial_websocket(stream: socket.socket | TlsSocket, url: Url, deadline: Deadline) -> WebSocket:
    """Ask for a WebSocket over a connection; return what stands for it.

    Args:
        stream: The connection, with TLS if there is any; it blocks, and is owned from now on.
        url: The address.
        deadline: When to give up.

    Raises:
        OSError: The other side offers none, or takes too long.
    """
    save_threads()
    begun = ask_for_upgrade(stream, url, deadline)
    pump = Pump()
    try:
        return WebSocket(pump, stream, begun, is_client=True)
    finally:
        pump.finish()
