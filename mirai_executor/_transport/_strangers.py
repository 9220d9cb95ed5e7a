"""Closes connections that do not become WebSockets in time, or that are too many.

NNG 1.11 gives a connection all the time in the world for its TLS handshake and its HTTP request,
and has no limit for their number. It tells nobody of them either; but their sockets are among the
descriptors of this process, and to shut one down makes NNG let go of it.
"""

import contextlib
import ipaddress
import os
import resource
import socket
import stat
from collections.abc import Callable, Collection, Iterable

__all__ = ["Strangers"]

_PATIENCE = 10.0  # seconds that a stranger may take to become a WebSocket
_CROWD = 128  # of them at once
_MANY = 1 << 16  # descriptors that are looked at where they cannot be listed
_FOLDER = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"  # noqa: PTH112 - no Path is wanted

Peer = tuple[str, int]


class Strangers:
    """Those who have connected to one place.

    Args:
        host: The address, or the name, of the listener.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        # A name may stand for several addresses.
        self._is_any = host in ("0.0.0.0", "::") or not _is_address(host)  # noqa: S104 - to recognise them
        self._since: dict[Peer, float] = {}  # when each was seen first, in that order
        # To look at descriptors takes one, and they may be what strangers have used up.
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._spare = os.dup(self._null)

    def expel(self, known: Collection[Peer], now: float) -> int:
        """Cut off who has had his time, and who is one too many; return how many."""
        here: set[Peer] = set()
        self._visit(lambda _connection, _fd, peer: here.add(peer) if peer else None)
        here.difference_update(known)
        self._since = {peer: at for peer, at in self._since.items() if peer in here}
        for peer in sorted(here - self._since.keys()):
            self._since[peer] = now
        leaving = self._leaving(now)
        if leaving:
            self._shut_down(leaving)
        return len(leaving)

    def _leaving(self, now: float) -> set[Peer]:
        oldest = list(self._since.items())
        too_many = max(0, len(oldest) - _CROWD)
        return {
            peer
            for number, (peer, at) in enumerate(oldest)
            if number < too_many or at + _PATIENCE <= now
        }

    def _shut_down(self, peers: set[Peer]) -> None:
        def shut_down(connection: socket.socket, _: int, peer: Peer | None) -> None:
            if peer in peers:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

        self._visit(shut_down)

    def close_all(self) -> None:
        """In a forked child: close copies of all sockets here, that of the listener included."""
        self._visit(lambda _connection, fd, _peer: os.close(fd))

    def close(self) -> None:
        """Let go of the spare descriptor."""
        os.close(self._spare)
        os.close(self._null)

    def _visit(self, visitor: Callable[[socket.socket, int, Peer | None], None]) -> None:
        """Show the visitor a copy of each socket here, its descriptor and its peer."""
        for fd in _descriptors():
            with contextlib.suppress(OSError):  # it is none, or is closed meanwhile
                if not stat.S_ISSOCK(os.fstat(fd).st_mode) or fd == self._spare:
                    continue
                # NNG may close it at any moment, and the number may become another file.
                os.dup2(fd, self._spare, inheritable=False)
                copy = socket.socket(fileno=self._spare)
                try:
                    if self._is_here(copy):
                        visitor(copy, fd, _peer(copy))
                finally:
                    copy.detach()
        with contextlib.suppress(OSError):
            os.dup2(self._null, self._spare, inheritable=False)

    def _is_here(self, connection: socket.socket) -> bool:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        if connection.type != socket.SOCK_STREAM:
            return False
        host, port = connection.getsockname()[:2]
        return port == self._port and (self._is_any or host == self._host)


def _is_address(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def _descriptors() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir(_FOLDER)]  # noqa: PTH208 - no Path is wanted
    except OSError:  # the listing takes a descriptor, too
        return range(min(_MANY, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))


def _peer(connection: socket.socket) -> Peer | None:
    try:
        host, port = connection.getpeername()[:2]
    except OSError:
        return None  # it listens
    return str(host), int(port)
