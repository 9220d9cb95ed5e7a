"""Passes on what daemons write to their standard error, and keeps the last of it.

A thread of its own, because this process's standard error may stall, and dispatching must not.
Standard output is passed on in the same way, by another thread, where it has to be (``_output``).
"""

import collections
import contextlib
import os
import posix
import selectors
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from mirai_executor._waiting import Reactor

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re

_STALLED = 2.0  # seconds that a shutdown waits for the last lines to be written
_KEPT = 4096  # bytes of each daemon's last words
_LAST_WORDS = 1 << 20  # bytes that are read for them at its end: what its pipe can hold


class RelayedStream:
    """The standard error of one daemon, or of what has started some; or a standard output.

    Args:
        fd: Its read end.
        pid: Whose it is.
        noise: What is kept, but not passed on.

    Attributes:
        noise: As given; may be changed from any thread.
    """

    def __init__(self, fd: int, pid: int, noise: "re.Pattern[bytes] | None" = None) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.pid = pid
        self.noise = noise
        self._tail: collections.deque[tuple[int, bytes]] = collections.deque()  # when it came
        self._size = 0  # of all that
        # Guards the tail and the order of reads: the relay and the host both read a dying stream.
        self._lock = threading.Lock()
        self._closed = False

    def read(self) -> bytes | None:
        """Return what has come, b"" at its end, None if nothing is there."""
        with self._lock:
            if self._closed:
                return b""
            try:
                data = posix.read(self.fd, 65536)
            except BlockingIOError:
                return None
            self._keep(data)
            return data

    def _keep(self, data: bytes) -> None:
        self._tail.append((time.perf_counter_ns(), data))
        self._size += len(data)
        while self._size - len(self._tail[0][1]) >= _KEPT:
            self._size -= len(self._tail.popleft()[1])

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self.fd)

    def without_noise(self, data: bytes) -> bytes:
        """Return what of it is worth to be passed on."""
        noise = self.noise
        return data if noise is None else noise.sub(b"", data)

    def words(self, since: int) -> str:
        """Return the last of what has come since a moment."""
        with self._lock:  # the relay may be reading more
            words = b"".join(data for when, data in self._tail if when >= since)
        return str(words[-_KEPT:], "utf-8", "replace")


def write_to_stderr(_: RelayedStream, data: bytes) -> None:
    """Write what a daemon has written to this process's descriptor 2."""
    while data:
        try:
            data = data[posix.write(2, data) :]
        except OSError:  # closed, or it would block: nobody listens
            return


# Passes on what a daemon has written; b"" tells that nothing more will come.
Write: TypeAlias = "Callable[[RelayedStream, bytes], None]"


class Relay:
    """Reads all daemons' streams on one thread, which runs while there are any.

    Args:
        write: Passes on what is read; None drops it.
        name: That of the thread.
    """

    def __init__(self, write: "Write | None" = write_to_stderr, name: str = "mirai-relay") -> None:
        self._write = write
        self._reactor = Reactor()
        self._thread: threading.Thread | None = threading.Thread(
            target=self._reactor.run, name=name, daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            # Since 3.12 no thread starts once the interpreter shuts down. What daemons write is
            # passed on at their end then, by the host thread.
            self._thread = None

    def add(self, fd: int, pid: int, noise: "re.Pattern[bytes] | None" = None) -> RelayedStream:
        """Take over the read end of a daemon's stream, and pass on all but noise."""
        stream = RelayedStream(fd, pid, noise)
        if self._thread is not None:
            self._reactor.put(lambda: self._listen(stream))
        return stream

    def finish(self, stream: RelayedStream, since: int = 0) -> str:
        """Let go of a stream whose daemon is dead.

        Args:
            stream: The stream.
            since: A moment, as of ``time.perf_counter_ns``.

        Returns:
            Its last lines, without those that had been read at that moment.
        """
        rest = b""
        # b"" at the end, None if a child holds the stream open; one that floods it must not hold
        # up the host.
        while len(rest) < _LAST_WORDS and (data := stream.read()):
            rest += data
        if self._thread is not None:
            self._reactor.put(lambda: self._remove(stream, rest))
        else:
            self._remove(stream, rest)
        return stream.words(since)

    def close(self) -> None:
        """Pass on what has come, and end the thread."""
        if self._thread is not None:
            self._reactor.put(self._reactor.stop)
            # Where what it writes to has stalled, a shutdown must not stall with it.
            self._thread.join(_STALLED)
        if self._thread is None or not self._thread.is_alive():
            self._thread = None  # threading counts it as left behind while somebody refers to it
            self._reactor.close()

    # On the thread, if there is one

    def _listen(self, stream: RelayedStream) -> None:
        self._reactor.register(stream.fd, selectors.EVENT_READ, lambda: self._hear(stream))

    def _hear(self, stream: RelayedStream) -> None:
        if data := stream.read():
            self._say(stream, stream.without_noise(data))
        elif data == b"":
            self._reactor.unregister(stream.fd)

    def _remove(self, stream: RelayedStream, rest: bytes) -> None:
        self._say(stream, stream.without_noise(rest))
        self._say(stream, b"")
        with contextlib.suppress(KeyError):  # at its end already, or without a thread
            self._reactor.unregister(stream.fd)
        stream.close()

    def _say(self, stream: RelayedStream, data: bytes) -> None:
        if self._write is not None:
            self._write(stream, data)
