"""Daemons elsewhere, as their host takes them to be, whatever their links do."""

from typing import Any

import pytest

from mirai_executor import _wire
from mirai_executor._host._remote import RemoteDaemon
from mirai_executor._transport import LinkClosedError


class Line:
    """A link that can be cut."""

    def __init__(self) -> None:
        self.is_cut = False
        self.largest = 0
        self.sent: list[_wire.Frame] = []

    def send_first(self, *pieces: Any) -> None:
        if self.is_cut:
            raise LinkClosedError("connection reset")
        self.sent.append(_wire.decode(b"".join(pieces)))


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def daemon(line: Line) -> RemoteDaemon:
    nothing: Any = lambda *_: None  # noqa: E731 - which has no type of its own
    return RemoteDaemon(line, "10.0.0.7", nothing, nothing, nothing)  # type: ignore[arg-type]


def test_the_keeper_of_a_daemon_that_is_killed_is_about_to_bring_another(
    daemon: RemoteDaemon, line: Line
) -> None:
    assert not daemon.is_renewed
    daemon.kill()
    assert line.sent == [_wire.Kill(9)]
    assert daemon.is_renewed
    daemon.kill()
    assert daemon.is_renewed


def test_a_keeper_that_cannot_be_reached_brings_no_other(daemon: RemoteDaemon, line: Line) -> None:
    line.is_cut = True
    daemon.kill()  # as whoever sends does that finds the line cut
    assert not daemon.is_renewed


def test_what_a_keeper_says_ends_no_line_of_the_log(daemon: RemoteDaemon) -> None:
    daemon.accept(_wire.Parting("time\n2026-01-01 CRITICAL forged" + 300 * "!"))
    assert daemon.parting.startswith("time\\n2026-01-01 CRITICAL forged!")
    assert len(daemon.parting) == 256
    daemon.accept(_wire.Joined(17, "node7", seat="node7\n/1"))
    assert daemon.seat == "node7\\n/1"


def outcome(task: int, nanoseconds: int, *payload: bytes) -> _wire.WireOutcome:
    blob, *buffers = payload
    return _wire.WireOutcome(
        *(task, _wire.OutcomeStatus.VALUE),
        leaving=False,
        payload=blob,
        nanoseconds=nanoseconds,
        buffers=tuple(buffers),
    )


def test_a_task_takes_at_least_as_long_as_what_travels_for_it(daemon: RemoteDaemon) -> None:
    mega, heavy = bytes(1_000_000), bytes(20_000)
    ran = [
        outcome(1, 5, mega),
        outcome(2, 5, heavy, mega),
        outcome(3, 9_000_000, mega),
        outcome(4, 0, mega),  # it has not begun
        outcome(5, 5, b"short"),
    ]
    assert daemon.take_note_of(ran) == ran  # it is near, as far as is known
    daemon.note_round_trip(0.1)
    found = [one.nanoseconds for one in daemon.take_note_of(ran)]
    assert found == [8_000_000, 8_160_000, 9_000_000, 0, 5]
    assert not daemon.may_return
    daemon.take_note_of([ran[0]._replace(leaving=True)])
    assert daemon.may_return


def test_a_keeper_says_once_what_it_was_started_for(daemon: RemoteDaemon) -> None:
    daemon.accept(_wire.Joined(17, "node7", request="a"))
    with pytest.raises(_wire.WireError, match="unexpected Joined"):
        daemon.accept(_wire.Joined(17, "node7", request="that of another"))
