"""Speaks WebSockets by NNG, over the loopback interface; the only module that knows pynng.

What NNG calls a stream is used, not its sockets: a stream holds its sender up when the other side
does not read, has no queue that drops, and belongs to one peer alone.

One thread makes all calls for a stream; NNG aborts the process otherwise. pynng's C library does
the work: pynng has no objects for streams.
"""

import atexit
import errno
import itertools
import os
import socket
from collections.abc import Callable
from typing import Any

import pynng
import pynng.nng
from pynng import ffi, lib

from mirai_executor._private import check

check("_transport._nng")

LOCALHOST = "127.0.0.1"
PIECE = 1 << 16  # bytes that one message of a WebSocket carries, as NNG cuts them by itself
_LARGEST = 1 << 20  # bytes; who announces a longer message is cut off before it is read

# Without it, each small message waits 40 ms for the acknowledgement of the one before.
_AT_ONCE = (b"tcp-nodelay", True)
_ERRNO = {
    lib.NNG_ECONNREFUSED: errno.ECONNREFUSED,
    lib.NNG_ETIMEDOUT: errno.ETIMEDOUT,
    lib.NNG_ENOFILES: errno.EMFILE,
    lib.NNG_ENOMEM: errno.ENOMEM,
}

_owner: int | None = None  # the process in which NNG was started; it works in no other
_numbers = itertools.count(1)
_on_done: dict[int, Callable[[], None]] = {}  # what to call, by the number of an operation


def _call(number: Any) -> None:
    _on_done[int(ffi.cast("size_t", number))]()


# A thread of NNG's calls it. It may call nothing of NNG.
_CALL = ffi.callback("void(void *)", _call)


class _Operation:
    """Something that NNG does for us, again and again, one at a time.

    Args:
        on_done: Called by a thread of NNG's each time it is done.
    """

    def __init__(self, on_done: Callable[[], None]) -> None:
        self._number = next(_numbers)
        _on_done[self._number] = on_done
        pointer = ffi.new("nng_aio **")
        _check(lib.nng_aio_alloc(pointer, _CALL, ffi.cast("void *", self._number)))
        self.aio = pointer[0]
        self._iov = ffi.new("nng_iov *")
        self._pinned: Any = None  # what NNG reads or writes must stay where it is

    def use(self, data: "bytearray | memoryview") -> Any:
        """Return the operation as NNG wants it, with these bytes to read or to fill."""
        self._pinned = ffi.from_buffer(data)
        self._iov.iov_buf = self._pinned
        self._iov.iov_len = len(data)
        lib.nng_aio_set_iov(self.aio, 1, self._iov)
        return self.aio

    def count(self) -> int:
        """Return how many bytes were read or written; 0 if it has failed."""
        if lib.nng_aio_result(self.aio) != 0:
            return 0
        return int(lib.nng_aio_count(self.aio))

    def output(self) -> Any:
        """Return the stream that it has brought; None if it has failed."""
        if lib.nng_aio_result(self.aio) != 0:
            return None
        return ffi.cast("nng_stream *", lib.nng_aio_get_output(self.aio, 0))

    def free(self) -> None:
        """Stop it, and let go of it. Nothing is called any more once this returns."""
        lib.nng_aio_stop(self.aio)
        del _on_done[self._number]
        lib.nng_aio_free(self.aio)
        self._pinned = None


class NngStream:
    """One WebSocket. At most one :meth:`receive` and one :meth:`send` are under way.

    Args:
        pointer: What :class:`Accept` or :class:`Dial` has brought; owned from now on.
        on_received: Called by a thread of NNG's when :meth:`receive` is done.
        on_sent: The same for :meth:`send`.
    """

    def __init__(
        self, pointer: Any, on_received: Callable[[], None], on_sent: Callable[[], None]
    ) -> None:
        self._stream = pointer
        self._receiving = _Operation(on_received)
        self._sending = _Operation(on_sent)
        self._flag = ffi.new("bool *")

    def receive(self, into: "bytearray | memoryview") -> None:
        """Begin to receive some bytes."""
        aio = self._receiving.use(into)
        lib.nng_stream_recv(self._stream, aio)
        # NNG 1.11 ends what waits when the other side closes, but lets what comes later wait for
        # ever (websocket.c: ws_str_recv does not look whether the stream is closed). An option
        # of a closed stream cannot be read; what has come before is received all the same.
        if lib.nng_stream_get_bool(self._stream, b"ws:recv-text", self._flag) == lib.NNG_ECLOSED:
            lib.nng_aio_abort(aio, lib.NNG_ECLOSED)

    def received(self) -> int:
        """Return how many bytes have come; 0 if the other side is gone."""
        return self._receiving.count()

    def send(self, data: memoryview) -> None:
        """Begin to send some bytes."""
        lib.nng_stream_send(self._stream, self._sending.use(data))

    def sent(self) -> int:
        """Return how many bytes were sent; 0 if they cannot be."""
        return self._sending.count()

    def close(self) -> None:
        """Say goodbye, and close the connection of NNG's soon; it is still to be freed."""
        lib.nng_stream_close(self._stream)

    def free(self) -> None:
        """Close it, and let go of it."""
        lib.nng_stream_close(self._stream)
        self._receiving.free()
        self._sending.free()
        lib.nng_stream_free(self._stream)


class Accept:
    """NNG listens on the loopback interface for one connection of ours, as the server.

    Args:
        path: Where, as the request has it; nobody else is to know it.
        on_done: Called by a thread of NNG's when :meth:`output` is to be asked.

    Raises:
        OSError: It cannot listen.

    Attributes:
        port: At which port.
    """

    def __init__(self, path: str, on_done: Callable[[], None]) -> None:
        claim()
        pointer = ffi.new("nng_stream_listener **")
        url = f"ws://{LOCALHOST}:0{path}"
        _check(lib.nng_stream_listener_alloc(pointer, url.encode()))
        self._listener = pointer[0]
        self._operation: _Operation | None = None
        try:
            _check(lib.nng_stream_listener_set_size(self._listener, b"ws:rxframe-max", _LARGEST))
            _check(lib.nng_stream_listener_set_bool(self._listener, *_AT_ONCE))
            _check(lib.nng_stream_listener_listen(self._listener))
            port = ffi.new("int *")
            _check(lib.nng_stream_listener_get_int(self._listener, b"tcp-bound-port", port))
            self.port = int(port[0])
            self._operation = _Operation(on_done)
        except BaseException:
            self.free()
            raise
        lib.nng_stream_listener_accept(self._listener, self._operation.aio)

    def output(self, port: int) -> Any:
        """Return what has come from this port, for :class:`NngStream`; None if it is another's.

        Raises:
            OSError: It has failed.
        """
        operation, self._operation = self._operation, None
        assert operation is not None  # noqa: S101 - for the type checker: this is asked once
        pointer = operation.output()
        operation.free()
        if pointer is None or _port_of(pointer) == port:
            return pointer
        free_stream(pointer)
        return None

    def free(self) -> None:
        """Listen no more; a stream that has been taken stays."""
        lib.nng_stream_listener_close(self._listener)
        if self._operation is not None:
            _free_operation(self._operation)
            self._operation = None
        lib.nng_stream_listener_free(self._listener)


class Dial:
    """NNG dials a port of ours on the loopback interface, as the client.

    Args:
        port: The port.
        path: What it asks for there.
        on_done: Called by a thread of NNG's when :meth:`output` is to be asked.
    """

    def __init__(self, port: int, path: str, on_done: Callable[[], None]) -> None:
        claim()
        pointer = ffi.new("nng_stream_dialer **")
        url = f"ws://{LOCALHOST}:{port}{path}"
        _check(lib.nng_stream_dialer_alloc(pointer, url.encode()))
        self._dialer = pointer[0]
        self._operation: _Operation | None = None
        try:
            _check(lib.nng_stream_dialer_set_size(self._dialer, b"ws:rxframe-max", _LARGEST))
            _check(lib.nng_stream_dialer_set_bool(self._dialer, *_AT_ONCE))
            self._operation = _Operation(on_done)
        except BaseException:
            self.free()
            raise
        lib.nng_stream_dialer_dial(self._dialer, self._operation.aio)

    def output(self, _port: int) -> Any:
        """Return the connection, for :class:`NngStream`; None if it has failed."""
        operation, self._operation = self._operation, None
        assert operation is not None  # noqa: S101 - for the type checker: this is asked once
        pointer = operation.output()
        operation.free()
        return pointer

    def free(self) -> None:
        """Dial no more; a stream that has been taken stays."""
        lib.nng_stream_dialer_close(self._dialer)
        if self._operation is not None:
            _free_operation(self._operation)
            self._operation = None
        lib.nng_stream_dialer_free(self._dialer)


def _free_operation(operation: _Operation) -> None:
    """Let go of one that brings a stream which nobody wants any more."""
    lib.nng_aio_stop(operation.aio)
    pointer = operation.output()
    operation.free()
    if pointer is not None and pointer != ffi.NULL:
        free_stream(pointer)


def free_stream(pointer: Any) -> None:
    """Close a stream that nobody has made a :class:`NngStream` of."""
    lib.nng_stream_close(pointer)
    lib.nng_stream_free(pointer)


def _port_of(pointer: Any) -> int:
    """Return the port of the other side of a stream; 0 if it is gone."""
    found = ffi.new("nng_sockaddr *")
    if lib.nng_stream_get_addr(pointer, b"remote-address", found) != 0:
        return 0
    return socket.ntohs(found.s_in.sa_port)


def save_threads() -> None:
    """Have NNG start as few threads as it can; works before anything else (for daemons)."""
    for parameter in (
        lib.NNG_INIT_NUM_TASK_THREADS,
        lib.NNG_INIT_NUM_EXPIRE_THREADS,
        lib.NNG_INIT_NUM_POLLER_THREADS,
        lib.NNG_INIT_NUM_RESOLVER_THREADS,
    ):
        lib.nng_init_set_parameter(parameter, 1)


def end_without_nng() -> None:
    """Let this process end without NNG's own end, which would wait for ever."""
    atexit.unregister(pynng.nng._pynng_atexit)  # noqa: SLF001 - there is no public way


def claim() -> None:
    """Take note that NNG is used in this process.

    Raises:
        OSError: It was started in another one, from which this one was forked.
    """
    global _owner  # there is one NNG in a process
    _owner = _owner or os.getpid()
    if _owner != os.getpid():
        # NNG would wait for its threads, which were not forked, for ever.
        raise OSError(
            errno.ENOTSUP,
            f"this process was forked from process {_owner} after NNG had started there; "
            "use WebSockets only in one of them",
        )


def _check(code: int) -> None:
    if code != 0:
        text = str(ffi.string(lib.nng_strerror(code)), "utf-8")
        raise OSError(_ERRNO.get(code, errno.EIO), f"NNG: {text}")
