"""Many daemons in one process: each has a connection of its own, and all run their tasks here.

``CROWD_SECRET=... python crowd.py PORT COUNT`` connects so many, and ends with their host.
"""

import os
import selectors
import socket
import sys
from typing import Any

from mirai_executor import _wire
from mirai_executor._payload import daemon as _payload
from mirai_executor._transport import FarLink, Link, LinkClosedError
from mirai_executor._version import __version__
from mirai_executor.credentials import DaemonHandshake, Opener, Sealer, Secret


class Simulated:
    """A keeper and a daemon, as far as the host can tell."""

    namespace: _payload.Namespace | None = None  # of all: a process has one

    def __init__(self, port: int, secret: Secret) -> None:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(connection, blocking=True)
        handshake = DaemonHandshake(secret)
        link.send(handshake.hello())
        while not handshake.is_done:
            frame = link.receive()
            assert frame is not None
            answer = handshake.receive(bytes(frame))
            if answer is not None:
                link.send(answer)
        keys = handshake.keys
        assert keys is not None
        self.link = FarLink(link, Sealer(keys.to_host), Opener(keys.to_daemon))
        self.say(_wire.Joined(os.getpid(), "crowd"))
        self.say(_wire.Hello(os.getpid(), sys.version_info[:3], __version__))

    def say(self, frame: _wire.Frame) -> None:
        self.link.send(_wire.encode(frame))

    def take_in(self) -> bool:
        """Do what has come; False once the host has let this daemon go."""
        while (data := self.link.receive()) is not None:
            match frame := _wire.decode(data):
                case _wire.Init(payload):
                    self.initialize(_payload.decode_plain(payload))
                case _wire.Tasks(tasks):
                    outcomes = tuple(self.run(task) for task in tasks)
                    self.say(_wire.Outcomes(outcomes))
                case _wire.Beat():
                    self.say(frame)  # one that says nothing for too long is lost
                case _wire.Leave() | _wire.Kill():
                    return False
                case _:
                    pass  # the first frame
        return True

    def initialize(self, setup: Any) -> None:
        if Simulated.namespace is None:
            Simulated.namespace = _payload.Namespace(setup[0])
        self.say(_wire.Ready())

    def run(self, task: _wire.WireTask) -> _wire.WireOutcome:
        assert self.namespace is not None
        call = self.namespace.decode(task.payload, [], buffers=(), persist=False)
        value = _payload.encode_value(call(), out_of_band=False)
        return _wire.WireOutcome(task.task, _wire.OutcomeStatus.VALUE, False, value.blob, 1000)


def main(port: int, secret: Secret, count: int) -> None:
    with selectors.DefaultSelector() as selector:
        for _ in range(count):
            one = Simulated(port, secret)
            selector.register(one.link.fileno(), selectors.EVENT_READ, one)
            serve(selector, 0.0)
        while selector.get_map():
            serve(selector, None)


def serve(selector: selectors.BaseSelector, timeout: float | None) -> None:
    for key, _ in selector.select(timeout):
        try:
            stays = key.data.take_in()
        except LinkClosedError:
            stays = False
        if not stays:
            selector.unregister(key.fd)
            key.data.link.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), Secret.from_text(os.environ["CROWD_SECRET"]), int(sys.argv[2]))
