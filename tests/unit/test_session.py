"""A keeper between a host and a daemon: what it passes on, what it says, and how it all ends."""

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from clocks import Clock
from mirai_executor import _wire
from mirai_executor._core import TaskId
from mirai_executor._local import LAST_FRAMES, DaemonProcess
from mirai_executor._transport import FarLink, Link
from mirai_executor._wire import Outcomes, OutcomeStatus, Tasks, WireOutcome, WireTask
from mirai_executor.keeper import KeeperOptions
from mirai_executor.keeper._session import End, Session
from mirai_executor.keeper._started import Started
from mirai_executor.urls import Url

URL = Url.parse("tcp://127.0.0.1:9")
PATIENCE = 5.0  # seconds for a keeper to send what it has
BEAT = 1.0  # seconds, once the host has said so


class Daemon(DaemonProcess):
    """Has no process: it notes what it is told, and ends when a test says so."""

    pid = 4321
    exitcode: int | None = None
    has_run_out_of_memory = False

    def __init__(self, link: Link, end_fd: int) -> None:
        self.is_dead = self.link_is_closed = self.has_greeted = self.dismissed = False
        self.link, self.end_fd = link, end_fd
        self.said: list[Any] = []
        self.not_begun: tuple[TaskId, ...] = ()  # of what it has got
        self.last_words = ""
        self.on_kill: Callable[[], object] = lambda: None

    def issue(self, tasks: Sequence[TaskId], without: Collection[int] = ()) -> None:
        self.said.append(("issue", [task for task in tasks if task not in without]))

    def take_back(self) -> tuple[TaskId, ...]:
        tasks, self.not_begun = self.not_begun, ()
        return tasks

    def interrupt(self, task: TaskId) -> None:
        self.said.append(("interrupt", task))

    def resend_stop(self) -> None:
        self.said.append("again")

    def kill(self, signum: int = signal.SIGKILL) -> None:
        self.said.append(("kill", signum))
        self.on_kill()

    def reap(self) -> None:
        self.said.append("reap")
        if self.exitcode is None:
            self.exitcode = -signal.SIGKILL

    def close(self) -> str:
        self.said.append("close")
        self.link.close()
        return self.last_words


class Scripted(Clock):
    """Runs what a test does."""

    script: Callable[[], None]

    def run(self) -> None:
        self.script()


class World:
    """A session, with the host's end of one link and the daemon's end of the other."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.closed = Scripted(), list[str]()
        here, there = socket.socketpair()
        self.host = FarLink(Link(there.detach(), blocking=False))
        mine = FarLink(Link(here.detach(), blocking=False))
        here, there = socket.socketpair()
        self.tasks = Link(there.detach(), blocking=False)  # what the daemon reads and writes
        self._end_fd, self._ends = os.pipe()
        self.daemon = Daemon(Link(here.detach(), blocking=False), self._end_fd)
        self._link, self.said_to_go_on = mine, list[End]()
        parts: list[Any] = [
            SimpleNamespace(close=lambda name=name: self.closed.append(name), pass_on=lambda: None)
            for name in ("output", "spawner", "relay")
        ]
        started = Started(self.clock, self.daemon, *parts)
        end_at = options.pop("end_at", float("inf"))
        self.session = Session(mine, KeeperOptions(urls=(URL,), **options), end_at, started)

    def run(self, script: Callable[[], None]) -> End:
        """Run the session, and what a test does meanwhile."""
        self.clock.script = script
        return self.session.run(self._goes_on)

    def _goes_on(self, _: Session, end: End) -> bool:
        self.said_to_go_on.append(end)
        return end is End.CRASHED

    # What the host does, and gets

    def tell(self, *frames: _wire.Frame, first: bool = False) -> None:
        for frame in frames:
            send = self.host.send_first if first else self.host.send
            send(*_wire.pieces(frame))
        self.clock.look()

    def heard(self) -> list[_wire.Frame]:
        """Return what has come to the host since the last time."""
        found = []
        while (data := self.host.receive()) is not None:
            found.append(_wire.decode(data))
        return found

    # What the daemon does, and gets

    def say(self, *frames: _wire.Frame) -> None:
        for frame in frames:
            self.tasks.send(*_wire.pieces(frame))
        self.clock.look()

    def got(self) -> list[_wire.Frame]:
        """Return what has come to the daemon since the last time."""
        found = []
        while (data := self.tasks.receive()) is not None:
            found.append(_wire.decode(data))
        return found

    def end(self, code: int) -> None:
        """Have the daemon exit."""
        self.tasks.close()
        self.mark_end(code)
        self.clock.look()

    def mark_end(self, code: int) -> None:
        self.daemon.exitcode = code
        os.write(self._ends, b"x")

    def close(self) -> None:
        for link in (self.host, self.tasks, self._link, self.daemon.link):
            link.close()
        os.close(self._end_fd)
        os.close(self._ends)
        self.clock.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    """Makes sessions with options of their own."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def tasks(*ids: int) -> Tasks:
    return Tasks(tuple(WireTask(id_, (), b"call") for id_ in ids))


def outcomes(
    *ids: int, status: OutcomeStatus = OutcomeStatus.VALUE, nanoseconds: int = 0
) -> Outcomes:
    payload = b"" if status is OutcomeStatus.SKIPPED else b"result"
    return Outcomes(
        tuple(
            WireOutcome(id_, status, leaving=False, payload=payload, nanoseconds=nanoseconds)
            for id_ in ids
        )
    )


ATTEND = _wire.Attend(BEAT)


def test_the_host_hears_first_who_comes_and_how_it_lives(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRAI_EXECUTOR_SEAT", "a seat")
    world = worlds(cleanup=True, max_tasks_per_child=3, idle_time=5.0, request="a request")

    def script() -> None:
        name = socket.gethostname()
        limits = (True, 3, 5.0, "a request", "a seat")
        assert world.heard() == [_wire.Joined(4321, name, *limits)]
        world.host.close()
        world.clock.look()

    assert world.run(script) is End.CUT_OFF
    assert world.daemon.said == ["reap", "close"]
    assert world.closed == ["spawner", "output", "relay"]


def test_tasks_get_their_tickets_and_their_outcomes_come_back(world: World) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, tasks(1, 2))
        assert world.daemon.said == [("issue", [1, 2])]
        assert world.got() == [tasks(1, 2)]
        world.say(outcomes(1), outcomes(2))
        assert world.heard() == [outcomes(1), outcomes(2)]
        world.host.close()
        world.clock.look()

    assert world.run(script) is End.CUT_OFF
    assert world.session.begun == 2


def test_a_task_that_is_to_stop_before_it_has_come_is_answered_and_gets_no_ticket(
    world: World,
) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, _wire.Stop(7, sent=3))
        assert world.heard() == [outcomes(7, status=OutcomeStatus.SKIPPED)]
        world.tell(tasks(6, 7))
        assert world.daemon.said == [("issue", [6])]
        world.tell(tasks(7))  # another try of it, which nobody has stopped
        assert world.daemon.said[1:] == [("issue", [7])]
        world.host.close()
        world.clock.look()

    world.run(script)
    assert world.session.begun == 2


def test_what_is_to_stop_and_has_ended_is_answered_as_something_that_ran(world: World) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, tasks(1))
        world.say(outcomes(1))
        world.heard()
        world.tell(_wire.Stop(1, sent=1))
        assert world.heard() == [outcomes(1, status=OutcomeStatus.SKIPPED, nanoseconds=1)]
        assert world.daemon.said == [("issue", [1])]
        world.host.close()
        world.clock.look()

    world.run(script)


def test_a_task_that_runs_is_asked_to_stop_until_it_has_ended(world: World) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, tasks(1), _wire.Stop(1, sent=1))
        assert world.daemon.said == [("issue", [1]), ("interrupt", 1)]
        world.clock.wait(0.07)  # after 20 and 40 ms more
        assert world.daemon.said[2:] == ["again", "again"]
        world.say(outcomes(1))
        world.clock.wait(1.0)
        assert world.daemon.said[2:] == ["again", "again"]
        world.host.close()
        world.clock.look()

    world.run(script)


def test_so_is_a_broadcast(world: World) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, _wire.Stop(5, sent=0))
        assert world.daemon.said == [("interrupt", 5)]
        world.clock.wait(0.03)
        assert world.daemon.said[1:] == ["again"]
        world.say(_wire.BroadcastOutcome(5, OutcomeStatus.VALUE, b"result"))
        world.clock.wait(1.0)
        assert world.daemon.said[1:] == ["again"]
        world.host.close()
        world.clock.look()

    world.run(script)


@pytest.mark.parametrize(("size", "order"), [(100, [2, 1]), (1 << 17, [1, 2])])
def test_what_has_stopped_as_it_was_to_overtakes_results_that_are_under_way_if_it_is_short(
    world: World, size: int, order: list[int]
) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, tasks(1, 2), _wire.Stop(2, sent=2))
        for task, bytes_ in ((1, 4 << 20), (2, size)):
            [outcome] = outcomes(task).outcomes
            world.tasks.send(*_wire.pieces(Outcomes((outcome._replace(payload=bytes(bytes_)),))))
            while world.tasks.has_more_to_send:
                world.clock.look()
                world.tasks.flush()
            world.clock.look()  # nothing of it is read at the host yet
        frames: list[Any] = []
        while len(frames) < 2:
            frames += [it for it in world.heard() if isinstance(it, Outcomes)]
            world.clock.look()
        assert [frame.outcomes[0].task for frame in frames] == order
        world.host.close()
        world.clock.look()

    world.run(script)


def test_what_has_not_begun_goes_back_to_the_host(world: World) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, tasks(1, 2, 3))
        world.daemon.not_begun = (TaskId(2), TaskId(3))
        world.tell(_wire.Recall())
        assert world.heard() == [_wire.Returned((2, 3))]
        assert world.daemon.said[1:] == ["again"], "it is to send the results that it has"
        world.host.close()
        world.clock.look()

    world.run(script)
    assert world.session.begun == 1


def test_beats_are_returned_and_given(world: World) -> None:
    def script() -> None:
        world.heard()
        world.tell(ATTEND, _wire.Beat(12.5))
        assert world.heard() == [_wire.Beat(12.5)]
        world.clock.wait(2.5 * BEAT)
        assert world.heard() == [_wire.Beat(), _wire.Beat()]
        world.host.close()
        world.clock.look()

    world.run(script)


def test_a_host_that_is_silent_for_too_long_is_lost(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND)
        for _ in range(20):
            world.clock.wait(BEAT)
            world.tell(_wire.Beat())
        assert not world.clock.has_stopped
        world.clock.wait(12 * BEAT)
        assert not world.clock.has_stopped
        world.clock.wait(2 * BEAT)
        assert world.clock.has_stopped

    assert world.run(script) is End.CUT_OFF
    assert world.daemon.said == ["reap", "close"]


def test_a_task_that_runs_may_finish_without_its_host_if_that_was_asked_for(
    worlds: Callable[..., World],
) -> None:
    world = worlds(autoexit="finish")

    def script() -> None:
        world.tell(ATTEND, tasks(1, 2))
        world.daemon.not_begun = (TaskId(2),)
        world.host.close()
        world.clock.look()
        assert not world.clock.has_stopped
        world.say(outcomes(1))
        assert world.clock.has_stopped

    assert world.run(script) is End.CUT_OFF


def test_without_a_task_that_runs_nothing_is_waited_for(worlds: Callable[..., World]) -> None:
    world = worlds(autoexit="finish")

    def script() -> None:
        world.tell(ATTEND, tasks(1))
        world.daemon.not_begun = (TaskId(1),)
        world.host.close()
        world.clock.look()
        assert world.clock.has_stopped

    assert world.run(script) is End.CUT_OFF


def test_what_a_host_must_not_send_cuts_it_off(world: World) -> None:
    def script() -> None:
        world.heard()
        world.host.send(bytes([255]))
        world.clock.look()
        assert world.clock.has_stopped

    assert world.run(script) is End.CUT_OFF
    assert world.daemon.said == ["reap", "close"]


def test_the_last_results_of_a_daemon_come_before_its_end(world: World) -> None:
    world.daemon.last_words = "a last word"

    def script() -> None:
        world.heard()
        world.tell(ATTEND, tasks(1, 2, 3))
        world.say(_wire.Ready())
        world.heard()
        world.daemon.not_begun = (TaskId(3),)
        world.tasks.send(*_wire.pieces(outcomes(1)))
        world.end(-signal.SIGSEGV)
        assert world.clock.has_stopped
        ended = _wire.Ended(-signal.SIGSEGV, 3, (3,), "a last word", returns=True)
        assert world.heard() == [outcomes(1), ended]

    assert world.run(script) is End.CRASHED
    assert world.said_to_go_on == [End.CRASHED]
    assert world.session.begun == 2
    assert not world.session.came_to_nothing


def test_a_keeper_does_not_end_before_its_last_frames_have_gone_out(world: World) -> None:
    heard: list[_wire.Frame] = []

    def read() -> None:  # only while the keeper closes
        while not any(isinstance(frame, _wire.Ended) for frame in heard):
            if not select.select([world.host.fileno()], [], [], PATIENCE)[0]:
                return
            heard.extend(world.heard())

    reader = threading.Thread(target=read)

    def script() -> None:
        world.tell(ATTEND, tasks(1))
        [outcome] = outcomes(1).outcomes
        world.tasks.send(*_wire.pieces(Outcomes((outcome._replace(payload=bytes(1 << 22)),))))
        while world.tasks.has_more_to_send:
            world.clock.look()
            world.tasks.flush()
        world.end(1)
        reader.start()

    assert world.run(script) is End.CRASHED
    reader.join()
    assert [type(frame) for frame in heard[-2:]] == [Outcomes, _wire.Ended]


def test_a_host_waits_no_more_for_what_was_answered_before_it_came(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND, _wire.Stop(7, sent=1))
        world.end(1)
        assert world.heard()[-1] == _wire.Ended(1, 1, (), "", returns=True)

    assert world.run(script) is End.CRASHED


def test_a_daemon_that_dies_before_a_task_has_come_to_nothing(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND)
        world.end(1)

    assert world.run(script) is End.CRASHED
    assert world.session.came_to_nothing


def test_one_that_the_host_kills_has_not(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND, _wire.Kill(signal.SIGTERM))
        assert world.daemon.said == [("kill", signal.SIGTERM)]
        world.end(-signal.SIGTERM)

    assert world.run(script) is End.CRASHED
    assert not world.session.came_to_nothing


def test_for_one_that_was_not_ready_in_time_no_other_comes(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND, _wire.Kill(signal.SIGKILL, overdue=True))
        world.end(-signal.SIGKILL)
        assert world.heard()[-1] == _wire.Ended(-signal.SIGKILL, 0, (), "")

    assert world.run(script) is End.OVERDUE


def test_a_daemon_whose_frames_are_garbled_is_killed_after_a_moment(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND, tasks(1))
        world.tasks.send(bytes([_wire.Outcomes.KIND, 1]))
        world.clock.look()
        assert ("kill", signal.SIGKILL) not in world.daemon.said
        world.clock.wait(1.1 * LAST_FRAMES)
        assert world.daemon.said[-1] == ("kill", signal.SIGKILL)
        world.end(-signal.SIGKILL)

    assert world.run(script) is End.CRASHED


@pytest.mark.parametrize(
    ("closing", "spoilt", "end"),
    [
        (False, False, End.LEFT),
        (True, False, End.CUT_OFF),  # so that a keeper that stays looks for the next host
        (False, True, End.SPOILT),  # so that it brings another one
    ],
)
def test_a_daemon_that_was_let_go_has_left(
    world: World, closing: bool, spoilt: bool, end: End
) -> None:
    def script() -> None:
        world.tell(ATTEND)
        if spoilt:
            world.say(_wire.Leaving())
        world.tell(_wire.Leave(closing))
        assert world.got() == [_wire.Leave(closing)]
        assert world.daemon.dismissed
        world.end(0)

    assert world.run(script) is end


def test_after_its_wall_time_a_daemon_asks_for_leave(worlds: Callable[..., World]) -> None:
    world = worlds(end_at=200.0)

    def script() -> None:
        world.tell(ATTEND)
        world.heard()
        world.clock.wait(0.5)
        for _ in range(100):  # as long as the host lives
            world.tell(_wire.Beat())
            world.clock.wait(BEAT)
        frames = [frame for frame in world.heard() if not isinstance(frame, _wire.Beat)]
        assert frames == [_wire.Parting("its time is over"), _wire.Leaving()]
        world.tell(_wire.Leave())
        world.end(0)

    assert world.run(script) is End.LEFT


def test_a_keeper_that_has_to_end_leaves_a_task_its_time_and_tells_the_host(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND, tasks(1))
        world.heard()
        world.session.drain("a signal", grace=5.0)
        world.clock.look()
        assert world.heard() == [_wire.Parting("a signal"), _wire.Leaving()]
        world.clock.wait(4.9)
        assert world.daemon.said == [("issue", [1])]
        world.daemon.on_kill = lambda: world.mark_end(-signal.SIGTERM)
        world.clock.wait(0.2)  # nobody has let it go: this process ends

    with pytest.raises(SystemExit):
        world.run(script)
    assert world.daemon.said[1:] == [("kill", signal.SIGTERM), "reap", "close"]
    frames = [frame for frame in world.heard() if not isinstance(frame, _wire.Beat)]
    assert frames == [_wire.Ended(-signal.SIGTERM, 1, (), "")]
    assert world.said_to_go_on == [End.LEFT], "no other daemon follows"


def test_a_keeper_that_has_to_end_twice_says_so_once(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND)
        world.heard()
        for why in ("a signal", "another one"):
            world.session.drain(why, grace=5.0)
            world.clock.look()
        assert world.heard() == [_wire.Parting("a signal"), _wire.Leaving()]
        world.host.close()
        world.clock.look()

    world.run(script)


def test_a_keeper_that_has_to_end_at_once_brings_no_other_daemon(world: World) -> None:
    def script() -> None:
        world.tell(ATTEND, tasks(1))
        world.daemon.on_kill = lambda: world.mark_end(-signal.SIGTERM)
        raise SystemExit

    with pytest.raises(SystemExit):
        world.run(script)
    assert world.said_to_go_on == [End.LEFT]
    assert world.heard()[-1] == _wire.Ended(-signal.SIGTERM, 1, (), "")


def test_what_a_daemon_had_not_begun_when_its_host_was_lost_counts_for_nothing(
    world: World,
) -> None:
    def script() -> None:
        world.tell(ATTEND, tasks(1))
        world.daemon.not_begun = (TaskId(1),)
        world.host.close()
        world.clock.look()

    assert world.run(script) is End.CUT_OFF
    assert world.session.begun == 0
    assert world.session.came_to_nothing


def test_a_daemon_that_must_have_a_dispatcher_leaves_a_host_without_one(
    worlds: Callable[..., World],
) -> None:
    world = worlds(dispatcher=True)

    def script() -> None:
        world.tell(_wire.Attend(BEAT, dispatcher=False))
        assert world.clock.has_stopped

    assert world.run(script) is End.WRONG_MODE
