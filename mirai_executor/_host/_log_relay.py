"""Hands the log records of tasks to the loggers of this process, on a thread of its own.

::

    host thread ── take ──► queue ──► mirai-logs ──► getLogger(name).handle(record)

Handlers are the user's code. They take as long as they like, and wait for locks that a thread may
hold which waits for a task: the host thread must not run them.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import traceback
from typing import TYPE_CHECKING

from mirai_executor._payload import host as _payload
from mirai_executor._waiting import OneShotEvent

if TYPE_CHECKING:
    from mirai_executor import _wire

_LOG = logging.getLogger("mirai_executor")
_MOST = 10_000  # records that wait for handlers which are slow
_PATIENCE = 0.05  # seconds that futures wait for what their tasks have logged
_STALLED = 2.0  # seconds that a shutdown waits for a single record to be handled


class LogRelay:
    """The log records of one executor's tasks. For the host thread.

    Attributes:
        levels: Tell daemons which records to send.
    """

    def __init__(self) -> None:
        self.levels = _payload.LogLevels.of_this_process()
        self._queue: queue.SimpleQueue[bytes | str | OneShotEvent | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._taken = self._handled = self._dropped = 0
        self._late: OneShotEvent | None = None  # comes when all is handled that was not in time

    def records_of_daemon(self) -> Records:
        """Return what takes in the frames of one daemon."""
        return Records(self)

    def take(self, record: bytes | str) -> None:
        """Have a pickled record handled, or a warning of ours logged."""
        if self._taken - self._handled >= _MOST:
            self._dropped += 1
            return
        self._tell_of_dropped()
        self._put(record)

    def _tell_of_dropped(self) -> None:
        if count := self._dropped:
            self._dropped = 0
            self._put(f"{count} log records of tasks were dropped: the handlers here are slow")

    def _put(self, item: bytes | str) -> None:
        self._taken += 1
        self._queue.put(item)
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="mirai-logs", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # since 3.12, whenever the interpreter shuts down
                self._queue.put(None)
                self._run()
            else:
                self._thread = thread

    def drain(self) -> None:
        """Wait a little until all is handled; not again before what was late has been."""
        if self._taken == self._handled or not (self._late is None or self._late.has_come):
            return
        drained = OneShotEvent()
        self._queue.put(drained)
        self._late = None if drained.wait(_PATIENCE) else drained

    def close(self) -> None:
        """Wait until all is handled, unless a handler waits as well, and end the thread."""
        if self._thread is None:
            return
        self._tell_of_dropped()
        self._queue.put(None)
        handled = -1
        while self._thread.is_alive() and handled != self._handled:
            handled = self._handled
            self._thread.join(_STALLED)
        self._thread = None  # threading counts it as left behind while somebody refers to it

    # The thread

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, OneShotEvent):
                item.come()
                continue
            try:
                _handle(item)
            except BaseException:  # by a filter, or by what unpickles an attribute
                if logging.raiseExceptions:
                    with contextlib.suppress(Exception):
                        traceback.print_exc()
            self._handled += 1


def _handle(item: bytes | str) -> None:
    if isinstance(item, str):
        _LOG.warning("%s", item)
        return
    record = logging.makeLogRecord(_payload.decode_value(item))
    logging.getLogger(record.name).handle(record)


class Records:
    """Puts the records of one daemon together again.

    Args:
        relay: Has them handled.
    """

    def __init__(self, relay: LogRelay) -> None:
        self._relay = relay
        self._number = self._lost = 0
        self._pieces: list[_wire.Bytes] = []

    def take(self, frame: _wire.LogPiece) -> None:
        """Take in a record, or a part of it."""
        if frame.number <= self._number:
            return  # it was sent twice
        self._number = frame.number
        if frame.piece:
            self._pieces.append(frame.piece)
        if self._pieces and not frame.more:
            self._relay.take(b"".join(self._pieces))
            self._pieces.clear()
        if lost := frame.lost - self._lost:
            self._lost = frame.lost
            self._relay.take(f"{lost} log records of tasks were dropped: too many came at once")
