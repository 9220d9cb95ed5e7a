"""The log records of tasks on their way: bounded at both ends, and each handled once."""

import logging
import threading
from typing import cast

import pytest

from mirai_executor import _wire
from mirai_executor._host._log_relay import LogRelay, Records
from mirai_executor._payload.daemon import encode_value
from mirai_executor._transport import Link
from mirai_executor.daemon import _piece_sender
from mirai_executor.daemon._interrupts import Interrupts
from mirai_executor.daemon._log_sender import LogSender


class FakeLink:
    def __init__(self) -> None:
        self.frames: list[_wire.LogPiece] = []
        self.has_room = True

    def send(self, data: bytes) -> None:
        frame = _wire.decode(data)
        assert isinstance(frame, _wire.LogPiece)
        self.frames.append(frame)

    def send_at_once(self, data: bytes) -> bool:
        if self.has_room:
            self.send(data)
        return self.has_room


class FakeInterrupts:
    may_send = True
    task = 1
    company = None
    thread = threading.get_ident()


class FakeRelay:
    def __init__(self) -> None:
        self.taken: list[bytes | str] = []

    def take(self, record: bytes | str) -> None:
        self.taken.append(record)


def sender() -> tuple[LogSender, FakeLink]:
    link = FakeLink()
    return LogSender(cast("Link", link), cast("Interrupts", FakeInterrupts()), "it"), link


def test_a_record_is_sent_in_pieces_that_fit_into_a_pipe_at_once() -> None:
    logs, link = sender()
    logs.put(b"x" * 10_000)
    assert len(link.frames) == 3
    relay = FakeRelay()
    records = Records(cast("LogRelay", relay))
    for frame in link.frames:
        assert len(_wire.encode(frame)) + 8 <= 4096
        records.take(frame)
        records.take(frame)  # it was interrupted, and has sent it again
    assert relay.taken == [b"x" * 10_000]


def test_a_host_that_reads_nothing_costs_records_and_hears_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_piece_sender, "_MOST", 3)
    logs, link = sender()
    link.has_room = False
    for number in range(5):
        logs.put(b"%d" % number)
    assert link.frames == []
    logs.flush()
    relay = FakeRelay()
    records = Records(cast("LogRelay", relay))
    for frame in link.frames:
        records.take(frame)
    assert relay.taken == [
        b"0",
        "2 log records of tasks were dropped: too many came at once",
        b"1",
        b"2",
    ]


def test_handlers_that_are_slow_cost_records_and_the_log_says_how_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mirai_executor._host._log_relay._MOST", 2)
    going_on = threading.Event()

    class Slow(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            going_on.wait()

    slow, job = Slow(), logging.getLogger("job")
    job.addHandler(slow)
    try:
        relay = LogRelay()
        for number in range(4):
            record = {"name": "job", "msg": str(number), "levelno": 30, "levelname": "WARNING"}
            relay.take(bytes(encode_value(record).blob))
        relay.drain()  # returns
        going_on.set()
        relay.close()
    finally:
        job.removeHandler(slow)
    told = "2 log records of tasks were dropped: the handlers here are slow"
    assert caplog.messages == ["0", "1", told]
