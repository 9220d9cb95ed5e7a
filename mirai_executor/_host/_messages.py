"""Puts together what tasks say while they run, for those who listen to their futures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from mirai_executor import _wire
from mirai_executor._core import TaskId
from mirai_executor._typing import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._daemon import Daemon


class Message(NamedTuple):
    """What a task reports: pickled, as only a listener unpickles it."""

    payload: bytes
    is_progress: bool


class Item(NamedTuple):
    """A value that a task has yielded; ``grant`` lets it yield so many more (host thread only)."""

    outcome: _wire.WireOutcome
    grant: Callable[[int], None]


class Reports:
    """Puts the reports of one daemon together again; one that is not all there is dropped."""

    def __init__(self) -> None:
        self._number = 0
        self._pieces: list[_wire.Bytes] = []

    def take(self, frame: _wire.Report) -> Message | None:
        """Take in a report, or a part of it; return what is whole now."""
        if frame.number <= self._number:
            return None  # it was sent twice
        is_next = frame.number == self._number + 1
        self._number = frame.number
        if frame.first:
            self._pieces.clear()
        elif not (self._pieces and is_next):
            return None  # what it belongs to was dropped on the way
        self._pieces.append(frame.piece)
        if frame.more:
            return None
        payload = b"".join(self._pieces)
        self._pieces.clear()
        return Message(payload, frame.is_progress)


def messages_in(
    frame: _wire.Report | _wire.Items, daemon: Daemon, grant: Callable[[TaskId, int], None]
) -> Iterator[tuple[TaskId, Message | Item]]:
    """Yield what a daemon says of tasks, in order, and of elements of chunks.

    Args:
        frame: How it says so.
        daemon: The one.
        grant: Lets a task yield so many values more.
    """
    if isinstance(frame, _wire.Report):
        if daemon.reports is None:
            daemon.reports = Reports()
        message = daemon.reports.take(frame)
        if message is not None:
            yield TaskId(frame.task), message
        return
    if daemon.exchange is not None:
        daemon.exchange.release(frame.released)
    for outcome in frame.outcomes:
        task = TaskId(outcome.task)
        known = daemon.with_views(outcome) if outcome.buffers else outcome  # or they stay lent
        yield task, Item(known, partial(grant, task))
