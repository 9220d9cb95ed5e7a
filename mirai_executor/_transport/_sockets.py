"""Listens at addresses, and dials them."""

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from mirai_executor._waiting import Deadline
from mirai_executor.credentials import TlsVersion
from mirai_executor.errors import LaunchError
from mirai_executor.urls import Url

from ._tls import TlsSocket, client_context

WEBSOCKETS = ("ws", "wss")  # schemes


class Listener:
    """Listens at one address.

    Args:
        url: The address; port 0 for a free one.

    Raises:
        OSError: Listening failed.

    Attributes:
        url: The address, with the port that was found.
    """

    def __init__(self, url: Url) -> None:
        from ._listening import listening_socket  # which daemons do without

        self._socket = listening_socket(url)
        self.url = url if url.scheme == "ipc" else url.with_port(self._socket.getsockname()[1])
        self._file = Path(url.path).stat() if url.scheme == "ipc" else None
        self._owner = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor, readable when somebody connects."""
        return self._socket.fileno()

    def accept(self) -> tuple[socket.socket, str] | None:
        """Return a connection and where it comes from, or None. Neither it nor this blocks.

        Raises:
            OSError: This process has no descriptor free.
        """
        try:
            connection, address = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return None
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                raise
            return None  # an error of that one connection, as accept(2) says
        connection.setblocking(False)
        _send_at_once(connection)
        return connection, str(address[0]) if isinstance(address, tuple) else "this machine"

    def covers(self, host: str) -> bool:
        """Tell whether what listens at all addresses does so at this one, too."""
        is_6 = self._socket.family == socket.AF_INET6
        if ":" in host:
            return is_6
        # As [::] has it, which leaves the same port to 0.0.0.0.
        return not is_6 or not self._socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

    def close(self) -> None:
        """Stop listening, and remove the file of an ipc address."""
        self._socket.close()
        if self._file is not None and os.getpid() == self._owner:
            with contextlib.suppress(OSError):  # another may be there by now
                path = Path(self.url.path)
                if os.path.samestat(path.stat(), self._file):
                    path.unlink()


def listen(urls: Sequence[Url]) -> list[Listener]:
    """Listen at all of some addresses; those that ask for any port share one, if they can.

    Args:
        urls: The addresses. TLS and WebSockets are up to the caller.

    Raises:
        OSError: Listening on one of them failed; the message names it.
        LaunchError: One of them is for WebSockets, and pynng is not installed.
    """
    for url in urls:
        _prepare(url)
    listeners: list[Listener] = []
    port = 0
    try:
        for url in urls:
            shared = url.with_port(port) if url.scheme != "ipc" and not url.port else url
            try:
                listeners.append(_listen(shared))
            except OSError:
                if shared == url:
                    raise
                listeners.append(_listen(url))  # somebody else has that port there
            port = port or listeners[-1].url.port
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen(url: Url) -> Listener:
    try:
        return Listener(url)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {url}: {error.strerror or error}") from error


def dial(
    url: Url,
    timeout: float,
    authority: str = "",
    server_name: str = "",
    tls_minimum: TlsVersion = TlsVersion.TLS_1_3,
) -> socket.socket | TlsSocket:
    """Return a connection to an address, with TLS and as a WebSocket where it says so. It blocks.

    Args:
        url: The address.
        timeout: Seconds for all of it.
        authority: The certificates that are trusted, as PEM; empty for those of the system.
        server_name: What the certificate has to bear; empty for the host of the address.
        tls_minimum: The oldest version of TLS that is spoken.

    Raises:
        OSError: Nobody listens there, or the address cannot be used on this machine.
        LaunchError: It is for WebSockets, and pynng is not installed.
        ssl.SSLCertVerificationError: Somebody else listens there.
    """
    _prepare(url)
    deadline = Deadline(timeout)
    connection = _connect(url, timeout)
    stream: socket.socket | TlsSocket = connection
    try:
        if url.is_tls:
            context = client_context(authority, tls_minimum, server_name)
            connection.settimeout(deadline.left)
            stream = TlsSocket(connection, context, server_name or url.host)
            stream.shake_hands()
        if url.scheme not in WEBSOCKETS:
            return stream
        from ._websocket import dial_websocket  # which other links do without

        return dial_websocket(stream, url, deadline)
    except BaseException:
        stream.close()
        raise


def _prepare(url: Url) -> None:
    """Import NNG where it is needed, and nowhere else."""
    if url.scheme not in WEBSOCKETS:
        return
    try:
        from ._nng import claim
    except ModuleNotFoundError as error:
        if error.name != "pynng":
            raise
        raise LaunchError(
            f"{url} needs pynng: pip install pynng (where Python has no build of it, as 3.15 has "
            "none yet, that takes CMake and a C compiler; tls+tcp:// needs no pynng)"
        ) from error
    claim()


def _connect(url: Url, timeout: float) -> socket.socket:
    if url.scheme == "ipc":
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(url.path)
        except BaseException:
            connection.close()
            raise
        return connection
    connection = socket.create_connection((url.socket_host, url.port), timeout)
    _send_at_once(connection)
    return connection


def _send_at_once(connection: socket.socket) -> None:
    """Send small frames at once."""
    if connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
