"""Says what host and daemon are, and whether they fit together."""

import re
import sys
from dataclasses import dataclass
from typing import Self

from mirai_executor._version import __version__

PROTOCOL = 1


@dataclass(frozen=True)
class PeerVersion:
    """What one side is: these must fit together."""

    python: tuple[int, int]
    version: str
    protocol: int = PROTOCOL

    @classmethod
    def this_process(cls) -> Self:
        """Return what this process is."""
        return cls(sys.version_info[:2], __version__)

    def __str__(self) -> str:
        major, minor = self.python
        return f"Python {major}.{minor}, mirai-executor {self.version}, protocol {self.protocol}"


def mismatch(host: PeerVersion, daemon: PeerVersion) -> str | None:
    """Say why host and daemon do not fit, in words for whoever sees either side; or None."""
    both = f" (the host has {host}; the daemon has {daemon})"
    if host.protocol != daemon.protocol or _series(host) != _series(daemon):
        return f"install the host's version of mirai-executor on the daemon's machine{both}"
    if host.python != daemon.python:
        # The bytecode of a function means something in one minor version only.
        return f"start the daemon with the host's version of Python{both}"
    return None


def _series(peer: PeerVersion) -> list[str]:
    return re.split(r"[^0-9]", peer.version)[:2]
