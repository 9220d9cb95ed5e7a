"""Makes sockets that listen, at an address or at a file."""

import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from mirai_executor.urls import Url

_BACKLOG = 512
_WILDCARD = "*"


def listening_socket(url: Url) -> socket.socket:
    """Return a socket that listens, and does not block.

    Raises:
        OSError: It cannot.
    """
    if url.scheme == "ipc":
        return _listening_file(url.path)
    host = "" if url.host == _WILDCARD else url.socket_host
    family = socket.AF_INET6 if ":" in host or (not host and _has_ipv6()) else socket.AF_INET
    places = [(family, host)]
    if host and family == socket.AF_INET:
        found = socket.getaddrinfo(
            host, url.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        places = [(family, str(address[0])) for family, _, _, _, address in found]
    listening = _first_of(places, url.port)
    listening.setblocking(False)
    return listening


def _first_of(places: Sequence[tuple[socket.AddressFamily, str]], port: int) -> socket.socket:
    """Listen at the first address that is one of this machine: a name may have others first."""
    *others, last = places
    for place in others:
        try:
            return _server(*place, port)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return _server(*last, port)


def _server(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    return socket.create_server(
        (host, port),
        family=family,
        backlog=_BACKLOG,
        dualstack_ipv6=not host and family == socket.AF_INET6,
    )


def _listening_file(path: str) -> socket.socket:
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(path)
        # For this user alone. Nobody can connect before it listens; and a umask would be that of
        # all threads.
        Path(path).chmod(0o600)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _remove_stale(path: str) -> None:
    """Remove what a host that was killed has left; nobody listens there."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "a file of that name exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except OSError:
            pass  # to bind will say what is wrong


def _has_ipv6() -> bool:
    return socket.has_dualstack_ipv6()
