"""A program: connects to an address again and again, says nothing, and tells how often at its end.

It takes a host, a port, the address to come from, and how often to connect in a second at most. It
goes on until its standard input ends, or for as long as a test may take.
"""

import collections
import itertools
import resource
import select
import socket
import struct
import sys
import time

AT_ONCE = 500  # that are open
CROWD = 300  # that have come before the test goes on
LONGEST = 20.0  # seconds
# Closed at once and for good, so that ports do not run out.
ABRUPT = struct.pack("ii", 1, 0)


def connected(target: tuple[str, int], source: str) -> socket.socket:
    """Return a connection that is about to be there."""
    stranger = socket.socket()
    stranger.setblocking(False)
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
    stranger.bind((source, 0))
    stranger.connect_ex(target)
    return stranger


def main(host: str, port: str, source: str, rate: str) -> None:
    limit = AT_ONCE + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    strangers: collections.deque[socket.socket] = collections.deque()
    begin = time.monotonic()
    for count in itertools.count(1):
        strangers.append(connected((host, int(port)), source))
        if len(strangers) > AT_ONCE:
            strangers.popleft().close()
        if count == CROWD:
            print("a crowd", flush=True)
        early = begin + count / float(rate) - time.monotonic()
        is_over = time.monotonic() - begin > LONGEST
        if is_over or select.select([sys.stdin], [], [], max(0.0, early))[0]:
            print(count, flush=True)
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
