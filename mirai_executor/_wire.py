"""Turns frames into bytes and back: everything that a host and a daemon say to each other.

::

    daemon                                   host
      | -- Hello (versions, pid) ------------> |
      | <------------- Init (preparation) ---- |
      | -- Ready, or InitFailed -------------> |
      | <------------- Tasks, Broadcast ------ |
      | -- Outcomes, BroadcastOutcome -------> |
      | -- Leaving (wants to go) ------------> |
      | <------------- Leave (may go) -------- |

Daemons elsewhere have a keeper between the two, which passes all of these on. It has frames of its
own for what cannot wait until a daemon has time to read::

    keeper                                   host
      | -- Joined (machine, pid) ------------> |
      | <------------- Attend (on terms) ----- |
      | -- Beat -----------------------------> |
      | <---------------------------- Beat --- |
      | <-------- Stop, Recall, Kill --------- |
      | -- Returned, Ended (how) ------------> |

A frame is one byte that names its kind, and a body of little-endian fields; byte strings carry
their length in eight bytes. Payloads are opaque here: nothing in this room pickles.
``docs/protocol.md`` lists every field.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, Self

Bytes = bytes | memoryview
# A large buffer of a payload: bytes, or its place in shared memory (arena, offset, length).
Buffer = Bytes | bytearray | tuple[int, int, int]

PROTOCOL_VERSION = 4

_U8 = struct.Struct("<B")
_U64 = struct.Struct("<Q")
_HELLO = struct.Struct("<HIBBB")
_BATCH = struct.Struct("<II")  # how many there are, and how many arenas are released
# With the number of large buffers, and the length of the payload, which comes after the names.
_TASK = struct.Struct("<QIIQ")
_OUTCOME = struct.Struct("<QBBIQQ")
_PLACE = struct.Struct("<QQQ")
_JOINED = struct.Struct("<IB")
_ATTEND = struct.Struct("<d?")
_KILL = struct.Struct("<B?")
_ENDED = struct.Struct("<iQI")  # exit code, tasks received, tasks that never began
_SMALL = 4096  # bytes: what is smaller is copied, or one result would keep a frame of many
_SAME_NAMES = 0xFFFF_FFFF  # instead of their number: those of the task before
_DIGEST_SIZE = 16


class WireError(ValueError):
    """The bytes are not a frame of this protocol."""


class Status(IntEnum):
    """How a task ended at its daemon."""

    VALUE = 0
    ERROR = 1
    SKIPPED = 2  # it had been stopped before it began


_WISHES = {0: None, 1: True, 2: False}  # of a daemon; None leaves it to the host
_STATUSES = dict(enumerate(Status))  # Status(n), at a tenth of its cost


class Name(NamedTuple):
    """One name of the host's ``__main__``; without ``blob`` where the daemon has it already."""

    name: str
    digest: bytes
    blob: Bytes | None = None


class WireTask(NamedTuple):
    task: int
    names: tuple[Name, ...]
    payload: Bytes
    buffers: tuple[Buffer, ...] = ()


class WireOutcome(NamedTuple):
    task: int
    status: Status
    leaving: bool  # the daemon is spoilt and wants no further task
    payload: Bytes
    nanoseconds: int = 0  # that it took
    buffers: tuple[Buffer, ...] = ()


class _Reader:
    """Walks through a body; a field that is not all there is an error."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._at = 0

    def unpack(self, fields: struct.Struct) -> tuple[Any, ...]:
        at = self._at
        try:
            values = fields.unpack_from(self._body, at)
        except struct.error as error:
            raise WireError(f"a frame ends early: {error}") from error
        self._at = at + fields.size
        return values

    def take(self, size: int) -> memoryview:
        piece = self._body[self._at : self._at + size]
        if len(piece) != size:
            raise WireError(f"a frame ends {size - len(piece)} bytes early")
        self._at += size
        return piece

    def block(self) -> memoryview:
        return self.take(int(self.unpack(_U64)[0]))

    def end(self) -> None:
        if self._at != len(self._body):
            raise WireError(f"{len(self._body) - self._at} bytes too many in a frame")


def _block(data: Bytes) -> Iterator[Bytes]:
    yield _U64.pack(len(data))
    yield data


def _names(names: Sequence[Name]) -> Iterator[Bytes]:
    for name in names:
        yield from _block(name.name.encode())
        yield name.digest
        yield _U8.pack(name.blob is not None)
        if name.blob is not None:
            yield from _block(name.blob)


def _read_names(reader: _Reader, count: int) -> Iterator[Name]:
    for _ in range(count):
        name, digest = str(reader.block(), "utf-8"), bytes(reader.take(_DIGEST_SIZE))
        (has_blob,) = reader.unpack(_U8)
        yield Name(name, digest, reader.block() if has_blob else None)


def _buffers(buffers: Sequence[Buffer]) -> Iterator[Bytes]:
    for buffer in buffers:
        if isinstance(buffer, tuple):
            yield _PLACE.pack(*buffer)
        else:
            yield _PLACE.pack(0, 0, len(buffer))  # no arena has this number
            yield memoryview(buffer)


def _read_buffers(reader: _Reader, count: int) -> Iterator[Buffer]:
    for _ in range(count):
        arena, offset, length = reader.unpack(_PLACE)
        yield (arena, offset, length) if arena else reader.take(length)


def _released(arenas: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(arenas)}q", *arenas)


def _read_released(reader: _Reader, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}q", reader.take(8 * count)) if count else ()


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a daemon; ``version`` is that of the package."""

    KIND: ClassVar[int] = 16
    pid: int
    python: tuple[int, int, int]
    version: str
    protocol: int = PROTOCOL_VERSION

    def parts(self) -> Iterator[Bytes]:
        yield _HELLO.pack(self.protocol, self.pid, *self.python)
        yield from _block(self.version.encode())

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        protocol, pid, major, minor, micro = reader.unpack(_HELLO)
        return cls(pid, (major, minor, micro), str(reader.block(), "utf-8"), protocol)


@dataclass(frozen=True, slots=True)
class _Blob:
    """A frame that carries one payload and nothing else."""

    payload: Bytes

    def parts(self) -> Iterator[Bytes]:
        return _block(self.payload)

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        return cls(reader.block())


@dataclass(frozen=True, slots=True)
class Init(_Blob):
    """What a daemon must know before it serves."""

    KIND: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class InitFailed(_Blob):
    """The initializer raised; the payload is its error."""

    KIND: ClassVar[int] = 18


@dataclass(frozen=True, slots=True)
class _Empty:
    """A frame whose kind says everything."""

    def parts(self) -> Iterator[Bytes]:
        return iter(())

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class Ready(_Empty):
    """The daemon may be given tasks."""

    KIND: ClassVar[int] = 17


@dataclass(frozen=True, slots=True)
class Leave(_Empty):
    """The daemon may go: everything that it sent has been received."""

    KIND: ClassVar[int] = 4


@dataclass(frozen=True, slots=True)
class Leaving(_Empty):
    """The daemon wants to go, and will, once told :class:`Leave`."""

    KIND: ClassVar[int] = 21


@dataclass(frozen=True, slots=True)
class Tasks:
    """Calls to run, one after the other, in this order; and arenas that the host releases."""

    KIND: ClassVar[int] = 2
    tasks: tuple[WireTask, ...]
    released: tuple[int, ...] = ()

    def parts(self) -> Iterator[Bytes]:
        yield _BATCH.pack(len(self.tasks), len(self.released))
        if self.released:
            yield _released(self.released)
        before: tuple[Name, ...] = ()
        for task, names, payload, buffers in self.tasks:
            if names is before or not names:
                yield _TASK.pack(task, _SAME_NAMES if names else 0, len(buffers), len(payload))
            else:
                yield _TASK.pack(task, len(names), len(buffers), len(payload))
                yield from _names(names)
            before = names
            yield payload
            if buffers:
                yield from _buffers(buffers)

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        count, released = reader.unpack(_BATCH)
        arenas = _read_released(reader, released)
        tasks = []
        names: tuple[Name, ...] = ()
        for _ in range(count):
            task, named, large, size = reader.unpack(_TASK)
            if named != _SAME_NAMES:
                names = tuple(_read_names(reader, named)) if named else ()
            payload = reader.take(size)
            buffers = tuple(_read_buffers(reader, large)) if large else ()
            tasks.append(WireTask(task, names, payload, buffers))
        return cls(tuple(tasks), arenas)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A call of ``everywhere``: what it changes, stays."""

    KIND: ClassVar[int] = 3
    broadcast: int
    names: tuple[Name, ...]
    payload: Bytes

    def parts(self) -> Iterator[Bytes]:
        yield _TASK.pack(self.broadcast, len(self.names), 0, len(self.payload))
        yield from _names(self.names)
        yield self.payload

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        broadcast, names, _, size = reader.unpack(_TASK)
        return cls(broadcast, tuple(_read_names(reader, names)), reader.take(size))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How tasks ended, in the order in which they did; and arenas that the daemon releases."""

    KIND: ClassVar[int] = 19
    outcomes: tuple[WireOutcome, ...]
    released: tuple[int, ...] = ()

    def parts(self) -> Iterator[Bytes]:
        yield _BATCH.pack(len(self.outcomes), len(self.released))
        if self.released:
            yield _released(self.released)
        for task, status, leaving, payload, nanoseconds, buffers in self.outcomes:
            size = len(payload)
            yield _OUTCOME.pack(task, status, leaving, len(buffers), nanoseconds, size)
            yield payload
            if buffers:
                yield from _buffers(buffers)

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        count, released = reader.unpack(_BATCH)
        arenas = _read_released(reader, released)
        return cls(tuple(_read_outcome(reader) for _ in range(count)), arenas)


def _read_outcome(reader: _Reader) -> WireOutcome:
    task, status, leaving, large, nanoseconds, size = reader.unpack(_OUTCOME)
    payload: Bytes = reader.take(size)
    if size < _SMALL:
        payload = bytes(payload)
    buffers = tuple(_read_buffers(reader, large)) if large else ()
    return WireOutcome(task, _STATUSES[status], bool(leaving), payload, nanoseconds, buffers)


@dataclass(frozen=True, slots=True)
class BroadcastOutcome:
    """How a call of ``everywhere`` ended at this daemon."""

    KIND: ClassVar[int] = 20
    broadcast: int
    status: Status
    payload: Bytes

    def parts(self) -> Iterator[Bytes]:
        yield _OUTCOME.pack(self.broadcast, self.status, 0, 0, 0, len(self.payload))
        yield self.payload

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        broadcast, status, _, _, _, size = reader.unpack(_OUTCOME)
        return cls(broadcast, Status(status), reader.take(size))


@dataclass(frozen=True, slots=True)
class Joined:
    """The first frame of a keeper: where it is, and its daemon's process id.

    ``cleanup`` is whether that has to clean up after each task; None leaves it to the host.
    """

    KIND: ClassVar[int] = 32
    pid: int
    host: str
    cleanup: bool | None = None

    def parts(self) -> Iterator[Bytes]:
        (wish,) = (number for number, wish in _WISHES.items() if wish is self.cleanup)
        yield _JOINED.pack(self.pid, wish)
        yield from _block(self.host.encode())

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        pid, wish = reader.unpack(_JOINED)
        return cls(pid, str(reader.block(), "utf-8"), _WISHES[wish])


@dataclass(frozen=True, slots=True)
class Attend:
    """What a host says first: how many seconds pass between two beats, of either side.

    ``dispatcher`` is whether its tasks wait in one queue, or are dealt out when submitted.
    """

    KIND: ClassVar[int] = 40
    seconds: float
    dispatcher: bool = True

    def parts(self) -> Iterator[Bytes]:
        yield _ATTEND.pack(self.seconds, self.dispatcher)

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        return cls(*reader.unpack(_ATTEND))


@dataclass(frozen=True, slots=True)
class Beat(_Empty):
    """A sign of life."""

    KIND: ClassVar[int] = 33


@dataclass(frozen=True, slots=True)
class Stop:
    """A task has to stop."""

    KIND: ClassVar[int] = 41
    task: int

    def parts(self) -> Iterator[Bytes]:
        yield _U64.pack(self.task)

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        return cls(*reader.unpack(_U64))


@dataclass(frozen=True, slots=True)
class Recall(_Empty):
    """The host has back what has not begun, and wants the results that are in hand."""

    KIND: ClassVar[int] = 42


@dataclass(frozen=True, slots=True)
class Kill:
    """The daemon is to be ended by a signal.

    If it is ``overdue``, never having been ready, no other is to come in its place.
    """

    KIND: ClassVar[int] = 43
    signum: int
    overdue: bool = False

    def parts(self) -> Iterator[Bytes]:
        yield _KILL.pack(self.signum, self.overdue)

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        return cls(*reader.unpack(_KILL))


@dataclass(frozen=True, slots=True)
class Returned:
    """Tasks that have not begun, and never will."""

    KIND: ClassVar[int] = 34
    tasks: tuple[int, ...]

    def parts(self) -> Iterator[Bytes]:
        yield _U64.pack(len(self.tasks))
        yield struct.pack(f"<{len(self.tasks)}Q", *self.tasks)

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        (count,) = reader.unpack(_U64)
        return cls(_read_tasks(reader, count))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a daemon has ended: as ``subprocess`` says it, and its last words.

    Of the tasks that were sent to it, those after the first ``received`` were still on their way,
    and those in ``unbegun`` never began.
    """

    KIND: ClassVar[int] = 35
    code: int
    received: int
    unbegun: tuple[int, ...]
    stderr: str

    def parts(self) -> Iterator[Bytes]:
        yield _ENDED.pack(self.code, self.received, len(self.unbegun))
        yield struct.pack(f"<{len(self.unbegun)}Q", *self.unbegun)
        yield from _block(self.stderr.encode(errors="replace"))

    @classmethod
    def read(cls, reader: _Reader) -> Self:
        code, received, count = reader.unpack(_ENDED)
        unbegun = _read_tasks(reader, count)
        return cls(code, received, unbegun, str(reader.block(), "utf-8"))


def _read_tasks(reader: _Reader, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", reader.take(8 * count))


Frame = (
    Hello
    | Init
    | InitFailed
    | Ready
    | Leave
    | Leaving
    | Tasks
    | Broadcast
    | Outcomes
    | BroadcastOutcome
    | Joined
    | Attend
    | Beat
    | Stop
    | Recall
    | Kill
    | Returned
    | Ended
)

_KINDS: dict[int, type[Frame]] = {
    kind.KIND: kind
    for kind in (
        Hello,
        Init,
        InitFailed,
        Ready,
        Leave,
        Leaving,
        Tasks,
        Broadcast,
        Outcomes,
        BroadcastOutcome,
        Joined,
        Attend,
        Beat,
        Stop,
        Recall,
        Kill,
        Returned,
        Ended,
    )
}


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    return b"".join((_U8.pack(frame.KIND), *frame.parts()))


def is_for_keeper(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether a frame is between host and keeper, and none of a daemon's business."""
    return bool(data) and data[0] >= Joined.KIND


def is_tasks(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether a frame brings tasks."""
    return bool(data) and data[0] == Tasks.KIND


def is_leave(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether a frame lets a daemon go."""
    return bool(data) and data[0] == Leave.KIND


def is_leaving(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether a frame says that a daemon has to leave."""
    return bool(data) and data[0] == Leaving.KIND


def count_outcomes(data: bytes | bytearray | memoryview) -> int:
    """Return how many tasks have ended, by a frame from a daemon."""
    if not data or data[0] != Outcomes.KIND or len(data) <= _BATCH.size:
        return 0
    count, _ = _BATCH.unpack_from(data, 1)
    return int(count)


def decode(data: bytes | bytearray | memoryview) -> Frame:
    """Return the frame that the bytes hold; its payloads are views into ``data``.

    Raises:
        WireError: The bytes are no frame of this protocol.
    """
    if not data:
        raise WireError("an empty frame")
    kind = _KINDS.get(data[0])
    if kind is None:
        raise WireError(f"no frame is of kind {data[0]}")
    reader = _Reader(memoryview(data)[1:])
    try:
        frame = kind.read(reader)
    except (struct.error, KeyError, UnicodeDecodeError, ValueError) as error:
        raise WireError(f"a broken {kind.__name__} frame: {error}") from error
    reader.end()
    return frame
