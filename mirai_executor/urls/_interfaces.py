"""Lists the addresses of this machine's network interfaces. Nothing is sent for it."""

import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Reserved for documentation (RFC 5737 and 3849): no route of their own, so the default one.
_FAR_AWAY = ((socket.AF_INET, "203.0.113.1"), (socket.AF_INET6, "2001:db8::1"))

# netdevice(7): a list of names and addresses; the flags of one interface.
_SIOCGIFCONF, _SIOCGIFFLAGS = 0x8912, 0x8913
_IFREQ = struct.Struct("16sHH4s")  # name; of its address: family, port, IPv4 address
_IFREQ_SIZE = 16 + (24 if sys.maxsize > 2**32 else 16)
_UP_AND_RUNNING = 0x1 | 0x40
# linux/if_addr.h: temporary, failed its check for duplicates, deprecated, not checked yet
_UNSTABLE = 0x01 | 0x08 | 0x20 | 0x40


@dataclass(frozen=True)
class Address:
    interface: str
    host: str

    @property
    def version(self) -> int:
        return ipaddress.ip_address(self.host).version


def default_sources() -> list[str]:
    """Return the addresses from which this machine talks to the rest of the network."""
    sources = []
    for family, target in _FAR_AWAY:
        # Connecting a UDP socket only looks the route up.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            sources.append(str(probe.getsockname()[0]))
    return sources


def own_addresses() -> list[Address]:
    """Return the addresses of the interfaces that are up, in the order of the system."""
    if sys.platform != "linux":
        return list(_from_names())
    return [*_version_4(), *_version_6()]


def _version_4() -> Iterator[Address]:
    import array
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        room = 128 * _IFREQ_SIZE
        while True:
            names = array.array("B", bytes(room))
            answer = struct.pack("iP", room, names.buffer_info()[0])
            filled = struct.unpack("iP", fcntl.ioctl(asking, _SIOCGIFCONF, answer))[0]
            if filled < room:
                break
            room *= 2  # the kernel fills what there is, and says nothing of the rest
        data = names.tobytes()
        for start in range(0, filled, _IFREQ_SIZE):
            name, _, _, address = _IFREQ.unpack_from(data, start)
            if _is_running(asking, name):
                # An alias such as eth0:1 is a further address of eth0.
                interface = name.rstrip(b"\0").decode().partition(":")[0]
                yield Address(interface, socket.inet_ntoa(address))


def _is_running(asking: socket.socket, name: bytes) -> bool:
    import fcntl

    answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, name.ljust(_IFREQ_SIZE, b"\0"))
    flags: int = struct.unpack_from("H", answer, 16)[0]
    return flags & _UP_AND_RUNNING == _UP_AND_RUNNING


def _version_6(table: Path = Path("/proc/net/if_inet6")) -> Iterator[Address]:
    """Read the kernel's table: address, index, prefix, scope, flags (hexadecimal), name."""
    try:
        lines = table.read_text().splitlines()
    except OSError:  # no IPv6 here
        return
    for line in sorted(lines, key=lambda line: int(line.split()[1], 16)):
        digits, _, _, _, flags, name = line.split()
        if not int(flags, 16) & _UNSTABLE:
            yield Address(name, str(ipaddress.IPv6Address(int(digits, 16))))


def _from_names() -> Iterator[Address]:
    """Ask the resolver; where the interfaces cannot be listed, an address stands for its own."""
    hosts = default_sources()
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
        hosts += [str(place[0]).partition("%")[0] for *_, place in found]
    for host in dict.fromkeys(hosts):
        yield Address(host, host)
