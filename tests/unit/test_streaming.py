"""What a stream sends: no more than it has credit for, and no frame that is cut in two."""

import collections
from collections.abc import Callable
from typing import Any, cast

import pytest

from mirai_executor import _wire
from mirai_executor._arena import DaemonMemory
from mirai_executor._payload.host import decode_value
from mirai_executor._transport import Link
from mirai_executor.daemon._interrupts import Interrupts
from mirai_executor.daemon._main import new_exchange
from mirai_executor.daemon._streaming import Streaming

TASK = 7


class FakeLink:
    """Has some frames to be received, and then waits in vain."""

    def __init__(self, *frames: _wire.Frame) -> None:
        self._frames = collections.deque(frames)

    def wait(self, _: float) -> bool:
        if not self._frames:
            raise TimeoutError
        return True

    def receive(self) -> bytes:
        return _wire.encode(self._frames.popleft())


class FakeInterrupts:
    """Knows whether user code runs, and takes a stop while it does not."""

    task = TASK

    def __init__(self) -> None:
        self.is_open = True
        self.must_stop = False

    def leave(self) -> None:
        self.is_open = False

    def enter(self, task: int) -> bool:
        assert task == TASK
        self.is_open = True
        return not self.must_stop


class Streamed:
    """A stream with all that is around it."""

    def __init__(self, *frames: _wire.Frame, ahead: int) -> None:
        self.interrupts, self.sent = FakeInterrupts(), list[_wire.Frame]()
        self.unread: collections.deque[_wire.Frame] = collections.deque()
        self.on_send: Callable[[], None] = lambda: None
        self.stream = Streaming(
            cast("Link", FakeLink(*frames)),
            cast("Interrupts", self.interrupts),
            DaemonMemory(new_exchange),
            self._send,
            self.unread,
            ahead,
        )

    def _send(self, frame: _wire.Frame) -> None:
        assert not self.interrupts.is_open
        self.sent.append(frame)
        self.on_send()

    def yield_from(self, values: Any) -> None:
        for value in values:
            self.stream.wait_for_credit()
            self.stream.put(value)

    def values(self) -> list[Any]:
        frames = [frame for frame in self.sent if isinstance(frame, _wire.Items)]
        assert {outcome.task for frame in frames for outcome in frame.outcomes} <= {TASK}
        return [decode_value(it.payload) for frame in frames for it in frame.outcomes]


def test_values_are_sent_as_far_as_there_is_credit() -> None:
    streamed = Streamed(_wire.Credit(TASK, 2), _wire.Credit(TASK, 1), ahead=2)
    with pytest.raises(TimeoutError):
        streamed.yield_from(range(100))
    assert streamed.values() == [0, 1, 2, 3, 4]


def test_frames_that_come_meanwhile_are_kept_and_credit_of_others_is_none() -> None:
    tasks = _wire.Tasks((_wire.WireTask(8, (), b"call"),))
    streamed = Streamed(tasks, _wire.Credit(6, 5), _wire.Leaving(), ahead=1)
    with pytest.raises(TimeoutError):
        streamed.yield_from(range(100))
    assert streamed.values() == [0]
    assert list(streamed.unread) == [tasks, _wire.Leaving()]


def test_a_stop_that_comes_while_a_value_is_sent_strikes_behind_it() -> None:
    streamed = Streamed(ahead=3)

    def stop() -> None:
        streamed.interrupts.must_stop = True

    streamed.on_send = stop
    with pytest.raises(KeyboardInterrupt):
        streamed.yield_from("ab")
    assert streamed.values() == ["a"]
    assert not streamed.interrupts.is_open  # no second one can strike
