"""The daemons of a host, without a process: how they come, what they say, how they are lost."""

import errno
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from types import SimpleNamespace
from typing import Any

import pytest

from clocks import Clock
from mirai_executor import __version__, _wire
from mirai_executor._core import BroadcastAnswered, BroadcastId, DaemonId, Event, TaskId
from mirai_executor._core import messages as m
from mirai_executor._host import Limits, _start_up
from mirai_executor._host._daemon import Daemon, LocalDaemon
from mirai_executor._host._environments import Environments
from mirai_executor._host._fleet import Fleet
from mirai_executor._host._remote import RemoteDaemon
from mirai_executor._host._settings import Setup
from mirai_executor._host._tasks import OpenTask
from mirai_executor._local import LAST_FRAMES
from mirai_executor._payload.daemon import decode_plain
from mirai_executor._payload.host import Call
from mirai_executor._shared import STOP_SIGNAL, ServerLostError
from mirai_executor._transport import FarLink, Link, LinkClosedError
from mirai_executor._waiting import OneShotEvent
from mirai_executor._wire import Outcomes, OutcomeStatus, Tasks, WireOutcome, WireTask
from mirai_executor.errors import DaemonLostError, LaunchError

ONE, TWO = DaemonId(1), DaemonId(2)
BEAT = 1.0
LAST_WORDS = "a last word"
HELLO = _wire.Hello(0, sys.version_info[:3], __version__)


class Fake(LocalDaemon):
    """A daemon of this machine but for its process, whose signals are noted.

    Attributes:
        got: What it is told beside its frames: signals, tasks that it may begin, or is to stop.
        not_begun: Tasks that the host can take back.
    """

    has_run_out_of_memory = False

    def __init__(self) -> None:
        here, there = socket.socketpair()
        Daemon.__init__(self, Link(here.detach(), blocking=False))
        self.other_end = Link(there.detach(), blocking=False)
        self.got: list[Any] = []
        self.not_begun: list[int] = []
        self._fds = os.pipe()
        self.end_fd = self._fds[0]
        self.next_fd: int | None = None  # once it is another process
        self.command, self.ended = ("python", "-m", "it"), OneShotEvent()
        self._worker = self._printing = None
        self._is_reaped = self._ends_badly = False
        self.process: Any = SimpleNamespace(pid=7, returncode=None, wait=lambda: None)
        self._tickets: Any = SimpleNamespace(issue=self._issue, take_back=self._take_back)
        stop = lambda task: self.got.append(("stop", task))  # noqa: E731 - as it is a method of another
        self.page: Any = SimpleNamespace(begun=[0], element=[0], stop=stop)
        self._pages: Any = SimpleNamespace(release=lambda _: None)
        self._stderr: Any = None
        self._relay: Any = SimpleNamespace(finish=lambda *_: LAST_WORDS)

    def _issue(self, tasks: Sequence[TaskId], _: object) -> None:
        self.got.append(("issue", list(tasks)))

    def _take_back(self) -> list[int]:
        tasks, self.not_begun = self.not_begun, []
        return tasks

    def _signal(self, _: Callable[[int, int], None], signum: int) -> None:
        if not self._is_reaped:
            self.got.append("look" if signum == STOP_SIGNAL else signal.Signals(signum).name)

    def introduce(self, soon: object) -> None:
        """Is no child that multiprocessing could wait for."""

    def replace(self, process: Any) -> None:
        assert self.next_fd is not None
        self.process, self.end_fd = process, self.next_fd

    # What it does

    def say(self, *frames: _wire.Frame) -> None:
        for frame in frames:
            self.other_end.send(*_wire.pieces(frame))

    def heard(self) -> list[_wire.Frame]:
        """Return the frames that have come to it since the last time."""
        found = []
        while (data := self.other_end.receive()) is not None:
            found.append(_wire.decode(data))
        return found

    def die(self, code: int, *, link_too: bool = True) -> None:
        self.process.returncode = code
        if link_too:
            self.other_end.close()
        os.write(self._fds[1], b"x")

    def close(self) -> str:
        self.end_fd = -1  # which World closes
        return super().close()

    def clean(self) -> None:
        self.other_end.close()
        self.link.close()
        for fd in self._fds:
            os.close(fd)


class Heard:
    """What the host is told about its daemons."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.on_event: Callable[[Event], object] = lambda _: None  # while it is told
        self._ids = map(DaemonId, itertools.count(100))

    def handle(self, event: Event) -> None:
        self.events.append(event)
        self.on_event(event)

    def adopt_daemon(self) -> DaemonId:
        return next(self._ids)

    def on_results(self, daemon: DaemonId, outcomes: Sequence[WireOutcome]) -> None:
        self.events.append((daemon, [(it.task, it.status) for it in outcomes]))

    def on_broadcast_answered(self, event: BroadcastAnswered, outcome: WireOutcome) -> None:
        self.events.append((event, outcome.status))

    def news(self) -> list[Any]:
        """Return what was told since the last time."""
        events, self.events = self.events, []
        return events


class World:
    """A fleet, its daemons, and all that it would have of the system."""

    def __init__(self, **setup: Any) -> None:
        self.clock, self.listener = Clock(), Heard()
        self.made: list[Fake] = []
        self.failures: list[BaseException] = []  # to start daemons, one each
        self.closed: list[str] = []
        self.trims = 0
        self.forks: list[Any] = []  # what daemons turn out to be, as they greet
        spawner: Any = SimpleNamespace(
            awaits_server=False,
            server_pid=99,
            confirm_start=lambda _: self.forks.pop() if self.forks else None,
            close=lambda: self.closed.append("spawner"),
        )
        relay: Any = SimpleNamespace(close=lambda: self.closed.append("relay"))
        store: Any = SimpleNamespace(trim=self._trim, is_sharing=False)
        given = {"calls": (), "cleanup": False, "log": None, "environments": None, "name": None}
        self.spawner = spawner
        self.setup: Any = Setup(**{**given, **setup})
        self.fleet = Fleet(
            spawner,
            relay,
            self.setup,
            store,
            (BEAT, True),
            self.clock,
            self.listener,
            self.clock.put,
            lambda *_: self._new_daemon(),
        )
        self.said: list[Any] = []
        self.fleet.hear = lambda *said: self.said.append(said)
        self._links: list[Link] = []

    def _new_daemon(self) -> Fake:
        if self.failures:
            raise self.failures.pop()
        self.made.append(Fake())
        return self.made[-1]

    def _trim(self) -> None:
        self.trims += 1

    def launch(self, id_: DaemonId, *, ready: bool = True) -> Fake:
        """Start a daemon, which greets unless a test wants to see that."""
        self.fleet.launch(id_)
        daemon = self.made[-1]
        if ready:
            self.say(daemon, HELLO, _wire.Ready())
            daemon.heard()
            self.listener.news()
        return daemon

    def say(self, daemon: Fake, *frames: _wire.Frame) -> None:
        daemon.say(*frames)
        self.clock.look()

    def die(self, daemon: Fake, code: int, *, link_too: bool = True) -> None:
        daemon.die(code, link_too=link_too)
        self.clock.look()

    def admit(self, *early: _wire.Frame) -> "Keeper":
        """Have a daemon come from elsewhere, some of whose frames came with the handshake."""
        here, there = socket.socketpair()
        far = FarLink(Link(there.detach(), blocking=False))
        for frame in early:
            far.send(*_wire.pieces(frame))
        came = here.recv(65536) if early else b""
        near = Link(here.detach(), blocking=False)
        near._read += came
        link = FarLink(near)
        keeper = Keeper(self.clock, link, far, "192.0.2.1")
        self._links += [link, keeper.link]
        self.fleet.admit(keeper.daemon)
        self.clock.look()
        return keeper

    def news(self) -> list[Any]:
        return self.listener.news()

    def close(self) -> None:
        self.fleet.close()
        for daemon in self.made:
            daemon.clean()
        for link in self._links:
            link.close()
        self.clock.close()


class Keeper:
    """The other end of a link to a daemon elsewhere."""

    def __init__(self, clock: Clock, here: FarLink, there: FarLink, address: str) -> None:
        self._clock, self.link = clock, there
        self.revoked: list[None] = []
        self.arrived: list[str] = []
        self.lost: list[RemoteDaemon] = []
        revoke = lambda: self.revoked.append(None)  # noqa: E731 - for one call
        self.daemon = RemoteDaemon(here, address, revoke, self.arrived.append, self.lost.append)

    def say(self, *frames: _wire.Frame) -> None:
        for frame in frames:
            self.link.send(*_wire.pieces(frame))
        self._clock.look()

    def heard(self) -> list[_wire.Frame]:
        found = []
        while (data := self.link.receive()) is not None:
            found.append(_wire.decode(data))
        return found


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def calls(*ids: int) -> list[OpenTask]:
    future: Any = None  # which nobody asks here
    return [OpenTask(TaskId(id_), future, Limits(), None, b"call", ()) for id_ in ids]


def tasks(*ids: int) -> Tasks:
    return Tasks(tuple(WireTask(id_, () if id_ == ids[0] else None, b"call") for id_ in ids))


def outcomes(*ids: int, released: tuple[int, ...] = ()) -> Outcomes:
    made = (WireOutcome(id_, OutcomeStatus.VALUE, leaving=False, payload=b"result") for id_ in ids)
    return Outcomes(tuple(made), released)


def results(daemon: DaemonId, *ids: int) -> tuple[DaemonId, list[tuple[int, OutcomeStatus]]]:
    return daemon, [(id_, OutcomeStatus.VALUE) for id_ in ids]


# How they come


def test_a_daemon_that_greets_is_told_what_it_has_to_know_and_is_ready_then(world: World) -> None:
    daemon = world.launch(ONE, ready=False)
    world.say(daemon, HELLO)
    assert [type(frame) for frame in daemon.heard()] == [_wire.Init]
    assert daemon.slot == 1
    assert world.news() == []
    world.say(daemon, _wire.Ready())
    assert world.news() == [m.DaemonReady(ONE, None, None)]


def test_a_daemon_has_the_first_place_that_is_free(world: World) -> None:
    first = world.launch(ONE)
    assert (first.slot, world.launch(TWO).slot) == (1, 2)
    world.die(first, 0)
    assert world.launch(DaemonId(3)).slot == 1
    world.fleet.dismiss(TWO)
    assert world.launch(DaemonId(4)).slot == 2, "who leaves has a successor already"


def test_a_daemon_that_dies_while_it_starts_is_lost_with_its_last_words(world: World) -> None:
    daemon = world.launch(ONE, ready=False)
    world.die(daemon, 3)
    assert world.news() == [m.DaemonLost(ONE)]
    error = world.fleet.loss_reports.launch_error()
    assert "daemons fail to start, or exit before they run a task" in str(error)
    assert (error.exitcode, error.stderr, error.command) == (3, LAST_WORDS, daemon.command)


def test_what_cannot_start_is_lost_and_says_why(world: World) -> None:
    world.failures = [LaunchError("no such interpreter")]
    world.fleet.launch(ONE)
    assert world.news() == [], "the dispatcher hears of it once it has said all"
    world.clock.look()
    assert world.news() == [m.DaemonLost(ONE)]
    assert str(world.fleet.loss_reports.launch_error()) == "no such interpreter"


def test_where_the_system_has_no_room_a_launch_is_refused(world: World) -> None:
    world.failures = [OSError(errno.EMFILE, os.strerror(errno.EMFILE))]
    world.fleet.launch(ONE)
    world.clock.look()
    assert world.news() == [m.LaunchRefused(ONE)]


def test_without_its_fork_server_a_daemon_is_started_once_more(world: World) -> None:
    world.failures = [ServerLostError()]
    world.launch(ONE, ready=False)
    assert len(world.made) == 1
    assert world.news() == []


def test_daemons_wait_for_the_fork_server_until_the_first_one_has_greeted(world: World) -> None:
    first = world.launch(ONE, ready=False)
    world.spawner.awaits_server = True
    world.fleet.launch(TWO)
    world.fleet.launch(DaemonId(3))
    assert len(world.made) == 1
    assert [(row[0], row[1]) for row in world.fleet.rows()] == [(1, 7), (2, 99), (3, 99)]
    world.fleet.dismiss(DaemonId(3))  # which nobody needs any more
    world.spawner.awaits_server = False
    world.say(first, HELLO)
    assert len(world.made) == 2
    assert world.news() == [m.DaemonLost(DaemonId(3))]


def test_daemons_that_wait_are_started_though_the_first_one_has_died(world: World) -> None:
    first = world.launch(ONE, ready=False)
    world.spawner.awaits_server = True
    world.fleet.launch(TWO)
    world.spawner.awaits_server = False
    world.die(first, 1)
    assert len(world.made) == 2


def test_a_fork_server_that_dies_as_its_first_daemon_greets_is_the_loss_of_that(
    world: World,
) -> None:
    first = world.launch(ONE, ready=False)
    world.forks = [SimpleNamespace(pid=8, returncode=None)]
    first.say(HELLO)
    world.fleet._deaths._on_death(ONE)  # before what it has said is looked at
    assert world.news() == [m.DaemonLost(ONE)]
    with pytest.raises(LinkClosedError):  # so the daemon ends
        first.heard()


@pytest.fixture
def importing(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileIO]:
    """Have the fork server import the main module; this is the end into which it says how."""
    monkeypatch.setattr(_start_up, "_WORTH_WHILE", 0.0)
    end, its_end = os.pipe()
    main_file = SimpleNamespace(entry=SimpleNamespace(blob=b"the file"))
    world.setup.find_main = SimpleNamespace(file=main_file)

    def import_main(request: bytes) -> int:
        assert decode_plain(request)[1] == b"the file"
        world.spawner.wants_main = False
        return end

    world.spawner.wants_main, world.spawner.import_main = True, import_main
    with FileIO(its_end, "w") as file:
        yield file


def test_daemons_wait_until_the_main_module_is_imported(world: World, importing: FileIO) -> None:
    world.fleet.launch(ONE)
    world.fleet.launch(TWO)
    world.fleet.launch(DaemonId(3))
    world.fleet.dismiss(DaemonId(3))
    assert world.made == []
    importing.write(b"+")
    world.clock.look()
    assert len(world.made) == 2
    world.fleet.launch(DaemonId(4))
    assert len(world.made) == 3


def test_daemons_do_not_wait_for_an_import_that_fails_and_a_record_says_why(
    world: World, importing: FileIO, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "mirai_executor")
    world.fleet.launch(ONE)
    importing.write(b"-it leaves threads")
    world.clock.look()
    assert len(world.made) == 1
    assert caplog.messages == ["each daemon imports the main module for itself: it leaves threads"]


def test_daemons_wait_no_longer_than_a_quarter_of_the_time_for_a_start(
    world: World, importing: FileIO
) -> None:
    world.fleet.launch(ONE)
    world.clock.wait(world.setup.start_timeout / 4 - 1)
    assert world.made == []
    world.clock.wait(1)
    assert len(world.made) == 1
    world.fleet.launch(TWO)
    assert len(world.made) == 2


def test_a_fork_server_that_ends_with_the_import_keeps_nobody_waiting(
    world: World, importing: FileIO
) -> None:
    world.fleet.launch(ONE)
    importing.close()
    world.clock.look()
    assert len(world.made) == 1


def test_daemons_do_not_wait_for_an_import_that_has_not_taken_long_here(
    world: World, importing: FileIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_start_up, "_WORTH_WHILE", 1e9)
    world.fleet.launch(ONE)
    assert len(world.made) == 1


def test_daemons_with_an_environment_of_their_own_do_not_wait(
    world: World, importing: FileIO
) -> None:
    world.setup.environments = Environments({"A": "1"}, None)
    world.fleet.launch(ONE)
    assert len(world.made) == 1


def test_a_daemon_that_was_forked_is_watched_in_place_of_what_has_forked_it(world: World) -> None:
    daemon = world.launch(ONE, ready=False)
    reads, writes = os.pipe()
    daemon.next_fd = reads
    world.forks.append(SimpleNamespace(pid=8, returncode=None, wait=lambda: None))
    world.say(daemon, HELLO, _wire.Ready())
    world.news()
    world.die(daemon, 0, link_too=False)  # the fork server
    world.clock.wait(10.0)
    assert world.news() == []
    assert daemon.pid == 8
    daemon.other_end.close()
    os.write(writes, b"x")
    world.clock.look()
    assert world.news() == [m.DaemonLost(ONE)]
    os.close(reads)
    os.close(writes)


def test_an_interpreter_of_another_version_is_no_daemon_and_none_like_it(world: World) -> None:
    daemon = world.launch(ONE, ready=False)
    world.say(daemon, _wire.Hello(0, (3, 1, 0), __version__))
    assert daemon.got == ["SIGKILL"]
    assert world.news() == [m.InitializerFailed(ONE)]
    world.die(daemon, -signal.SIGKILL)
    assert "is Python 3.1.0" in str(world.fleet.loss_reports.launch_error())


def test_an_initializer_that_fails_lets_its_daemon_go() -> None:
    world = World(calls=(Call(b"", (), ()),))
    daemon = world.launch(ONE, ready=False)
    world.say(daemon, HELLO)
    daemon.heard()
    world.say(daemon, _wire.InitFailed(b"garbled"))
    assert daemon.heard() == [_wire.Leave()]
    assert world.news() == [m.InitializerFailed(ONE)]
    assert "the initializer failed" in str(world.fleet.loss_reports.launch_error())
    world.say(daemon, _wire.InitFailed(b"garbled"))  # once is all that it may
    assert "SIGKILL" in daemon.got
    world.close()


# What they say


def test_tasks_go_to_a_daemon_and_their_outcomes_come_back(world: World) -> None:
    daemon = world.launch(ONE)
    world.fleet.send_tasks(ONE, calls(1, 2))
    assert daemon.got == [("issue", [1, 2])]
    assert daemon.heard() == [tasks(1, 2)]
    assert list(daemon.sent) == [1, 2]
    world.say(daemon, outcomes(1))
    assert world.news() == [results(ONE, 1)]
    assert list(daemon.sent) == [2]


def test_what_has_not_begun_comes_back_once_the_dispatcher_has_said_all(world: World) -> None:
    daemon = world.launch(ONE)
    world.fleet.send_tasks(ONE, calls(1, 2, 3))
    daemon.not_begun = [2, 3]
    world.fleet.recall(ONE)
    assert daemon.got[1:] == ["look"], "it sends what it has"
    assert world.news() == []
    world.clock.look()
    assert world.news() == [m.TasksReturned(ONE, (TaskId(2), TaskId(3)))]
    assert list(daemon.sent) == [1]


def test_a_task_is_asked_to_stop_until_it_has_ended(world: World) -> None:
    daemon = world.launch(ONE)
    world.fleet.send_tasks(ONE, calls(1))
    world.fleet.interrupt(ONE, TaskId(1))
    assert daemon.got[1:] == [("stop", 1), "look"]
    world.clock.wait(0.07)  # after 20 and 40 ms more
    assert daemon.got[3:] == ["look", "look"]
    world.say(daemon, outcomes(1))
    world.clock.wait(1.0)
    assert daemon.got[5:] == []
    world.fleet.interrupt(ONE, TaskId(1))  # too late: it may be a later one that runs
    assert daemon.got[5:] == []


def test_the_answer_to_a_broadcast_is_taken_once_and_no_other(world: World) -> None:
    daemon = world.launch(ONE)
    call = Call(b"call", (), ())
    world.fleet.send_broadcast(ONE, BroadcastId(5), call)
    assert daemon.heard() == [_wire.Broadcast(5, (), b"call")]
    answer = _wire.BroadcastOutcome(5, OutcomeStatus.VALUE, b"result")
    world.say(daemon, answer)
    assert world.news() == [(BroadcastAnswered(ONE, BroadcastId(5)), OutcomeStatus.VALUE)]
    world.say(daemon, answer)
    assert (world.news(), daemon.got) == ([], ["SIGKILL"])


def test_what_a_task_says_is_heard_with_its_daemon(world: World) -> None:
    daemon = world.launch(ONE)
    report = _wire.Report(1, 1, first=True, more=False, is_progress=False, piece=b"half")
    world.say(daemon, report)
    assert world.said == [(ONE, daemon, report)]


def test_a_daemon_that_wants_to_leave_is_let_go_and_is_not_killed(world: World) -> None:
    daemon = world.launch(ONE)
    world.say(daemon, _wire.Leaving())
    assert world.news() == [m.LeaveRequested(ONE)]
    world.fleet.dismiss(ONE)
    assert daemon.heard() == [_wire.Leave()]
    daemon.other_end.close()
    world.clock.look()
    world.clock.wait(60.0)
    assert daemon.got == []
    world.die(daemon, 0)
    assert world.news() == [m.DaemonLost(ONE)]
    assert daemon.got == [], "and what its tasks have left running lives on"


def test_memory_that_a_daemon_releases_is_given_back_after_a_while(world: World) -> None:
    daemon = world.launch(ONE)
    released: list[Any] = []
    daemon.exchange = SimpleNamespace(  # type: ignore[assignment]  # as much as is asked here
        release=released.append,
        take_released=lambda: (9,),
        tell=lambda: False,
        is_borrowing=False,
        close=lambda: None,
    )
    world.say(daemon, outcomes(released=(3, 4)))
    assert released == [(3, 4)]
    world.clock.wait(0.9)
    assert (world.trims, daemon.heard()) == (0, [])
    world.clock.wait(0.2)
    assert (world.trims, daemon.heard()) == (1, [Tasks((), (9,))])
    world.clock.wait(60.0)
    assert world.trims == 1, "nobody uses any"


# How they end


def test_a_daemon_is_lost_with_what_it_had_begun_once_its_last_results_are_in(
    world: World,
) -> None:
    daemon = world.launch(ONE)
    world.fleet.send_tasks(ONE, calls(1, 2, 3))
    daemon.not_begun = [3]
    daemon.say(outcomes(1))
    errors: list[DaemonLostError] = []

    def on_event(event: Event) -> None:
        errors.append(world.fleet.loss_reports.lost_error(ONE, "while its task ran"))

    world.listener.on_event = on_event
    world.die(daemon, -signal.SIGSEGV)
    assert world.news() == [results(ONE, 1), m.DaemonLost(ONE, (TaskId(2),))]
    (error,) = errors
    assert (error.pid, error.exitcode, error.stderr) == (7, -signal.SIGSEGV, LAST_WORDS)
    assert list(world.fleet.rows()) == []


def test_what_a_dead_daemon_had_sent_has_half_a_second_to_come_in(world: World) -> None:
    daemon = world.launch(ONE)
    world.fleet.send_tasks(ONE, calls(1))
    world.die(daemon, -signal.SIGKILL, link_too=False)  # which a child of a task holds open
    world.clock.wait(0.9 * LAST_FRAMES)
    assert world.news() == []
    world.say(daemon, outcomes(1))
    assert world.news() == [results(ONE, 1)]
    world.clock.wait(0.2 * LAST_FRAMES)
    assert world.news() == [m.DaemonLost(ONE)]


def test_what_comes_at_the_last_moment_is_taken_in_and_nobody_listens_any_more(
    world: World,
) -> None:
    daemon = world.launch(ONE)
    world.fleet.send_tasks(ONE, calls(1))
    world.die(daemon, -signal.SIGKILL, link_too=False)
    link = daemon.link.fileno()
    # Between the last look at the link and the moment at which its time is up.
    world.clock.call_in(0.9 * LAST_FRAMES, lambda: daemon.say(outcomes(1)))
    world.clock.time += LAST_FRAMES
    world.clock.look()
    assert world.news() == [results(ONE, 1), m.DaemonLost(ONE)]
    assert link not in world.clock.get_map()


def test_a_daemon_that_has_ended_before_it_greets_is_known_to_whoever_starts_others(
    world: World,
) -> None:
    confirmed: list[object] = []
    world.spawner.confirm_start = confirmed.append
    daemon = world.launch(ONE, ready=False)
    world.die(daemon, 1)
    assert confirmed == [daemon.process]


def test_with_its_last_daemon_a_host_hears_that_the_command_for_others_has_failed(
    world: World,
) -> None:
    error = LaunchError("srun: job has been cancelled")
    commands: Any = SimpleNamespace(error=error, close=lambda: None)
    daemons = [world.launch(each) for each in (ONE, TWO)]
    world.fleet._launched = commands
    world.die(daemons[0], 1)
    assert world.news() == [m.DaemonLost(ONE)]
    world.die(daemons[1], 1)
    assert world.news() == [m.DaemonLost(TWO), m.LaunchFailed()]
    assert world.fleet.loss_reports.why_none is error


@pytest.mark.parametrize(
    "data",
    [bytes([Outcomes.KIND, 1]), bytes([255]), b"".join(_wire.pieces(_wire.Beat()))],
    ids=["cut off", "unknown", "of keepers"],
)
def test_a_daemon_whose_frames_are_garbled_is_cut_off_and_killed(
    world: World, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = world.launch(ONE)
    daemon.other_end.send(data)
    with caplog.at_level(logging.WARNING, "mirai_executor"):
        world.clock.look()
    assert daemon.got == ["SIGKILL"]
    assert "daemon 7 was disconnected" in caplog.text
    world.die(daemon, -signal.SIGKILL)
    assert world.news() == [m.DaemonLost(ONE)]


def test_a_daemon_that_closes_its_link_has_a_second_to_end(world: World) -> None:
    daemon = world.launch(ONE)
    daemon.other_end.close()
    world.clock.look()
    world.clock.wait(0.9)
    assert daemon.got == []
    world.clock.wait(0.2)
    assert daemon.got == ["SIGKILL"]


def test_a_mild_signal_is_followed_by_another_one(world: World) -> None:
    daemon = world.launch(ONE)
    world.fleet.use_signal(signal.SIGTERM)
    world.fleet.kill(ONE)
    assert daemon.got == ["SIGTERM"]
    world.clock.wait(1.1)
    assert daemon.got == ["SIGTERM", "SIGKILL"]


def test_who_is_there_no_more_is_not_killed(world: World) -> None:
    daemon = world.launch(ONE)
    world.die(daemon, 0)
    world.fleet.kill(ONE)
    assert world.news() == [m.DaemonLost(ONE)]


def test_with_the_fleet_everything_ends_that_it_was_given(world: World) -> None:
    daemon = world.launch(ONE)
    world.fleet.close()
    assert daemon.got[:1] == ["SIGKILL"]
    assert world.closed == ["spawner", "relay"]
    world.fleet = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]  # it is closed


# Elsewhere


def test_a_daemon_elsewhere_hears_first_how_often_to_give_a_sign(world: World) -> None:
    keeper = world.admit()
    assert keeper.heard() == [_wire.Attend(BEAT), _wire.Beat(100.0)]
    keeper.say(_wire.Joined(12, "far", request="a request"))
    assert keeper.arrived == ["a request"]
    assert list(world.fleet.rows()) == [(100, 12, "far", "")]


def test_what_came_with_the_last_of_the_handshake_is_taken_in(world: World) -> None:
    keeper = world.admit(_wire.Joined(12, "far"), HELLO)
    assert _wire.Init in map(type, keeper.heard())


def test_the_keeper_of_a_daemon_that_was_not_ready_in_time_brings_no_other(world: World) -> None:
    keeper = world.admit()
    keeper.heard()
    world.fleet.kill(DaemonId(100), overdue=True)
    assert keeper.heard() == [_wire.Kill(signal.SIGKILL, overdue=True)]
    assert not keeper.daemon.is_renewed


def test_a_daemon_elsewhere_that_is_silent_for_four_beats_is_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    silent, alive = world.admit(), world.admit()
    for keeper in (silent, alive):
        keeper.say(_wire.Joined(12, "far"), HELLO)
    world.fleet.send_tasks(DaemonId(100), calls(1))
    with caplog.at_level(logging.WARNING, "mirai_executor"):
        for _ in range(6):
            world.clock.wait(BEAT)
            alive.say(_wire.Beat())
    assert world.news() == [m.DaemonLost(DaemonId(100), (TaskId(1),))]
    assert silent.lost == [silent.daemon]
    assert alive.lost == []
    assert "has sent nothing for 4 s" in caplog.text


def test_a_beat_that_comes_back_says_how_far_a_daemon_is(world: World) -> None:
    keeper = world.admit()
    for _ in range(8):  # before any counts
        *_, beat = (frame for frame in keeper.heard() if isinstance(frame, _wire.Beat))
        world.clock.time += 0.25
        keeper.say(beat)
    assert world.news() == [m.RoundTripMeasured(DaemonId(100), 0.25)]


def test_of_what_a_keeper_says_has_not_begun_nothing_counts_as_begun(world: World) -> None:
    keeper = world.admit()
    keeper.say(_wire.Joined(12, "far"), HELLO)
    world.fleet.send_tasks(DaemonId(100), calls(1, 2, 3))
    keeper.say(_wire.Ended(-signal.SIGSEGV, 2, (2,), "a last word", returns=True))
    keeper.link.close()
    world.clock.look()
    # The third one was still on its way.
    assert world.news() == [m.DaemonLost(DaemonId(100), (TaskId(1),))]
    (departure,) = world.fleet.loss_reports.departures
    assert departure == "pid 12 on far has left: was killed by SIGSEGV"


def test_that_a_daemon_elsewhere_is_let_go_is_remembered_and_its_token_ends(world: World) -> None:
    keeper = world.admit()
    keeper.say(_wire.Joined(12, "far"))
    keeper.heard()
    world.fleet.dismiss(DaemonId(100), why="nobody needs it")
    assert keeper.heard() == [_wire.Leave()]
    assert list(world.fleet.loss_reports.departures) == ["pid 12 on far has left: nobody needs it"]
    assert len(keeper.revoked) == 1


def test_a_keeper_is_asked_once_to_stop_a_task_and_sees_to_it(world: World) -> None:
    keeper = world.admit()
    keeper.say(_wire.Joined(12, "far"), HELLO)
    world.fleet.send_tasks(DaemonId(100), calls(1))
    keeper.heard()
    world.fleet.interrupt(DaemonId(100), TaskId(1))
    assert keeper.heard() == [_wire.Stop(1, sent=1)]
    world.clock.wait(0.5)
    assert keeper.heard() == []
