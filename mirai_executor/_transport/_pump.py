"""Moves bytes between WebSockets and the sockets that stand for them, on one thread."""

import logging
import select
import selectors
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from mirai_executor._waiting import Reactor, Timer

from ._nng import PIECE, Stream, free_stream

__all__ = ["LINGER", "Pump", "running"]

_LOG = logging.getLogger("mirai_executor")
_ROUND = 2.0  # seconds between two looks at strangers: NNG tells nobody of them
_STUCK = 5.0  # seconds for which a piece may be on its way when nobody is there any more
LINGER = 2.0  # seconds for what has been sent to get away when this process ends
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)


class _Joint:
    """Joins a stream to one end of a pair of sockets; lives on the pump's thread."""

    def __init__(self, pump: "Pump", pointer: Any, end: socket.socket) -> None:
        self._pump = pump
        self._socket = end
        self._socket.setblocking(False)
        self._watched = 0  # what the pump's reactor waits for
        self._is_over = False
        self._incoming, self._outgoing = bytearray(PIECE), bytearray(PIECE)
        self._received = memoryview(b"")  # what the socket has not taken yet
        self._to_send = memoryview(b"")  # what the stream has not taken yet
        self._watchdog: Timer | None = None  # since a piece was sent
        self.stream = Stream(
            pointer, partial(pump.put, self._on_received), partial(pump.put, self._on_sent)
        )

    def start(self) -> None:
        self.stream.receive(self._incoming)
        self._watch(selectors.EVENT_READ)

    # From the stream to the socket

    def _on_received(self) -> None:
        if self._is_over:
            return
        count = self.stream.received()
        if count:
            self._received = memoryview(self._incoming)[:count]
            self._pass_on()
        else:
            self.end()

    def _pass_on(self) -> None:
        try:
            while self._received:
                self._received = self._received[self._socket.send(self._received, _FLAGS) :]
        except BlockingIOError:
            self._watch(self._watched | selectors.EVENT_WRITE)
        except OSError:
            self.end()
        else:
            self._watch(self._watched & ~selectors.EVENT_WRITE)
            self.stream.receive(self._incoming)

    # From the socket to the stream

    def on_ready(self) -> None:
        if self._watched & selectors.EVENT_WRITE:
            self._pass_on()
        if self._watched & selectors.EVENT_READ:
            self._take()

    def _take(self) -> None:
        try:
            count = self._socket.recv_into(self._outgoing)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self.end()
            return
        self._watch(self._watched & ~selectors.EVENT_READ)
        self._to_send = memoryview(self._outgoing)[:count]
        self._watch_over(self._pump.reactor.now() + _STUCK)
        self.stream.send(self._to_send)

    def _on_sent(self) -> None:
        if self._is_over:
            return
        count = self.stream.sent()
        self._to_send = self._to_send[count:]
        if not count:
            self.end()
        elif self._to_send:
            self.stream.send(self._to_send)
        else:
            self._watch(self._watched | selectors.EVENT_READ)

    # Ends

    def _watch_over(self, until: float) -> None:
        if self._watchdog is None or self._watchdog.is_over:
            self._watchdog = self._pump.reactor.call_at(until, self._look)
        else:
            self._pump.reactor.move(self._watchdog, until)

    def _look(self) -> None:
        """End it if it sends to nobody, for nobody."""
        if not self._to_send:
            return
        # Nothing is read from the socket while a piece is on its way: its end goes unnoticed.
        if self._is_abandoned():
            self.end()
        else:
            self._watch_over(self._pump.reactor.now() + _STUCK)

    def _is_abandoned(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(0))  # nothing but its end was asked for

    def end(self) -> None:
        """Close both ends."""
        if self._is_over:
            return
        self._is_over = True
        self._watch(0)
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._socket.close()
        self.stream.close()
        self._pump.forget(self)

    def close_copy(self) -> None:
        """In a forked child: close what is the parent's."""
        self._socket.close()

    def _watch(self, events: int) -> None:
        if events == self._watched or (self._is_over and events):
            return
        reactor, fd = self._pump.reactor, self._socket.fileno()
        if not events:
            reactor.unregister(fd)
        elif not self._watched:
            reactor.register(fd, events, self.on_ready)
        else:
            reactor.modify(fd, events, self.on_ready)
        self._watched = events


running: set["Pump"] = set()  # those whose thread runs


class Pump:
    """The thread that moves bytes; everything on it is its own, and others put calls in its inbox.

    Args:
        on_round: Called every now and then, with the time, as long as it is set.
    """

    def __init__(self, on_round: Callable[[float], None] | None = None) -> None:
        self.reactor = Reactor()
        self.joints: dict[_Joint, None] = {}
        self.on_round = on_round
        self.stays = on_round is not None  # without a connection, too
        self.thread = threading.Thread(target=self._run, name="mirai-websocket", daemon=True)

    def start(self) -> None:
        running.add(self)
        self.thread.start()

    def put(self, call: Callable[[], None]) -> None:
        """Have something called on the pump's thread; any thread may."""
        self.reactor.put(call)

    def join(self, pointer: Any, end: socket.socket) -> None:
        """Join a stream to a socket; on the pump's thread."""
        try:
            joint = _Joint(self, pointer, end)
        except OSError as error:
            _LOG.debug("a WebSocket was dropped: %s", error)
            end.close()
            free_stream(pointer)
            return
        self.joints[joint] = None
        joint.start()

    def forget(self, joint: _Joint) -> None:
        self.joints.pop(joint, None)

    def stop(self) -> None:
        """End as soon as everything that was sent is gone, and soon in any case."""
        self.stays = False
        self.reactor.call_in(LINGER, self.reactor.stop)

    def _run(self) -> None:
        try:
            self._look_round_later()
            while (self.stays or self.joints) and not self.reactor.has_stopped:
                self.reactor.turn()
        except Exception:
            _LOG.exception(
                "internal error in mirai_executor: the WebSocket thread failed; please report this"
            )
        finally:
            self._close()

    def _look_round_later(self) -> None:
        if self.on_round is not None:
            self.reactor.call_in(_ROUND, self._look_round)

    def _look_round(self) -> None:
        if self.on_round is not None:
            self.on_round(self.reactor.now())
        self._look_round_later()

    def _close(self) -> None:
        for joint in list(self.joints):
            joint.end()
        self.close_copy()
        running.discard(self)

    def close_copy(self) -> None:
        """Close what does not belong to NNG; in a forked child, what is the parent's."""
        self.reactor.close()
