"""Carries bytes over WebSockets by NNG; the only module that knows pynng.

What NNG calls a stream is used, not its sockets: a stream holds its sender up when the other side
does not read, has no queue that drops, and belongs to one peer alone.

One thread makes all calls for a listener or a stream; NNG aborts the process otherwise. pynng's
C library does the work: pynng has no objects for streams.
"""

import atexit
import errno
import itertools
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pynng
import pynng.nng
from pynng import ffi, lib

from mirai_executor._private import check, missing
from mirai_executor.credentials import Certificate, TlsVersion

__all__ = [
    "PIECE",
    "DistrustError",
    "Stream",
    "StreamListener",
    "Trust",
    "dial_stream",
    "end_without_nng",
    "free_stream",
    "peer_of",
    "save_threads",
]

check("_transport._nng")

PIECE = 1 << 16  # bytes that one message of a WebSocket carries, as NNG cuts them by itself
_LARGEST = 1 << 20  # bytes; who announces a longer message is cut off before it is read

# Without it, each small message over TLS waits 40 ms for the acknowledgement of the one before.
_AT_ONCE = (b"tcp-nodelay", True)
_VERSIONS = {TlsVersion.TLS_1_2: lib.NNG_TLS_1_2, TlsVersion.TLS_1_3: lib.NNG_TLS_1_3}
_ERRNO = {
    lib.NNG_EADDRINUSE: errno.EADDRINUSE,
    lib.NNG_EADDRINVAL: errno.EADDRNOTAVAIL,
    lib.NNG_ECONNREFUSED: errno.ECONNREFUSED,
    lib.NNG_ETIMEDOUT: errno.ETIMEDOUT,
    lib.NNG_ENOFILES: errno.EMFILE,
    lib.NNG_ENOMEM: errno.ENOMEM,
}

_owner: int | None = None  # the process in which NNG was started; it works in no other
_numbers = itertools.count(1)
_on_done: dict[int, Callable[[], None]] = {}  # what to call, by the number of an operation


class DistrustError(ConnectionError):
    """TLS has failed; NNG does not say why."""


def _call(number: Any) -> None:
    _on_done[int(ffi.cast("size_t", number))]()


# A thread of NNG's calls it. It may call nothing of NNG.
_CALL = ffi.callback("void(void *)", _call)


class _Operation:
    """Something that NNG does for us, again and again, one at a time.

    Args:
        on_done: Called by a thread of NNG's each time it is done; without it, :meth:`wait`.
    """

    def __init__(self, on_done: Callable[[], None] | None = None) -> None:
        self._number = next(_numbers)
        call = (ffi.NULL, ffi.NULL)
        if on_done is not None:
            _on_done[self._number] = on_done
            call = (_CALL, ffi.cast("void *", self._number))
        pointer = ffi.new("nng_aio **")
        _check(lib.nng_aio_alloc(pointer, *call))
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

    def wait(self) -> int:
        """Wait until it is done; return NNG's code."""
        lib.nng_aio_wait(self.aio)
        return int(lib.nng_aio_result(self.aio))

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

    def stop(self) -> None:
        """Stop it. Nothing is called any more once this returns."""
        lib.nng_aio_stop(self.aio)
        _on_done.pop(self._number, None)

    def free(self) -> None:
        """Stop it, and let go of it."""
        self.stop()
        lib.nng_aio_free(self.aio)
        self._pinned = None


class Stream:
    """One WebSocket. At most one :meth:`receive` and one :meth:`send` are under way.

    Args:
        pointer: What :func:`dial_stream` or :meth:`StreamListener.accepted` has returned.
        on_received: Called by a thread of NNG's when :meth:`receive` is done.
        on_sent: The same for :meth:`send`.

    Attributes:
        peer: The address and port of the other side; None if it has gone already.
    """

    def __init__(
        self, pointer: Any, on_received: Callable[[], None], on_sent: Callable[[], None]
    ) -> None:
        self._stream = pointer
        self.peer = peer_of(pointer)
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
        """Close it, and let go of it."""
        lib.nng_stream_close(self._stream)
        self._receiving.free()
        self._sending.free()
        lib.nng_stream_free(self._stream)


class StreamListener:
    """Listens for WebSockets.

    Args:
        address: As NNG writes it, with a port.
        certificate: What is shown at wss addresses.
        on_come: Called by a thread of NNG's when :meth:`accept` is done.

    Raises:
        OSError: Listening there failed.
    """

    def __init__(
        self, address: str, certificate: Certificate | None, on_come: Callable[[], None]
    ) -> None:
        _claim()
        pointer = ffi.new("nng_stream_listener **")
        _check(lib.nng_stream_listener_alloc(pointer, address.encode()))
        self._listener = pointer[0]
        self._coming: _Operation | None = None
        try:
            self._tls = None if certificate is None else _server_tls(certificate)
            if self._tls is not None:
                config = _pointer(self._tls)
                _check(lib.nng_stream_listener_set_ptr(self._listener, b"tls-config", config))
            self._limit()
            _check(lib.nng_stream_listener_set_bool(self._listener, *_AT_ONCE))
            self._coming = _Operation(on_come)
            _check(lib.nng_stream_listener_listen(self._listener))
        except BaseException:
            self.free()
            raise

    def _limit(self) -> None:
        name = b"ws:rxframe-max"
        _check(lib.nng_stream_listener_set_size(self._listener, name, _LARGEST))
        found = ffi.new("size_t *")
        _check(lib.nng_stream_listener_get_size(self._listener, name, found))
        if found[0] != _LARGEST:  # a stranger could announce any length
            raise OSError(errno.EIO, "NNG takes no limit for the length of messages")

    def accept(self) -> None:
        """Begin to wait for the next one who comes."""
        if self._coming is not None:
            lib.nng_stream_listener_accept(self._listener, self._coming.aio)

    def accepted(self) -> Any:
        """Return who has come, for :class:`Stream`; None if it was nobody."""
        return None if self._coming is None else self._coming.output()

    def close(self) -> None:
        """Stop listening."""
        lib.nng_stream_listener_close(self._listener)

    def free(self) -> None:
        """Let go of it; streams that have come from it stay."""
        self.close()
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.stop()
            if (pointer := coming.output()) is not None:  # nobody has asked for it any more
                free_stream(pointer)
            coming.free()
        lib.nng_stream_listener_free(self._listener)


def dial_stream(address: str, timeout: float, trust: "Trust | None") -> Any:
    """Return a connection to an address, for :class:`Stream`. Blocks.

    Args:
        address: As NNG writes it.
        timeout: Seconds that it may take.
        trust: Who is trusted at a wss address.

    Raises:
        OSError: There is nobody.
        DistrustError: There is somebody, but TLS has failed.
    """
    _claim()
    pointer = ffi.new("nng_stream_dialer **")
    _check(lib.nng_stream_dialer_alloc(pointer, address.encode()))
    dialer = pointer[0]
    dialing = _Operation()
    try:
        if trust is not None:
            config = _pointer(trust.config)
            _check(lib.nng_stream_dialer_set_ptr(dialer, b"tls-config", config))
        _check(lib.nng_stream_dialer_set_bool(dialer, *_AT_ONCE))
        lib.nng_aio_set_timeout(dialing.aio, round(1000 * timeout))
        lib.nng_stream_dialer_dial(dialer, dialing.aio)
        _check(dialing.wait())
        return dialing.output()
    finally:
        dialing.free()
        lib.nng_stream_dialer_close(dialer)
        lib.nng_stream_dialer_free(dialer)


class Trust:
    """Who is trusted, and by which name.

    Args:
        authority: The certificates that are trusted, as PEM; empty for those of the system.
        server_name: What the certificate of the other side has to bear.
        tls_minimum: The oldest version of TLS that is spoken.
    """

    def __init__(self, authority: str, server_name: str, tls_minimum: TlsVersion) -> None:
        self.config = pynng.TLSConfig(
            pynng.TLSConfig.MODE_CLIENT,
            ca_string=authority or _authorities_of_the_system(),
            server_name=server_name,
        )
        _limit_versions(self.config, tls_minimum)


def _pointer(config: Any) -> Any:
    """Return what NNG's own calls take for a configuration of TLS."""
    try:
        return config._tls_config  # noqa: SLF001 - there is no public way
    except AttributeError:
        raise missing("pynng.TLSConfig()._tls_config") from None


def _server_tls(certificate: Certificate) -> Any:
    config = pynng.TLSConfig(
        pynng.TLSConfig.MODE_SERVER,
        own_key_string=certificate.key,
        own_cert_string=certificate.certificate,
    )
    _limit_versions(config, certificate.tls_minimum)
    return config


def _limit_versions(config: Any, minimum: TlsVersion) -> None:
    _check(
        lib.nng_tls_config_version(
            _pointer(config),
            _VERSIONS[minimum],
            lib.NNG_TLS_1_3,
        )
    )


def _authorities_of_the_system() -> str:
    found = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(one) for one in found)


def peer_of(pointer: Any) -> tuple[str, int] | None:
    """Return the address and port of the other side of a stream; None if it is gone."""
    found = ffi.new("nng_sockaddr *")
    if lib.nng_stream_get_addr(pointer, b"remote-address", found) != 0:
        return None
    if found.s_family == lib.NNG_AF_INET:
        packed = bytes(ffi.buffer(ffi.addressof(found.s_in, "sa_addr")))
        return socket.inet_ntop(socket.AF_INET, packed), socket.ntohs(found.s_in.sa_port)
    packed = bytes(ffi.buffer(found.s_in6.sa_addr))
    return socket.inet_ntop(socket.AF_INET6, packed), socket.ntohs(found.s_in6.sa_port)


def free_stream(pointer: Any) -> None:
    """Close a stream that nobody has made a :class:`Stream` of."""
    lib.nng_stream_close(pointer)
    lib.nng_stream_free(pointer)


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


def _claim() -> None:
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
    if code == 0:
        return
    text = str(ffi.string(lib.nng_strerror(code)), "utf-8")
    if code in (lib.NNG_ECRYPTO, lib.NNG_EPEERAUTH):
        raise DistrustError(f"NNG: {text}")
    raise OSError(_ERRNO.get(code, errno.EIO), text if code in _ERRNO else f"NNG: {text}")
