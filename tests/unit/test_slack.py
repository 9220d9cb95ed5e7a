"""What a keeper drops where its line is slow: log records and reports, as a whole, and counted."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirai_executor import _wire
from mirai_executor._host._log_relay import Records
from mirai_executor._transport import FarLink, PendingFrame
from mirai_executor.keeper._slack import Slack

BUSY, FREE = 1000, 0  # frames that wait for the line


class Line:
    """Notes what a host gets, of which it takes in the log."""

    def __init__(self) -> None:
        self.link: Any = SimpleNamespace(backlog=FREE)
        self.log: list[bytes | str] = []
        self.others: list[_wire.Frame] = []
        self._records = Records(SimpleNamespace(take=self.log.append))  # type: ignore[arg-type]  # that alone
        self._slack = Slack(cast("FarLink", self.link), self._arrive)
        self._number = 0

    def _arrive(self, frame: _wire.Frame) -> None:
        if isinstance(frame, _wire.LogPiece):
            self._records.take(frame)
        else:
            self.others.append(frame)

    def send(self, frame: _wire.Frame, backlog: int) -> None:
        self.link.backlog = backlog
        if (kept := self._slack.keep(_wire.encode(frame))) is not None:
            self._arrive(_wire.decode(kept))

    def write(self, data: bytes, backlog: int, *, more: bool = False, lost: int = 0) -> None:
        self._number += 1
        self.send(_wire.LogPiece(self._number, lost, more, data), backlog)


OUTCOME = _wire.Outcomes(
    (_wire.WireOutcome(7, _wire.OutcomeStatus.VALUE, leaving=False, payload=b"v"),)
)
REPORT = _wire.Report(7, 1, first=True, more=False, is_progress=False, piece=b"half")


@pytest.fixture
def line() -> Line:
    return Line()


def test_all_is_passed_on_while_the_line_takes_it(line: Line) -> None:
    line.write(b"a", FREE, more=True)
    line.write(b"b", FREE)
    line.send(REPORT, FREE)
    line.send(OUTCOME, BUSY)
    assert line.log == [b"ab"]
    assert line.others == [REPORT, OUTCOME]


def test_what_is_dropped_is_said_with_the_next_record(line: Line) -> None:
    line.write(b"late", BUSY)
    line.write(b"later", BUSY)
    line.send(REPORT, BUSY)
    assert (line.log, line.others) == ([], [])
    line.write(b"again", FREE, lost=3)
    assert line.log == [b"again", "5 log records of tasks were dropped: too many came at once"]


def test_what_is_dropped_is_said_before_the_next_outcome_if_there_is_no_record(line: Line) -> None:
    line.write(b"late", BUSY)
    line.send(OUTCOME, BUSY)
    line.send(OUTCOME, BUSY)
    assert line.log == ["1 log records of tasks were dropped: too many came at once"]
    assert line.others == [OUTCOME, OUTCOME]
    line.write(b"again", FREE)
    assert line.log[1:] == [b"again"]


@pytest.mark.parametrize("ended", [True, False])
def test_what_the_host_has_stopped_is_answered_and_its_outcome_sent_no_more(ended: bool) -> None:
    dropped = list[object]()
    waiting = PendingFrame((b"outcome",), 0)
    link: Any = SimpleNamespace(backlog=FREE, last=waiting, drop=dropped.append)
    slack = Slack(link, lambda _: None)
    if ended:
        slack.note([7])
    (answer,) = slack.answer(7, ended=ended, leaving=True).outcomes
    assert (answer.task, answer.status) == (7, _wire.OutcomeStatus.SKIPPED)
    # What has run counts, and that the daemon leaves is not to be lost with it.
    assert (answer.nanoseconds > 0, answer.leaving) == (ended, ended)
    assert dropped == ([waiting] if ended else [])


def test_an_outcome_that_has_left_is_not_kept() -> None:
    link: Any = SimpleNamespace(backlog=FREE, last=PendingFrame((b"outcome",), 0))
    slack = Slack(link, lambda _: None)
    slack.note([7])
    link.last = None
    assert slack.answer(7, ended=True, leaving=False).outcomes[0].task == 7


@pytest.mark.parametrize(("first", "second"), [(BUSY, FREE), (FREE, BUSY)])
def test_a_record_is_passed_on_or_dropped_as_a_whole(line: Line, first: int, second: int) -> None:
    line.write(b"a", first, more=True)
    line.write(b"b", second, more=True)
    line.write(b"c", second)
    line.write(b"next", FREE)
    assert [text for text in line.log if isinstance(text, bytes)] == (
        [b"next"] if first == BUSY else [b"abc", b"next"]
    )
