"""Links over NNG, where NNG itself has to be helped."""

import os
import socket
from pathlib import Path

import pytest

from mirai_executor._transport._nng import Link

GREETING = b"\0SP\0\0\x11\0\0"  # of a Pair1 socket, as its first bytes on a stream


def open_sockets() -> int:
    targets = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(entry.readlink()))
        except OSError:
            continue  # the descriptor of this very listing
    return sum(target.startswith("socket:") for target in targets)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("greeting", [GREETING, GREETING[:3], b"", None])
def test_a_link_closed_while_the_sides_greet_each_other_leaves_no_descriptor(
    greeting: bytes | None,
) -> None:
    before = open_sockets()
    for _ in range(50):
        here, there = socket.socketpair()
        link = Link(here.detach(), buffered=True, on_closed=lambda: None)
        if greeting is None:
            there.close()
        else:
            there.sendall(greeting)
        link.close()
        there.close()
    assert open_sockets() == before


def test_a_closed_link_closes_its_descriptor_and_no_other() -> None:
    here, there = socket.socketpair()
    number = here.fileno()
    link = Link(here.detach(), buffered=True, on_closed=lambda: None)
    link.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    there.close()
