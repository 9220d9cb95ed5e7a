"""Who may come in, and who is sent away: connections of a host, on a clock of the test's."""

import contextlib
import errno
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from clocks import Clock
from mirai_executor._host import _acceptor
from mirai_executor._host._acceptor import Acceptor
from mirai_executor._host._settings import ListenConfig
from mirai_executor._transport import FarLink, Link, LinkClosedError
from mirai_executor.credentials import DaemonHandshake, ProtocolError, Secret, Token
from mirai_executor.urls import Url

SECRET, OTHER = Secret(bytes(32)), Secret(b"x" * 32)
PATIENCE = 10.0  # seconds for the proof


class Listener:
    """A listening socket: who has knocked, or what accepting them fails with."""

    def __init__(self) -> None:
        self.url = Url.parse("ipc:///nowhere")
        self._waker = os.pipe()
        self.waiting: deque[tuple[socket.socket, str] | OSError] = deque()
        self.is_closed = False

    def fileno(self) -> int:
        return self._waker[0]

    def knock(self, what: "tuple[socket.socket, str] | OSError") -> None:
        if not self.waiting:
            os.write(self._waker[1], b"x")
        self.waiting.append(what)

    def accept(self) -> tuple[socket.socket, str] | None:
        if not self.waiting:
            os.read(self._waker[0], 1)
            return None
        if isinstance(self.waiting[0], OSError):
            raise self.waiting[0]  # until a test takes it away
        found = self.waiting.popleft()
        assert not isinstance(found, OSError)
        return found

    def close(self) -> None:
        self.is_closed = True

    def clean(self) -> None:
        for fd in self._waker:
            os.close(fd)


class Visitor:
    """The other end of a connection, and what proves who that is."""

    def __init__(self, secret: Secret | Token) -> None:
        here, self.there = socket.socketpair()
        self.link = Link(here.detach(), blocking=False)
        self._handshake = DaemonHandshake(secret)

    def greet(self) -> None:
        self.link.send(self._handshake.hello())

    def answer(self) -> bool:
        """Answer what has come; True once the host has let this one in."""
        while (frame := self.link.receive()) is not None:
            if (answer := self._handshake.receive(bytes(frame))) is not None:
                self.link.send(answer)
        return self._handshake.is_done

    @property
    def is_cut_off(self) -> bool:
        try:
            while self.link.receive() is not None:
                pass
        except LinkClosedError:
            return True
        return False


class World:
    """An acceptor, and those who come."""

    def __init__(self) -> None:
        self.clock, self.listener = Clock(), Listener()
        self.admitted: list[tuple[FarLink, str, Callable[[], None]]] = []
        listener: Any = self.listener
        config = ListenConfig((listener,), SECRET)
        self.acceptor = Acceptor(config, self.clock, lambda *one: self.admitted.append(one))
        self._visitors: list[Visitor] = []

    def come(self, secret: Secret | Token = SECRET, address: str = "192.0.2.1") -> Visitor:
        visitor = Visitor(secret)
        self._visitors.append(visitor)
        self.listener.knock((visitor.there, address))
        self.clock.look()
        return visitor

    def prove(self, visitor: Visitor) -> bool:
        """Have somebody go through the handshake; return whether it came to its end."""
        visitor.greet()
        with contextlib.suppress(LinkClosedError):
            for _ in range(4):
                self.clock.look()
                if visitor.answer():
                    return True
        return False

    def close(self) -> None:
        self.acceptor.close()
        for link, _, _ in self.admitted:
            link.close()
        for visitor in self._visitors:
            visitor.link.close()
            visitor.there.close()
        self.listener.clean()
        self.clock.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_who_knows_the_secret_is_let_in_and_has_all_the_time_from_then_on(world: World) -> None:
    visitor = world.come()
    assert world.admitted == []
    assert world.prove(visitor)
    ((_, address, _),) = world.admitted
    assert address == "192.0.2.1"
    world.clock.wait(10 * PATIENCE)
    assert not visitor.is_cut_off
    assert world.acceptor.refused == 0


def test_who_does_not_know_it_is_sent_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    visitor = world.come(OTHER)
    with caplog.at_level(logging.WARNING, "mirai_executor"), contextlib.suppress(ProtocolError):
        world.prove(visitor)
    assert (world.admitted, world.acceptor.refused) == ([], 1)
    assert "a connection from 192.0.2.1 was refused" in caplog.text


def test_who_says_nothing_is_sent_away_after_a_while(world: World) -> None:
    silent = world.come()
    world.clock.wait(PATIENCE / 2)
    later = world.come()
    world.clock.wait(PATIENCE / 2 + 0.1)
    assert silent.is_cut_off
    assert not later.is_cut_off
    assert world.acceptor.refused == 1
    assert world.prove(later)


def test_a_frame_that_is_longer_than_any_of_the_proof_is_not_waited_for(world: World) -> None:
    visitor = world.come()
    stream: Any = visitor.link._open_socket()
    stream.send(struct.pack("<Q", 513))  # its length
    world.clock.look()
    assert visitor.is_cut_off
    assert world.acceptor.refused == 1


def test_of_too_many_one_goes_of_where_most_come_from(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_acceptor, "most_guests", lambda: 3)
    crowd = [world.come(address="192.0.2.1") for _ in range(3)]
    alone = world.come(address="192.0.2.2")
    assert [visitor.is_cut_off for visitor in crowd].count(True) == 1
    crowd.append(world.come(address="192.0.2.1"))
    assert [visitor.is_cut_off for visitor in crowd].count(True) == 2
    assert world.prove(alone)


def test_without_a_descriptor_one_who_waits_makes_room(world: World) -> None:
    first = world.come()
    world.listener.knock(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    world.clock.look()
    assert first.is_cut_off
    world.listener.waiting.clear()


def test_where_nobody_can_make_room_the_next_ones_wait_for_half_a_second(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "mirai_executor"):
        world.listener.knock(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        world.clock.look()
    assert "no daemon can connect at the moment" in caplog.text
    assert world.listener.fileno() not in world.clock.get_map()
    world.listener.waiting.clear()
    visitor = world.come()
    world.clock.wait(0.4)
    assert len(world.listener.waiting) == 1
    world.clock.wait(0.2)
    world.clock.look()
    assert world.prove(visitor)


def test_with_a_token_that_was_taken_back_nobody_comes_again(world: World) -> None:
    token = SECRET.token(launch=1, member=2)  # of one daemon
    first = world.come(token)
    assert world.prove(first)
    (_, _, revoke) = world.admitted[0]
    revoke()
    second = world.come(token)
    with contextlib.suppress(ProtocolError):
        world.prove(second)
    assert len(world.admitted) == 1
    assert world.prove(world.come(SECRET.token(launch=1, member=3)))


def test_who_waits_when_the_host_closes_is_sent_away_and_nobody_listens(world: World) -> None:
    visitor = world.come()
    world.acceptor.close()
    assert visitor.is_cut_off
    assert world.listener.is_closed
    assert world.acceptor.refused == 0
    world.acceptor = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]  # it is closed
