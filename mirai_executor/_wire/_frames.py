"""The frames that a host and a daemon exchange, whether or not a keeper stands between."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum

from mirai_executor._typing import TYPE_CHECKING, NamedTuple, Record, Self

from ._fields import (
    Buffer,
    Bytes,
    Data,
    Name,
    Plain,
    Reader,
    own,
    pack_block,
    pack_buffers,
    pack_names,
    read_buffers,
    read_names,
)

if TYPE_CHECKING:
    from ._beside import Credit, LogPiece, Report
    from ._keepers import Attend, Beat, Ended, Joined, Kill, Parting, Recall, Returned, Stop

PROTOCOL_VERSION = 11

_HELLO = struct.Struct("<HIBBB")
BATCH = struct.Struct("<II")  # how many there are, and how many arenas are released
# With the number of large buffers, and the length of the payload.
_TASK = struct.Struct("<QIIQ")
_OUTCOME = struct.Struct("<QBBIQQ")
_SAME_NAMES = 0xFFFF_FFFF  # instead of their number
# A frame of one, which has nothing beside it, as a single row: its kind, BATCH, and the above.
# Most frames are that where tasks come one at a time, and reading it takes two thirds of the time.
_LONE_TASK = struct.Struct("<BIIQIIQ")
_LONE_OUTCOME = struct.Struct("<BIIQBBIQQ")


class OutcomeStatus(IntEnum):
    """How a task ended at its daemon."""

    VALUE = 0
    ERROR = 1
    SKIPPED = 2  # it had been stopped before it began


_STATUSES = dict(enumerate(OutcomeStatus))  # OutcomeStatus(n), at a tenth of its cost
_tuple = tuple.__new__  # of a named tuple, at half the cost of its own: for one of many


class WireTask(NamedTuple):
    task: int
    names: tuple[Name, ...] | None  # None: those of the task sent before it, in whichever frame
    payload: Bytes
    buffers: tuple[Buffer, ...] = ()


class WireOutcome(NamedTuple):
    task: int
    status: OutcomeStatus
    leaving: bool  # the daemon is spoilt and wants no further task
    payload: Bytes
    nanoseconds: int = 0  # that it took
    buffers: tuple[Buffer, ...] = ()


def _released(arenas: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(arenas)}q", *arenas)


def _read_released(reader: Reader, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}q", reader.take(8 * count))


class Hello(Record):
    """The first frame of a daemon; ``version`` is that of the package."""

    KIND = 16
    pid: int
    python: tuple[int, int, int]
    version: str
    protocol: int = PROTOCOL_VERSION

    def parts(self) -> Iterator[Bytes]:
        yield _HELLO.pack(self.protocol, self.pid, *self.python)
        yield from pack_block(self.version.encode())

    @classmethod
    def read(cls, reader: Reader) -> Self:
        protocol, pid, major, minor, micro = reader.unpack(_HELLO)
        return cls(pid, (major, minor, micro), str(reader.block(), "utf-8"), protocol)


class _Blob(Record):
    """A frame that carries one payload and nothing else."""

    payload: Bytes

    def parts(self) -> Iterator[Bytes]:
        return pack_block(self.payload)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(reader.block())


class Init(_Blob):
    """What a daemon must know before it serves."""

    KIND = 1


class InitFailed(_Blob):
    """The initializer raised; the payload is its error."""

    KIND = 18


class Ready(Plain):
    """The daemon may be given tasks."""

    KIND = 17


class Leave(Plain):
    """The daemon may go: everything that it sent has been received.

    If its host is ``closing``, a keeper that serves one host after the other goes on.
    """

    KIND = 4
    ROW = struct.Struct("<?")
    closing: bool = False


class Leaving(Plain):
    """The daemon wants to go, and will, once told :class:`Leave`."""

    KIND = 21


class Tasks(Record):
    """Calls to run, one after the other, in this order; and arenas that the host releases."""

    KIND = 2
    tasks: tuple[WireTask, ...]
    released: tuple[int, ...] = ()

    def lone(self) -> tuple[bytes, Bytes] | None:
        """Return the parts of a frame of one task; None if there is more in it."""
        if len(self.tasks) != 1 or self.released:
            return None
        ((task, names, payload, buffers),) = self.tasks
        if names or buffers:
            return None
        count = _SAME_NAMES if names is None else 0
        return _LONE_TASK.pack(self.KIND, 1, 0, task, count, 0, len(payload)), payload

    @classmethod
    def read_lone(cls, data: Data) -> Self | None:
        """Read a frame of one task; None if it is another, or malformed."""
        start = _LONE_TASK.size
        if len(data) < start:
            return None
        _, count, released, task, named, large, size = _LONE_TASK.unpack_from(data)
        if count != 1 or released or large or size != len(data) - start:
            return None
        if named != _SAME_NAMES and named:
            return None
        fields = (task, None if named else (), memoryview(data)[start:], ())
        return cls((_tuple(WireTask, fields),))

    def parts(self) -> list[Bytes]:
        parts: list[Bytes] = [BATCH.pack(len(self.tasks), len(self.released))]
        if self.released:
            parts.append(_released(self.released))
        bodies: list[Bytes] = []
        for task, names, payload, buffers in self.tasks:
            count = _SAME_NAMES if names is None else len(names)
            if names:
                bodies += pack_names(names)
            parts.append(_TASK.pack(task, count, len(buffers), len(payload)))
            bodies.append(payload)
            if buffers:
                bodies += pack_buffers(buffers)
        return parts + bodies

    @classmethod
    def read(cls, reader: Reader) -> Self:
        count, released = reader.unpack(BATCH)
        arenas = _read_released(reader, released) if released else ()
        tasks = []
        names: tuple[Name, ...] | None
        for task, named, large, size in reader.rows(_TASK, count):
            names = None if named == _SAME_NAMES else tuple(read_names(reader, named))
            payload = reader.take(size)
            buffers = tuple(read_buffers(reader, large)) if large else ()
            tasks.append(_tuple(WireTask, (task, names, payload, buffers)))
        return cls(tuple(tasks), arenas)


class Broadcast(Record):
    """A call of ``everywhere``: what it changes, stays."""

    KIND = 3
    broadcast: int
    names: tuple[Name, ...]
    payload: Bytes

    def parts(self) -> Iterator[Bytes]:
        yield _TASK.pack(self.broadcast, len(self.names), 0, len(self.payload))
        yield from pack_names(self.names)
        yield self.payload

    @classmethod
    def read(cls, reader: Reader) -> Self:
        broadcast, names, _, size = reader.unpack(_TASK)
        return cls(broadcast, tuple(read_names(reader, names)), reader.take(size))


class Outcomes(Record):
    """How tasks ended, in the order in which they did; and arenas that the daemon releases."""

    KIND = 19
    outcomes: tuple[WireOutcome, ...]
    released: tuple[int, ...] = ()

    def lone(self) -> tuple[bytes, Bytes] | None:
        """Return the parts of a frame of one outcome; None if there is more in it."""
        if len(self.outcomes) != 1 or self.released:
            return None
        ((task, status, leaving, payload, nanoseconds, buffers),) = self.outcomes
        if buffers:
            return None
        row = (self.KIND, 1, 0, task, status, leaving, 0, nanoseconds, len(payload))
        return _LONE_OUTCOME.pack(*row), payload

    @classmethod
    def read_lone(cls, data: Data) -> Self | None:
        """Read a frame of one outcome; None if it is another, or malformed."""
        start = _LONE_OUTCOME.size
        if len(data) < start:
            return None
        _, count, released, task, status, leaving, large, nanoseconds, size = (
            _LONE_OUTCOME.unpack_from(data)
        )
        if count != 1 or released or large or size != len(data) - start:
            return None
        if (known := _STATUSES.get(status)) is None:
            return None
        payload = own(data, start)
        return cls((_tuple(WireOutcome, (task, known, leaving != 0, payload, nanoseconds, ())),))

    @staticmethod
    def read_tasks(reader: Reader) -> list[int]:
        """Read no more than which tasks have ended."""
        count, released = reader.unpack(BATCH)
        reader.take(8 * released)
        return [row[0] for row in reader.rows(_OUTCOME, count)]

    def parts(self) -> list[Bytes]:
        parts: list[Bytes] = [BATCH.pack(len(self.outcomes), len(self.released))]
        if self.released:
            parts.append(_released(self.released))
        bodies: list[Bytes] = []
        for task, status, leaving, payload, nanoseconds, buffers in self.outcomes:
            size = len(payload)
            parts.append(_OUTCOME.pack(task, status, leaving, len(buffers), nanoseconds, size))
            bodies.append(payload)
            if buffers:
                bodies += pack_buffers(buffers)
        return parts + bodies

    @classmethod
    def read(cls, reader: Reader) -> Self:
        count, released = reader.unpack(BATCH)
        arenas = _read_released(reader, released) if released else ()
        outcomes = []
        for task, status, leaving, large, nanoseconds, size in reader.rows(_OUTCOME, count):
            payload = reader.own(size)
            buffers = tuple(read_buffers(reader, large)) if large else ()
            fields = (task, _STATUSES[status], leaving != 0, payload, nanoseconds, buffers)
            outcomes.append(_tuple(WireOutcome, fields))
        return cls(tuple(outcomes), arenas)


class Items(Outcomes):
    """Values that tasks have yielded, and go on; in other respects as :class:`Outcomes`."""

    KIND = 24


class BroadcastOutcome(Record):
    """How a call of ``everywhere`` ended at this daemon."""

    KIND = 20
    broadcast: int
    status: OutcomeStatus
    payload: Bytes

    def parts(self) -> Iterator[Bytes]:
        yield _OUTCOME.pack(self.broadcast, self.status, 0, 0, 0, len(self.payload))
        yield self.payload

    @classmethod
    def read(cls, reader: Reader) -> Self:
        broadcast, status, _, _, _, size = reader.unpack(_OUTCOME)
        return cls(broadcast, OutcomeStatus(status), reader.take(size))


OfDaemons = (
    Hello
    | Init
    | InitFailed
    | Ready
    | Leave
    | Leaving
    | Tasks
    | Broadcast
    | Outcomes
    | Items
    | BroadcastOutcome
)
if TYPE_CHECKING:
    Frame = (
        OfDaemons
        | LogPiece
        | Report
        | Credit
        | Joined
        | Attend
        | Beat
        | Stop
        | Recall
        | Kill
        | Returned
        | Ended
        | Parting
    )
else:  # the rest is imported with the first frame of its kind, or daemon elsewhere
    Frame = OfDaemons
