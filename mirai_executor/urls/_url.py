"""Reads, checks and prints one address on which a host listens and to which daemons connect."""

import ipaddress
import os
import re
from dataclasses import dataclass, replace
from typing import Self

_NETWORK = ("tcp", "tls+tcp", "ws", "wss")
_TLS = ("tls+tcp", "wss")
_WITH_PATH = ("ws", "wss")
_WILDCARDS = ("*", "0.0.0.0", "::")  # noqa: S104 - to recognise them, not to listen there
_EXAMPLE = "such as 'tcp://192.168.1.71:5555'"
_HINTS = {
    "abstract": "any user of the machine could connect to it; use ipc://",
    "inproc": "daemons are separate processes; use ipc://",
    "tls": "write tls+tcp://",
    "tcps": "write tls+tcp://",
    "http": "write ws://",
    "https": "write wss://",
    "unix": "write ipc://",
    "ssh": "to start daemons over SSH, pass this to ssh_config(), not as the url",
}
_PARTS = re.compile(r"(?P<host>\[[^\]]*\]|[^:/\[\]]*)(?P<port>:[^/]*)?(?P<path>/.*)?")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
# Those of RFC 3986 that mean nothing to a shell, as users paste addresses.
_PATH = re.compile(r"/([A-Za-z0-9/._~+,=:@-]|%[0-9A-Fa-f]{2})*")
# What inet_aton(3) takes for an IPv4 address, and a reader might not: 0x7f000001, 127.1.
_NUMBERS = re.compile(r"(0[xX][0-9A-Fa-f]*|[0-9]*)(\.(0[xX][0-9A-Fa-f]*|[0-9]*))*")
# sun_path of unix(7) has 108 bytes, the last of them NUL.
LONGEST_FILE = 107
_LONGEST_NAME = 253  # RFC 1035


@dataclass(frozen=True)
class Url:
    """An address, in parts that have been checked.

    Args:
        scheme: One of tcp, tls+tcp, ws, wss and ipc.
        host: A name or an IP address, without brackets; "*" for every interface.
        port: 0 for a free one.
        path: The file of an ipc address; what follows the port of a ws or wss one.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that a text stands for.

        Raises:
            TypeError: It is not a string.
            ValueError: It is not a valid address; the message says what to write instead.
        """
        if not isinstance(text, str):
            raise TypeError(f"url must be a string {_EXAMPLE}, not {text!r}")
        scheme, found, rest = text.partition("://")
        scheme = scheme.lower()
        if not found:
            raise ValueError(f"{text!r} has no scheme; expected an address {_EXAMPLE}")
        if scheme == "ipc":
            return cls(scheme, path=_checked_file(rest, text))
        if scheme not in _NETWORK:
            hint = _HINTS.get(scheme, f"use one of {', '.join((*_NETWORK, 'ipc'))}")
            raise ValueError(f"unsupported scheme in {text!r}: {hint}")
        return cls(scheme, *_checked_place(rest, text, with_path=scheme in _WITH_PATH))

    def __str__(self) -> str:
        if self.scheme == "ipc":
            return f"ipc://{self.path}"
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Return host and port as they stand in the URL, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def socket_host(self) -> str:
        """Return the host as sockets take it.

        An IPv4 address may be written as an IPv6 one, such as ::ffff:192.168.1.71. A socket of
        IPv6 alone refuses it, and a machine without IPv6 has no other.
        """
        mapped = getattr(_as_address(self.host), "ipv4_mapped", None)
        return self.host if mapped is None else str(mapped)

    @property
    def is_tls(self) -> bool:
        """Say whether what travels there is encrypted."""
        return self.scheme in _TLS

    @property
    def is_loopback(self) -> bool:
        """Say whether only this machine can reach it."""
        if self.scheme == "ipc" or self.host.lower() == "localhost":
            return True
        address = _as_address(self.socket_host)
        return address is not None and address.is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Say whether it means every interface: one can listen there, but not dial it."""
        return self.socket_host in _WILDCARDS

    def with_port(self, port: int) -> Self:
        """Return the same address with another port."""
        if self.scheme == "ipc":
            raise ValueError(f"{self} has no port")
        return replace(self, port=checked_port(port))

    def with_host(self, host: str) -> Self:
        """Return the same address at another host, as for each address behind a wildcard."""
        return replace(self, host=_checked_host(host, host))


def _checked_file(path: str, text: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f"{text!r} needs an absolute path, such as ipc:///tmp/name")
    if not path.isprintable():
        raise ValueError(f"{text!r} contains a character that is not allowed in a file name")
    if len(os.fsencode(path)) > LONGEST_FILE:
        raise ValueError(
            f"the path in {text!r} is longer than {LONGEST_FILE} bytes, the limit for a socket"
        )
    return path


def _checked_place(rest: str, text: str, *, with_path: bool) -> tuple[str, int, str]:
    if "@" in rest.partition("/")[0]:
        raise ValueError(f"{text!r} contains a user name; an address to listen on has none")
    if rest.count(":") > 1 and "[" not in rest:
        raise ValueError(
            f"{text!r} needs brackets around its IPv6 address, such as tcp://[::1]:5555"
        )
    parts = _PARTS.fullmatch(rest)
    if parts is None:
        raise ValueError(f"invalid address {text!r}: expected host and port, {_EXAMPLE}")
    if not parts["port"]:
        scheme = text.partition("://")[0]
        start = text.rstrip("/") if parts["host"] else f"{scheme}://127.0.0.1"
        raise ValueError(f"{text!r} has no port; write {start}:0 to use a free one")
    host, path = _checked_host(parts["host"] or "*", text), parts["path"] or ""
    if not with_path and path not in ("", "/"):
        raise ValueError(f"{text!r} has a path, which only ws:// and wss:// addresses may have")
    if path and not _PATH.fullmatch(path):
        raise ValueError(f"the path in {text!r} contains a character that is not allowed there")
    return host, checked_port(parts["port"][1:]), path if with_path else ""


def _checked_host(host: str, text: str) -> str:
    if host.startswith("["):
        address = _as_address(host[1:-1])
        if address is None or address.version == 4 or "%" in host:
            raise ValueError(
                f"{text!r}: {host} is not an IPv6 address (zones such as %eth0 are not supported)"
            )
        return str(address)
    if host == "*" or ("%" not in host and _as_address(host) is not None):
        return host
    if not _NAME.fullmatch(host) or len(host) > _LONGEST_NAME:
        raise ValueError(f"{text!r}: {host!r} is neither a host name nor an IP address")
    if _NUMBERS.fullmatch(host):
        raise ValueError(
            f"{text!r}: {host} is not an IPv4 address, which is four decimal numbers such as "
            "192.168.1.71"
        )
    return host


def checked_port(port: int | str) -> int:
    number = int(port) if str(port).isascii() and str(port).isdecimal() else -1
    if not 0 <= number <= 65535:
        raise ValueError(
            f"a port must be a number from 1 to 65535, or 0 for a free one, not {port!r}"
        )
    return number


def _as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
