"""What the host sends along with a call: the table of its names, once for tasks in a row."""

import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mirai_executor import _wire
from mirai_executor._core import TaskId
from mirai_executor._host import Limits
from mirai_executor._host._daemon import Daemon
from mirai_executor._host._tasks import OpenTask
from mirai_executor._payload.host import NameEntry
from mirai_executor._transport import Link


class Fake(Daemon):
    """Has a link, and no process."""

    pid = exitcode = 0

    def issue(self, tasks: Sequence[TaskId]) -> None: ...
    def interrupt(self, task: TaskId) -> None: ...
    def resend_stop(self) -> None: ...
    def take_back(self) -> None: ...
    def kill(self, signum: int = 0) -> None: ...
    def begun(self) -> tuple[TaskId, ...]:
        return ()

    def close(self) -> str:
        self.link.close()
        return ""

    def forget(self) -> None: ...


class Sides:
    """A daemon as its host has it, and what arrives there."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        self.daemon = Fake(Link(here.detach(), blocking=False))
        self._other = Link(there.detach(), blocking=True)

    def close(self) -> None:
        self.daemon.close()
        self._other.close()

    def send(self, *tables: tuple[NameEntry, ...]) -> list[Any]:
        """Send a frame of calls with these tables; return the names that come with each."""
        future: Any = None  # which nobody asks here
        self.daemon.send_tasks(
            [OpenTask(TaskId(1), future, Limits(), None, b"call", table) for table in tables]
        )
        frame = _wire.decode(self._other.receive() or b"")
        assert isinstance(frame, _wire.Tasks)
        return [task.names and [name.name for name in task.names] for task in frame.tasks]


@pytest.fixture
def sides() -> Iterator[Sides]:
    made = Sides()
    yield made
    made.close()


def table(name: str, size: int = 100) -> tuple[NameEntry, ...]:
    return (NameEntry(name, name.encode().ljust(16), bytes(size)),)


def test_a_table_is_sent_once_for_tasks_in_a_row_in_whichever_frame(sides: Sides) -> None:
    one, two = table("one"), table("two")
    assert sides.send(one, one, two) == [["one"], None, ["two"]]
    assert sides.send(two, one) == [None, ["one"]]
    assert sides.send(one) == [None]
    assert sides.send((), ()) == [(), None]


def test_a_table_is_sent_again_after_a_call_between_them(sides: Sides) -> None:
    one = table("one")
    assert sides.send(one) == [["one"]]
    assert sides.daemon.new_names(table("two"))[0].blob is not None
    assert sides.send(one) == [["one"]]


def test_large_tables_are_not_kept_for_later(sides: Sides) -> None:
    large = table("large", 1 << 16)
    assert sides.send(large, large) == [["large"], None]
    assert sides.send(large) == [["large"]]
    assert sides.daemon._table is None
