"""Makes a second host of this machine: a network namespace, joined by a cable of two ends."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_numbers = itertools.count(os.getpid() % 10_000)


@dataclass(frozen=True)
class Cable:
    """The cable between this host and the far one, and the addresses of its near end.

    Attributes:
        far: The name of the far host, for ``ip netns exec``.
        near_end: The interface here.
        address: The address of this host on the cable.
        address_6: The same, of version 6.
    """

    far: str
    near_end: str
    address: str
    address_6: str

    def cut(self) -> None:
        """Let nothing through any more."""
        ip("link", "set", self.near_end, "down")

    def mend(self) -> None:
        """Let everything through again."""
        ip("link", "set", self.near_end, "up")
        # What was set by hand goes with the interface.
        ip("-6", "address", "replace", f"{self.address_6}/64", "dev", self.near_end, "nodad")

    def remove(self) -> None:
        """Take the cable away for good."""
        ip("link", "delete", self.near_end)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@contextmanager
def second_host() -> Iterator[Cable]:
    number = next(_numbers)
    net = f"10.{64 + number % 64}.{number // 64 % 256}"
    net_6 = f"fd{number % 256:02x}:{number:x}"
    cable = Cable(f"mx{number}", f"mxn{number}", f"{net}.1", f"{net_6}::1")
    far_end = f"mxf{number}"
    ip("netns", "add", cable.far)
    try:
        ip("link", "add", cable.near_end, "type", "veth", "peer", "name", far_end)
        ip("link", "set", far_end, "netns", cable.far)
        ip("address", "add", f"{cable.address}/24", "dev", cable.near_end)
        ip("link", "set", cable.near_end, "up")
        ip("-6", "address", "add", f"{cable.address_6}/64", "dev", cable.near_end, "nodad")
        inside = ("netns", "exec", cable.far, "ip")
        ip(*inside, "address", "add", f"{net}.2/24", "dev", far_end)
        ip(*inside, "link", "set", far_end, "up")
        ip(*inside, "-6", "address", "add", f"{net_6}::2/64", "dev", far_end, "nodad")
        yield cable
    finally:
        with suppress(subprocess.CalledProcessError):
            cable.remove()
        ip("netns", "delete", cable.far)
