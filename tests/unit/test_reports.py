"""What tasks report on its way: bounded at both ends, rather lost than late, and in order."""

import logging
import threading
import time
from typing import Any, cast

import pytest

from mirai_executor import (
    MiraiExecutor,
    MiraiFuture,
    PayloadError,
    Progress,
    _wire,
    progress,
    report,
)
from mirai_executor._core import TaskId
from mirai_executor._host._messages import Message, Reports
from mirai_executor._payload.daemon import encode_value
from mirai_executor._payload.host import decode_value
from mirai_executor._transport import Link
from mirai_executor.daemon import _messenger, _piece_sender
from mirai_executor.daemon._interrupts import Interrupts
from mirai_executor.daemon._messenger import DaemonMessenger


class FakeLink:
    def __init__(self) -> None:
        self.frames: list[_wire.Report] = []
        self.has_room = True

    def send(self, data: bytes) -> None:
        frame = _wire.decode(data)
        assert isinstance(frame, _wire.Report)
        self.frames.append(frame)

    def send_at_once(self, data: bytes) -> bool:
        if self.has_room:
            self.send(data)
        return self.has_room

    def said(self) -> list[Any]:
        reports = Reports()
        messages = [reports.take(frame) for frame in self.frames]
        return [decode_value(message.payload) for message in messages if message is not None]


class FakeInterrupts:
    may_send = True
    task = 1
    company = None
    thread = threading.get_ident()


class FakeHost:
    """The host thread of a future is the one that asks."""

    def cancel(self, task: TaskId, *, running: bool) -> None: ...

    def owns_this_thread(self) -> bool:
        return False

    def call_soon(self, step: Any) -> None:
        step()


def messenger() -> tuple[DaemonMessenger, FakeLink]:
    link = FakeLink()
    interrupts = cast("Interrupts", FakeInterrupts())
    return DaemonMessenger(cast("Link", link), interrupts, *[cast("Any", None)] * 2), link


def message(value: object, *, is_progress: bool = False) -> Message:
    return Message(bytes(encode_value(value).blob), is_progress)


def new_future() -> MiraiFuture[None]:
    return MiraiFuture(TaskId(1), FakeHost())


# At a daemon


def test_a_large_report_is_sent_in_pieces_that_fit_into_a_pipe_at_once() -> None:
    speaker, link = messenger()
    speaker.report("x" * 10_000, is_progress=False)
    assert all(len(_wire.encode(frame)) + 8 <= 4096 for frame in link.frames)
    assert [frame.first for frame in link.frames] == [True, False, False]
    assert link.said() == ["x" * 10_000]


def test_progress_is_said_once_in_a_while_and_the_last_one_in_any_case() -> None:
    speaker, link = messenger()
    for done in range(100):
        speaker.report((done, 100, ""), is_progress=True)
    assert link.said() == [(0, 100, "")]
    speaker.flush()
    assert link.said() == [(0, 100, ""), (99, 100, "")]


def test_a_report_does_not_overtake_the_progress_before_it() -> None:
    speaker, link = messenger()
    for n in range(3):
        speaker.report((n, 3, ""), is_progress=True)
    speaker.report("two", is_progress=False)
    speaker.report((3, 3, ""), is_progress=True)
    speaker.flush()
    assert link.said() == [(0, 3, ""), (2, 3, ""), "two", (3, 3, "")]


def test_what_a_host_does_not_read_is_dropped_and_costs_the_task_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_piece_sender, "_MOST", 2)
    speaker, link = messenger()
    link.has_room = False
    for n in range(5):
        speaker.report(n, is_progress=False)
    assert link.frames == []
    speaker.flush()
    assert link.said() == [0, 1]


def test_more_than_a_thousand_reports_in_a_second_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_messenger, "_MOST", 3)
    speaker, link = messenger()
    monkeypatch.setattr(speaker, "_allowed", 3.0)
    monkeypatch.setattr(time, "monotonic", lambda: speaker._since)
    for n in range(5):
        speaker.report(n, is_progress=False)
    assert link.said() == [0, 1, 2]


def test_a_report_that_is_too_large_says_what_to_do() -> None:
    speaker, link = messenger()
    with pytest.raises(ValueError, match="1048576 bytes"):
        speaker.report(bytes(2**20), is_progress=False)
    assert link.frames == []


# At the host


def test_a_report_of_which_a_piece_was_dropped_is_dropped_and_the_next_one_is_not() -> None:
    def piece(number: int, *, first: bool, more: bool) -> _wire.Report:
        return _wire.Report(1, number, first, more, False, b"%d" % number)

    reports = Reports()
    assert reports.take(piece(1, first=True, more=True)) is None
    assert reports.take(piece(3, first=False, more=False)) is None  # 2 is missing
    assert reports.take(piece(4, first=True, more=True)) is None
    assert reports.take(piece(6, first=True, more=False)) == Message(b"6", False)
    assert reports.take(piece(6, first=True, more=False)) is None  # it was sent twice
    assert reports.take(piece(8, first=False, more=False)) is None  # its beginning is missing


def test_what_comes_before_anybody_listens_is_kept_as_far_as_there_is_room() -> None:
    future, heard = new_future(), list[Any]()
    for n in range(3):
        future.listener()(message((n, 2, ""), is_progress=True))
    for n in range(20):
        future.listener()(message(bytes([n]) * 10_000))
    future.on_report(heard.append)
    assert heard == [*[bytes([n]) * 10_000 for n in range(14, 20)], Progress(2, 2)]
    future.listener()(message("later"))
    assert heard[-1] == "later"


def test_an_error_of_a_callback_is_logged_and_keeps_nobody_else_from_listening(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future, heard = new_future(), list[Any]()
    future.on_report(lambda _: 1 / 0)
    future.on_report(heard.append)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future.listener()(message("said"))
        future.listener()(Message(b"no pickle", is_progress=False))
    assert heard == ["said"]
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith("exception calling callback for <MiraiFuture id=1")
    assert second.startswith("exception unpickling a report of <MiraiFuture id=1")


class Loud:
    """An object that cannot be unpickled in silence."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("it was unpickled",)


def test_a_report_is_not_unpickled_unless_somebody_listens() -> None:
    new_future().listener()(message(Loud()))


def test_what_is_called_has_to_be_callable() -> None:
    with pytest.raises(TypeError, match=r"with what the task reports: write on_report\(f\), not"):
        new_future().on_report(cast("Any", "no function"))
    with MiraiExecutor(1) as executor, pytest.raises(TypeError, match="on_report must be"):
        executor.with_options(on_report=cast("Any", "no function"))


# The functions


def test_outside_of_a_task_they_do_nothing_but_look_at_their_arguments() -> None:
    progress(1, 2, "steps")
    report(object())
    with pytest.raises(TypeError, match="done must be a number"):
        progress(cast("Any", "one"))
    with pytest.raises(TypeError, match="total must be a number"):
        progress(1, cast("Any", "two"))
    with pytest.raises(TypeError, match="text must be a string"):
        progress(1, 2, cast("Any", 3))


def say(n: int) -> int:
    progress(n, 2)
    report(["said", n])
    return n


def test_in_inline_mode_callbacks_are_called_at_once_with_copies() -> None:
    heard: list[Any] = []
    with MiraiExecutor(1, mode="inline") as executor:
        view = executor.with_options(on_report=heard.append)
        assert list(view.map(say, [1, 2])) == [1, 2]
        late = executor.submit(say, 3)
        later: list[Any] = []
        late.on_report(later.append)
        with pytest.raises((PayloadError, TypeError), match="lock"):
            executor.submit(lambda: report(threading.Lock())).result()
    assert heard == [Progress(1, 2), ["said", 1], Progress(2, 2), ["said", 2]]
    assert later == [["said", 3], Progress(3, 2)]
