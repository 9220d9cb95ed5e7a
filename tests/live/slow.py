"""Stands between daemons and their host as a long, thin line does."""

import contextlib
import itertools
import math
import queue
import socket
import threading
import time

_QUEUED = 0.02  # seconds of data that wait in front of the line before it takes no more


class _Wire:
    """One direction of a line: one byte leaves after the other, whoever sends it."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = 0.0  # from then on
        self._lock = threading.Lock()  # of what the threads of several connections share

    def take(self, count: int) -> float:
        """Let bytes leave behind all others; return when the last of them has."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + count / self._rate
            return self._free


class Line(threading.Thread):
    """Relays connections to a host.

    Args:
        port: Where the host listens.
        host: The address at which it does.
        at: Where this listens; port 0 for a free one.
        rate: Bytes a second, in each direction.
        delay: Seconds, one way.
        shared: Whether all connections share that; else each has a line of its own.

    Attributes:
        to_daemons: Bytes that have come out at the end of the daemons.
        to_host: Those that have come out at the end of the host.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        at: tuple[str, int] = ("127.0.0.1", 0),
        rate: float = 1e9,
        delay: float = 0.0,
        shared: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self._listener = socket.socket()
        # So that nothing is kept anywhere else.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 13)
        self._listener.bind(at)
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._host = (host, port)
        self._delay = delay
        # To the host, to the daemons, and so on, for one connection after the other.
        self._wires = (
            itertools.cycle([_Wire(rate), _Wire(rate)])
            if shared
            else map(_Wire, itertools.repeat(rate))
        )
        self.to_daemons = self.to_host = 0
        self._awaited: dict[str, tuple[float, threading.Event]] = {}
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.start()

    @property
    def carried(self) -> int:
        """How many bytes it has let out, in both directions."""
        return self.to_daemons + self.to_host

    def wait_until(self, side: str, count: int) -> None:
        """Wait until so many bytes have come out at one end, ``to_daemons`` or ``to_host``."""
        event = threading.Event()
        self._awaited[side] = float(count), event
        assert getattr(self, side) >= count or event.wait(30)

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                daemon, _ = self._listener.accept()
                host = socket.socket()
                host.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 13)
                host.connect(self._host)
                self._ends += daemon, host
                for source, target in ((daemon, host), (host, daemon)):
                    target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._join(source, target, to_host=target is host)

    def _join(self, source: socket.socket, target: socket.socket, *, to_host: bool) -> None:
        line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        for work, *what in (
            (self._take_in, source, next(self._wires)),
            (self._let_out, target, to_host),
        ):
            thread = threading.Thread(target=work, args=(*what, line), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _take_in(
        self, source: socket.socket, wire: _Wire, line: "queue.SimpleQueue[tuple[float, bytes]]"
    ) -> None:
        data = b"."
        while data:
            try:
                data = source.recv(4096)
            except OSError:
                data = b""
            free = wire.take(len(data))
            line.put((free + self._delay, data))
            time.sleep(max(0.0, free - time.monotonic() - _QUEUED))

    def _let_out(
        self, target: socket.socket, to_host: bool, line: "queue.SimpleQueue[tuple[float, bytes]]"
    ) -> None:
        data = b"."
        while data:
            due, data = line.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                if data:
                    target.sendall(data)
                else:
                    target.shutdown(socket.SHUT_WR)
            # Of several connections, two may count at once: a little may be missing.
            side = "to_host" if to_host else "to_daemons"
            setattr(self, side, getattr(self, side) + len(data))
            awaited, event = self._awaited.get(side, (math.inf, None))
            if event is not None and getattr(self, side) >= awaited:
                event.set()

    def close(self) -> None:
        """Cut it."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in (self, *self._threads):
            thread.join(5)
