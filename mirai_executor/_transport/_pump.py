"""Moves bytes between sockets on a thread of its own, until there are none.

A socket's bytes go on when its user has closed it, or waits for something else, or has no loop
yet; so do those of a WebSocket, which has a few sockets in it. Each piece that has been read is
passed on before the next: one that does not read holds up only those that send to it.
"""

import atexit
import logging
import math
import os
import selectors
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from mirai_executor._waiting import Reactor

from ._nng import end_without_nng  # pynng's own end has to come after ours
from ._tls import TlsSocket

_LOG = logging.getLogger("mirai_executor")
_PIECE = 1 << 16  # bytes read at once
LINGER = 2.0  # seconds for what has been sent to get away when this process ends
# A program may have given SIGPIPE its default action: to end it.
_FLAGS = int(getattr(socket, "MSG_NOSIGNAL", 0))


class Pumped(Protocol):
    """What a pump serves.

    Attributes:
        is_stranger: Nobody has said yet that its peer is admitted.
    """

    @property
    def is_stranger(self) -> bool: ...

    def end(self) -> None:
        """End it; on the pump's thread, as the next."""

    def free(self) -> None:
        """Leave nothing behind, though it may have to be waited for."""

    def close_copy(self) -> None:
        """In a forked child, close what is the parent's."""


class Pump:
    """The thread that moves bytes; everything on it is its own, and others put calls in its inbox.

    It ends once :meth:`finish` was called and nothing is open any more.
    """

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.open: dict[Pumped, None] = {}
        self._stays = True
        self._thread = threading.Thread(target=self._run, name="mirai-websocket", daemon=True)
        _running.add(self)
        try:
            self._thread.start()
        except BaseException:
            self._close()
            raise

    @property
    def strangers(self) -> int:
        """How many of those who are open have not been admitted."""
        return sum(one.is_stranger for one in list(self.open))

    def put(self, call: Callable[[], None]) -> None:
        """Have something called on the pump's thread; any thread may."""
        self.reactor.put(call)

    def finish(self) -> None:
        """Let it end with the last that is open now; any thread may."""
        self._stays = False
        self.reactor.wake()

    def stop(self, linger: float) -> None:
        """Let it end as soon as all that was sent is gone, and soon in any case; and wait."""
        self.put(partial(self._stop_in, linger))
        self.finish()
        self._thread.join(2 * linger)

    def _stop_in(self, seconds: float) -> None:
        self.reactor.call_in(seconds, self.reactor.stop)

    def _run(self) -> None:
        try:
            while (self._stays or self.open) and not self.reactor.has_stopped:
                self.reactor.turn()
        except Exception:
            _LOG.exception(
                "internal error: the WebSocket thread failed; this is a bug in mirai_executor; "
                "please report it"
            )
        finally:
            for one in list(self.open):
                one.end()
                one.free()
            self._close()

    def _close(self) -> None:
        self.reactor.close()
        _running.discard(self)

    def close_copy(self) -> None:
        """In a forked child, close what is the parent's."""
        for one in list(self.open):
            one.close_copy()
        self._close()


class Side:
    """A stream of bytes, and what the pump waits for at it.

    Args:
        reactor: The pump's.
        stream: Owned from now on.
    """

    def __init__(self, reactor: Reactor, stream: socket.socket | TlsSocket) -> None:
        self._reactor = reactor
        self.stream = stream
        stream.setblocking(False)
        self.on_read: Callable[[], None] = _nothing
        self.on_write: Callable[[], None] = _nothing
        self._events = 0

    def await_read(self, wanted: bool) -> None:
        """Call :attr:`on_read` when something has come; or do not."""
        self._await(selectors.EVENT_READ, wanted)

    def await_write(self, wanted: bool) -> None:
        """Call :attr:`on_write` when something can be sent; or do not."""
        self._await(selectors.EVENT_WRITE, wanted)

    def _await(self, event: int, wanted: bool) -> None:
        before = self._events
        self._events = before | event if wanted else before & ~event
        if self._events == before:
            return
        if not self._events:
            self._reactor.unregister(self.stream.fileno())
        elif not before:
            self._reactor.register(self.stream.fileno(), self._events, self._on_ready)
        else:
            self._reactor.modify(self.stream.fileno(), self._events, self._on_ready)

    def _on_ready(self) -> None:
        if self._events & selectors.EVENT_WRITE:
            self.on_write()
        if self._events & selectors.EVENT_READ:
            self.on_read()

    def send(self, data: memoryview) -> int:
        """Send the beginning of some data; return how much."""
        return self.stream.send(data, _FLAGS)

    def end_sending(self) -> None:
        """Tell the other side of a socket that no more will come."""
        if isinstance(self.stream, socket.socket):
            self.stream.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Wait for nothing, and close it."""
        self.await_read(False)
        self.await_write(False)
        self.stream.close()


def _nothing() -> None:
    """Do nothing."""


class Flow:
    """Passes on what comes at one side to another, in one direction.

    Args:
        source: Where it comes from.
        sink: Where it goes.
        on_end: Called once no more will come, and all that came has been passed on; or with an
            error, once it cannot go on.
        begun: What has come already.
        credit: How many bytes may come, until there is another :meth:`grant`.
        is_strict: Whether it is an error if more come.

    Attributes:
        passed: How many bytes have been passed on.
        on_passed: Called after some were.
        most: How many are read at once.
    """

    def __init__(
        self,
        source: Side,
        sink: Side,
        on_end: Callable[[OSError | None], None],
        begun: bytes = b"",
        credit: float = math.inf,
        *,
        is_strict: bool = False,
    ) -> None:
        self._source, self._sink, self._on_end = source, sink, on_end
        self._piece = memoryview(begun if len(begun) <= credit else b"")
        self._credit = credit - len(begun)
        self._is_strict = is_strict
        self.passed = 0
        self.on_passed: Callable[[], None] = _nothing
        self.most = _PIECE

    def start(self) -> None:
        """Begin."""
        self._source.on_read = self._sink.on_write = self._go_on
        self._go_on()

    def grant(self, credit: float) -> None:
        """Let so many bytes come from now on; whoever sends more has to wait."""
        waits = self._credit <= 0
        self._credit, self._is_strict = credit, False
        if waits:
            self._go_on()

    def _go_on(self) -> None:
        """Move bytes until something has to be waited for."""
        before = self.passed
        try:
            while self._pass_on():
                self._piece = memoryview(self._take())
                if not self._piece:
                    self._stop(None)
                    return
        except BlockingIOError:
            self._source.await_read(not self._piece and self._credit > 0)
            self._sink.await_write(bool(self._piece))
        except OSError as error:
            self._stop(error)
            return
        if self.passed != before:
            self.on_passed()

    def _pass_on(self) -> bool:
        while self._piece:
            count = self._sink.send(self._piece)
            self._piece = self._piece[count:]
            self.passed += count
        return True

    def _take(self) -> bytes:
        if self._credit <= 0:
            if self._is_strict:
                raise ConnectionError("the other side sends too much before it is admitted")
            raise BlockingIOError
        came = self._source.stream.recv(int(min(self.most, self._credit)))
        self._credit -= len(came)
        return came

    def _stop(self, error: OSError | None) -> None:
        self._source.await_read(False)
        self._sink.await_write(False)
        self._on_end(error)


_running: set[Pump] = set()  # those whose thread runs


def _end_all() -> None:
    """Before NNG ends: it aborts the process if somebody still uses it."""
    for pump in list(_running):
        pump.stop(LINGER)
    if _running:
        end_without_nng()


def _let_go() -> None:
    """In a forked child: the parent's connections are not to stay open when it ends."""
    end_without_nng()
    for pump in list(_running):
        pump.close_copy()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_let_go)
