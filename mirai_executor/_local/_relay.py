"""Passes on what daemons write to their standard error, and keeps the last of it.

A thread of its own, because this process's standard error may stall, and dispatching must not.
"""

import collections
import contextlib
import os
import selectors
import threading
import time

from mirai_executor._waiting import Waker

_STALLED = 2.0  # seconds that a shutdown waits for the last lines to be written
_KEPT = 4096  # bytes of each daemon's last words
_LAST_WORDS = 1 << 20  # bytes that are read for them at its end: what its pipe can hold


class Stream:
    """The standard error of one daemon."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
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
                data = os.read(self.fd, 65536)
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

    def words(self, since: int) -> str:
        """Return the last of what has come since a moment."""
        words = b"".join(data for when, data in self._tail if when >= since)
        return str(words[-_KEPT:], "utf-8", "replace")


class Relay:
    """Reads all daemons' streams on one thread, which runs while there are any.

    Args:
        aloud: Whether to write what is read to this process's descriptor 2.
    """

    def __init__(self, *, aloud: bool) -> None:
        self._aloud = aloud
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._selector.register(self._waker.fileno(), selectors.EVENT_READ, None)
        self._news: collections.deque[tuple[str, Stream | None, bytes]] = collections.deque()
        self._thread: threading.Thread | None = threading.Thread(
            target=self._run, name="mirai-relay", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            # Since 3.12 no thread starts once the interpreter shuts down. What daemons write is
            # passed on at their end then, by the host thread.
            self._thread = None

    def add(self, fd: int) -> Stream:
        """Take over the read end of a daemon's standard error."""
        stream = Stream(fd)
        self._tell("add", stream)
        return stream

    def finish(self, stream: Stream, since: int = 0) -> str:
        """Let go of a stream whose daemon is dead.

        Args:
            stream: Its standard error.
            since: A moment, as of ``time.perf_counter_ns``.

        Returns:
            Its last lines, without those that had been read at that moment.
        """
        rest = b""
        # b"" at the end, None if a child holds the stream open; one that floods it must not hold
        # up the host.
        while len(rest) < _LAST_WORDS and (data := stream.read()):
            rest += data
        self._tell("remove", stream, rest)
        return stream.words(since)

    def close(self) -> None:
        """Pass on what has come, and end the thread."""
        self._tell("stop")
        if self._thread is not None:
            # Where this process's standard error has stalled, a shutdown must not stall with it.
            self._thread.join(_STALLED)
        if self._thread is None or not self._thread.is_alive():
            self._thread = None  # threading counts it as left behind while somebody refers to it
            self._selector.close()
            del self._waker

    def _tell(self, what: str, stream: Stream | None = None, data: bytes = b"") -> None:
        if self._thread is not None:
            self._news.append((what, stream, data))
            self._waker.wake()
        elif what == "remove" and stream is not None:
            self._remove(stream, data)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                self._hear(key.data)
            while self._news:
                what, stream, data = self._news.popleft()
                if stream is None:
                    return
                if what == "add":
                    self._selector.register(stream.fd, selectors.EVENT_READ, stream)
                else:
                    self._remove(stream, data)

    def _hear(self, stream: Stream | None) -> None:
        if stream is None:
            self._waker.hear()
        elif data := stream.read():
            self._say(data)
        elif data == b"":
            with contextlib.suppress(KeyError):
                self._selector.unregister(stream.fd)

    def _remove(self, stream: Stream, rest: bytes) -> None:
        self._say(rest)
        with contextlib.suppress(KeyError):
            self._selector.unregister(stream.fd)
        stream.close()

    def _say(self, data: bytes) -> None:
        if not self._aloud:
            return
        while data:
            try:
                data = data[os.write(2, data) :]
            except OSError:  # closed, or it would block: nobody listens
                return
