"""How the end of a daemon is told: after what it had sent has had time to come in, and once."""

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from mirai_executor._local import LAST_FRAMES, DaemonProcess, DeathWatch, Forked
from mirai_executor._waiting import Reactor


class Process(DaemonProcess):
    """Has no process, and ends when a test says so."""

    def __init__(self, end_fd: int) -> None:
        self.is_dead = self.link_is_closed = False
        self.has_greeted = True
        self.end_fd = end_fd
        self.said: list[str] = []
        self.next_fd: int | None = None  # once it is another process

    def has_ended(self) -> bool:
        return "end" in self.said

    def kill(self, signum: int = signal.SIGKILL) -> None:
        self.said.append("kill")

    def reap(self) -> None:
        self.said.append("reap")

    def replace(self, process: Forked) -> None:
        self.end_fd = -1
        if self.next_fd is None:
            raise OSError("no descriptor is free")
        self.end_fd = self.next_fd


class World:
    """Daemons, what tells of their ends, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reactor = Reactor(clock=lambda: self.now)
        self.ended: list[str] = []
        self.deaths: DeathWatch[str] = DeathWatch(self.reactor, self.on_end)
        self._fds: dict[int, int] = {}

    def on_end(self, key: str) -> None:
        self.deaths.remove(key)
        self.ended.append(key)

    def pipe(self) -> int:
        reads, writes = os.pipe()
        self._fds[reads] = writes
        return reads

    def add(self, key: str, *, told: bool = True) -> Process:
        process = Process(self.pipe() if told else -1)
        self.deaths.add(key, process)
        return process

    def end(self, process: Process) -> None:
        """Have a process end, and take note where something tells."""
        process.said.append("end")
        if process.end_fd >= 0:
            os.write(self._fds[process.end_fd], b"x")
        self.reactor.turn(self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.reactor.turn(self.now)

    def close(self) -> None:
        self.reactor.close()
        for reads, writes in self._fds.items():
            os.close(reads)
            os.close(writes)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_a_daemon_whose_link_is_closed_ends_with_its_process(world: World) -> None:
    daemon = world.add("one")
    daemon.link_is_closed = True
    world.deaths.note_link_closed("one", 1.0)
    assert world.ended == []
    world.end(daemon)
    assert world.ended == ["one"]
    assert daemon.is_dead
    assert daemon.said == ["end", "reap"]
    assert world.reactor.next_deadline() == float("inf")


def test_the_last_frames_of_a_dead_daemon_have_time_to_come(world: World) -> None:
    world.end(world.add("one"))
    world.wait(0.8 * LAST_FRAMES)
    assert world.ended == []
    world.wait(0.3 * LAST_FRAMES)
    assert world.ended == ["one"]


def test_a_dead_daemon_ends_when_its_link_is_closed(world: World) -> None:
    daemon = world.add("one")
    world.end(daemon)
    daemon.link_is_closed = True
    world.deaths.note_link_closed("one", 1.0)
    assert world.ended == ["one"]
    world.wait(LAST_FRAMES)
    assert world.ended == ["one"]


def test_nothing_is_awaited_of_a_daemon_that_has_not_greeted(world: World) -> None:
    daemon = world.add("one")
    daemon.has_greeted = False
    world.end(daemon)
    assert world.ended == ["one"]


def test_a_daemon_that_outlives_its_link_is_killed(world: World) -> None:
    daemon = world.add("one")
    world.deaths.note_link_closed("one", 1.0)
    world.wait(0.9)
    assert daemon.said == []
    world.wait(0.2)
    assert daemon.said == ["kill"]
    assert world.ended == []  # its death is still to be told


def test_a_daemon_may_live_on_without_its_link_where_nobody_minds(world: World) -> None:
    daemon = world.add("one")
    world.deaths.note_link_closed("one", None)
    world.wait(1000.0)
    assert daemon.said == []


def test_a_limit_holds_for_whoever_has_none_yet(world: World) -> None:
    daemon = world.add("one")
    world.deaths.limit("one", 1.0)
    world.deaths.limit("one", 5.0)
    world.wait(1.1)
    assert daemon.said == ["kill"]


def test_a_daemon_without_a_process_here_ends_when_its_link_is_closed_or_its_time_is_up(
    world: World,
) -> None:
    world.deaths.note_link_closed("one", 1.0)
    world.deaths.limit("two", 1.0)
    assert world.ended == ["one"]
    world.wait(1.1)
    assert world.ended == ["one", "two"]


def test_where_nothing_tells_of_its_death_a_daemon_is_looked_at(world: World) -> None:
    daemon = world.add("one", told=False)
    daemon.link_is_closed = True
    world.wait(1.0)
    assert world.reactor.next_deadline() <= world.now + 0.1
    world.end(daemon)
    assert world.ended == []
    world.wait(0.11)
    assert world.ended == ["one"]
    assert world.reactor.next_deadline() == float("inf")


def test_a_daemon_is_watched_under_the_process_that_it_has_become(world: World) -> None:
    daemon = world.add("one")
    daemon.link_is_closed = True
    daemon.next_fd = world.pipe()
    world.deaths.replace("one", SimpleNamespace())  # type: ignore[arg-type]
    world.end(daemon)
    assert world.ended == ["one"]


def test_a_daemon_that_cannot_be_watched_any_more_is_killed(world: World) -> None:
    daemon = world.add("one")
    world.deaths.replace("one", SimpleNamespace())  # type: ignore[arg-type]
    assert daemon.said == ["kill"]
    daemon.has_greeted = False
    world.end(daemon)
    world.wait(0.11)
    assert world.ended == ["one"]
