"""Stands between daemons and their host as a long, thin line does."""

import contextlib
import queue
import socket
import threading
import time

_QUEUED = 0.02  # seconds of data that wait in front of the line before it takes no more


class Line(threading.Thread):
    """Relays connections to a host; each direction of each has a rate and a delay of its own.

    Args:
        port: Where the host listens.
        rate: Bytes a second.
        delay: Seconds, one way.
    """

    def __init__(self, port: int, *, rate: float = 1e9, delay: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._listener = socket.socket()
        # So that nothing is kept anywhere else.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 13)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._host = ("127.0.0.1", port)
        self._rate, self._delay = rate, delay
        self.carried = 0  # bytes, in both directions
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.start()

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
                    self._join(source, target)

    def _join(self, source: socket.socket, target: socket.socket) -> None:
        line: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        for work in (self._take_in, self._let_out):
            end = source if work == self._take_in else target
            thread = threading.Thread(target=work, args=(end, line), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _take_in(
        self, source: socket.socket, line: "queue.SimpleQueue[tuple[float, bytes]]"
    ) -> None:
        free = 0.0  # from then on
        data = b"."
        while data:
            try:
                data = source.recv(4096)
            except OSError:
                data = b""
            self.carried += len(data)
            free = max(free, time.monotonic()) + len(data) / self._rate
            line.put((free + self._delay, data))
            time.sleep(max(0.0, free - time.monotonic() - _QUEUED))

    @staticmethod
    def _let_out(target: socket.socket, line: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        data = b"."
        while data:
            due, data = line.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                if data:
                    target.sendall(data)
                else:
                    target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Cut it."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in (self, *self._threads):
            thread.join(5)
