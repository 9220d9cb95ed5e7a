"""Makes the addresses at which this machine can be reached, from others or only from itself."""

import ipaddress
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ._interfaces import Address, default_sources, own_addresses
from ._url import LONGEST_FILE, Url, checked_port


def host_url(*, tls: bool = False, port: int = 0) -> list[str]:
    """Return the addresses at which other machines may reach this one, best first. Sends nothing.

    First comes the interface through which this machine reaches the rest of the network, then the
    others in the order of the system; for each, an IPv4 address before an IPv6 one. Link-local and
    temporary IPv6 addresses are left out. A machine without any other address gets its loopback
    address.

    Args:
        tls: Whether to use TLS.
        port: The port; 0 for a free one.

    Returns:
        URLs for ``url=``. An executor listens on all of them, and daemons try them in this order.

    Raises:
        ValueError: ``port`` is not a valid port.

    Example:
        >>> urls = host_url(tls=True)
        >>> urls[0].startswith("tls+tcp://")
        True
    """
    scheme = "tls+tcp" if tls else "tcp"
    port = checked_port(port)
    best = _best_first(own_addresses(), default_sources())
    return [str(Url(scheme, host, port)) for host in best]


def local_url(*, tcp: bool = False, port: int = 0) -> str:
    """Return an address that only this machine can reach.

    Args:
        tcp: Whether it must be a TCP port of 127.0.0.1, as SSH tunnels need. Otherwise it is a
            file with a random name, in a folder that only you can enter.
        port: The TCP port; 0 for a free one.

    Returns:
        A URL for ``url=``.

    Raises:
        ValueError: ``port`` is not a valid port, or is given without ``tcp``.

    Example:
        >>> local_url(tcp=True)
        'tcp://127.0.0.1:0'
    """
    if tcp:
        return str(Url("tcp", "127.0.0.1", checked_port(port)))
    if port:
        raise ValueError("port needs tcp=True: a local address without TCP is a file")
    return str(Url("ipc", path=str(_private_folder() / secrets.token_hex(12))))


def _best_first(addresses: Iterable[Address], sources: Iterable[str]) -> list[str]:
    """Choose of each interface one address of each version, the default route's own first."""
    sources = list(sources)
    known = [address for address in addresses if not _is_link_local(address.host)]
    usable = [one for one in known if not _is_loopback(one.host)] or known
    through = [one.interface for source in sources for one in usable if one.host == source]
    order = list(dict.fromkeys([*through, *(one.interface for one in usable)]))
    usable.sort(key=lambda one: (order.index(one.interface), one.version, one.host not in sources))
    chosen = {(one.interface, one.version): one.host for one in reversed(usable)}
    # From a dictionary that was filled backwards, so that the first of equals stays.
    return list(reversed(chosen.values())) or ["127.0.0.1"]


def _is_link_local(host: str) -> bool:
    return ipaddress.ip_address(host).is_link_local


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _private_folder() -> Path:
    """Return a folder of this user alone; one for all addresses, so that none is left behind."""
    for base, name in _bases():
        folder = base / name
        # Enough room for the name: 24 characters and a slash.
        if len(os.fsencode(folder)) + 25 <= LONGEST_FILE and _make_private(folder):
            return folder
    return Path(tempfile.mkdtemp(prefix="mirai-executor-", dir="/tmp"))


def _bases() -> list[tuple[Path, str]]:
    mine = f"mirai-executor-{os.getuid()}"
    bases = [(Path(tempfile.gettempdir()), mine), (Path("/tmp"), mine)]  # noqa: S108 - _make_private checks whose it is
    if runtime := os.environ.get("XDG_RUNTIME_DIR", ""):
        bases.insert(0, (Path(runtime), "mirai-executor"))
    return [(base, name) for base, name in bases if base.is_absolute()]


def _make_private(folder: Path) -> bool:
    """Make the folder, or say no: another user may have made one of that name."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    is_private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) & 0o077 == 0
    return is_private and found.st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
