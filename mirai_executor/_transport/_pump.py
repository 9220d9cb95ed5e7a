"""Moves bytes between WebSockets and the sockets that stand for them, on one thread."""

import contextlib
import logging
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ._nng import PIECE, Stream, free_stream

__all__ = ["LINGER", "Pump", "running"]

_LOG = logging.getLogger("mirai_executor")
_ROUND = 2.0  # seconds between two looks at strangers, and at what does not get on
_STUCK = 5.0  # seconds for which a piece may be on its way when nobody is there any more
LINGER = 2.0  # seconds for what has been sent to get away when this process ends
_FLAGS = getattr(socket, "MSG_NOSIGNAL", 0)


class _Joint:
    """Joins a stream to one end of a pair of sockets; lives on the pump's thread."""

    def __init__(self, pump: "Pump", pointer: Any, end: socket.socket) -> None:
        self._pump = pump
        self._socket = end
        self._socket.setblocking(False)
        self._watched = 0  # what the pump's selector waits for
        self._is_over = False
        self._incoming, self._outgoing = bytearray(PIECE), bytearray(PIECE)
        self._received = memoryview(b"")  # what the socket has not taken yet
        self._to_send = memoryview(b"")  # what the stream has not taken yet
        self._sending_since: float | None = None
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

    def on_ready(self, events: int) -> None:
        if events & selectors.EVENT_WRITE and not self._is_over:
            self._pass_on()
        if events & selectors.EVENT_READ and not self._is_over:
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
        self._sending_since = time.monotonic()
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
            self._sending_since = None
            self._watch(self._watched | selectors.EVENT_READ)

    # Ends

    @property
    def is_sending(self) -> bool:
        return self._sending_since is not None

    def expire(self, now: float) -> None:
        """End it if it sends to nobody, for nobody."""
        if self._sending_since is not None and self._sending_since + _STUCK <= now:
            # Nothing is read from the socket while a piece is on its way: its end goes unnoticed.
            if self._is_abandoned():
                self.end()
            else:
                self._sending_since = now

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
        self._socket.close()
        self.stream.close()
        self._pump.forget(self)

    def close_copy(self) -> None:
        """In a forked child: close what is the parent's."""
        self._socket.close()

    def _watch(self, events: int) -> None:
        if events == self._watched or (self._is_over and events):
            return
        selector = self._pump.selector
        if not events:
            selector.unregister(self._socket)
        elif not self._watched:
            selector.register(self._socket, events, self.on_ready)
        else:
            selector.modify(self._socket, events, self.on_ready)
        self._watched = events


running: set["Pump"] = set()  # those whose thread runs


class Pump:
    """The thread that moves bytes; everything on it is its own, and others put calls in its inbox.

    Args:
        on_round: Called every now and then, with the time, as long as it is set.
    """

    def __init__(self, on_round: Callable[[float], None] | None = None) -> None:
        self.selector = selectors.DefaultSelector()
        self.joints: dict[_Joint, None] = {}
        self.on_round = on_round
        self.stays = on_round is not None  # without a connection, too
        self._inbox: deque[Callable[[], None]] = deque()
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self.selector.register(self._ear, selectors.EVENT_READ, self._on_bell)
        self._ends_at: float | None = None
        self.thread = threading.Thread(target=self._run, name="mirai-websocket", daemon=True)

    def start(self) -> None:
        running.add(self)
        self.thread.start()

    def put(self, call: Callable[[], None]) -> None:
        """Have something called on the pump's thread; any thread may."""
        self._inbox.append(call)
        with contextlib.suppress(OSError):  # so many rings are there already, or it has ended
            self._bell.send(b"!", _FLAGS)

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
        self._ends_at = time.monotonic() + LINGER

    def _run(self) -> None:
        next_round = time.monotonic() + _ROUND
        try:
            while self.stays or self.joints:
                now = time.monotonic()
                if self._ends_at is not None and self._ends_at <= now:
                    break
                if next_round <= now:
                    self._look_round(now)
                    next_round = now + _ROUND
                for key, events in self.selector.select(self._pause(next_round)):
                    key.data(events)
                while self._inbox:
                    self._inbox.popleft()()
        except Exception:
            _LOG.exception(
                "internal error in mirai_executor: the WebSocket thread failed; please report this"
            )
        finally:
            self._close()

    def _pause(self, next_round: float) -> float | None:
        """Return how long to wait: for an event alone, where nothing else can come."""
        now = time.monotonic()
        if self._ends_at is not None:
            return max(0.0, self._ends_at - now)
        # NNG tells nobody of strangers: somebody has to look.
        if self.on_round is not None or any(joint.is_sending for joint in self.joints):
            return max(0.0, next_round - now)
        return None

    def _look_round(self, now: float) -> None:
        for joint in list(self.joints):
            joint.expire(now)
        if self.on_round is not None:
            self.on_round(now)

    def _on_bell(self, _: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(PIECE):
                pass

    def _close(self) -> None:
        for joint in list(self.joints):
            joint.end()
        self.close_copy()
        running.discard(self)

    def close_copy(self) -> None:
        """Close what does not belong to NNG; in a forked child, what is the parent's."""
        self.selector.close()
        self._ear.close()
        self._bell.close()
