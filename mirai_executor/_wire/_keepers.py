"""The frames between a host and a keeper: what cannot wait until a daemon has time to read."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mirai_executor._typing import Record, Self

from ._fields import U64, Bytes, Plain, Reader, pack_block

_JOINED = struct.Struct("<IBQd")
_ENDED = struct.Struct("<iQ?I")  # exit code, tasks received, others follow, never began
_NEVER = -1.0  # for seconds
_WISHES = {0: None, 1: True, 2: False}  # of a daemon; None leaves it to the host


class Joined(Record):
    """The first frame of a keeper: where it is, and its daemon's process id.

    ``cleanup`` is whether that has to clean up after each task; None leaves it to the host, who
    also lets it go after ``max_tasks``, and after ``idle_time`` seconds without a task.
    ``request`` is the name of what it was started for, when it comes for the first time, and
    ``seat`` the one that it has on its machine.
    """

    KIND = 32
    pid: int
    host: str
    cleanup: bool | None = None
    max_tasks: int | None = None
    idle_time: float | None = None
    request: str = ""
    seat: str = ""

    def parts(self) -> Iterator[Bytes]:
        (wish,) = (number for number, wish in _WISHES.items() if wish is self.cleanup)
        idle = _NEVER if self.idle_time is None else self.idle_time
        yield _JOINED.pack(self.pid, wish, self.max_tasks or 0, idle)
        yield from pack_block(self.host.encode())
        yield from pack_block(self.request.encode())
        yield from pack_block(self.seat.encode())

    @classmethod
    def read(cls, reader: Reader) -> Self:
        pid, wish, tasks, idle = reader.unpack(_JOINED)
        host, request, seat = (str(reader.block(), "utf-8") for _ in range(3))
        limits = (_WISHES[wish], tasks or None, idle if idle >= 0 else None)
        return cls(pid, host, *limits, request, seat)


class Attend(Plain):
    """What a host says first: how many seconds pass between two beats, of either side.

    ``dispatcher`` is whether its tasks wait in one queue, or are dealt out when submitted.
    """

    KIND = 40
    ROW = struct.Struct("<d?")
    seconds: float
    dispatcher: bool = True


class Beat(Plain):
    """A sign of life. A host's has the time of its clock, and comes back to it as it is."""

    KIND = 33
    ROW = struct.Struct("<d")
    time: float = 0.0


class Stop(Plain):
    """A task has to stop; ``sent`` have been sent so far, of which some may still be on their way.

    It overtakes them, so the task itself may come later. A broadcast's does not, and has zero.
    """

    KIND = 41
    ROW = struct.Struct("<QQ")
    task: int
    sent: int = 0


class Recall(Plain):
    """The host has back what has not begun, and wants the results that are in hand."""

    KIND = 42


class Kill(Plain):
    """The daemon is to be ended by a signal.

    If it is ``overdue``, never having been ready, no other is to come in its place.
    """

    KIND = 43
    ROW = struct.Struct("<B?")
    signum: int
    overdue: bool = False


class Returned(Record):
    """Tasks that have not begun, and never will."""

    KIND = 34
    tasks: tuple[int, ...]

    def parts(self) -> Iterator[Bytes]:
        yield U64.pack(len(self.tasks))
        yield struct.pack(f"<{len(self.tasks)}Q", *self.tasks)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        (count,) = reader.unpack(U64)
        return cls(_read_tasks(reader, count))


class Parting(Record):
    """The keeper is about to ask for leave, and why that is."""

    KIND = 36
    why: str

    def parts(self) -> Iterator[Bytes]:
        yield from pack_block(self.why.encode())

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(str(reader.block(), "utf-8"))


class Ended(Record):
    """How a daemon has ended: as ``subprocess`` says it, and its last words.

    Of the tasks that were sent to it, those after the first ``received`` were still on their way,
    and those in ``unbegun`` never began. If the keeper ``returns``, it brings another daemon.
    """

    KIND = 35
    code: int
    received: int
    unbegun: tuple[int, ...]
    stderr: str
    returns: bool = False

    def parts(self) -> Iterator[Bytes]:
        yield _ENDED.pack(self.code, self.received, self.returns, len(self.unbegun))
        yield struct.pack(f"<{len(self.unbegun)}Q", *self.unbegun)
        yield from pack_block(self.stderr.encode(errors="replace"))

    @classmethod
    def read(cls, reader: Reader) -> Self:
        code, received, returns, count = reader.unpack(_ENDED)
        unbegun = _read_tasks(reader, count)
        return cls(code, received, unbegun, str(reader.block(), "utf-8"), returns)


def _read_tasks(reader: Reader, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", reader.take(8 * count))


KINDS = {
    kind.KIND: kind
    for kind in (Joined, Beat, Returned, Ended, Parting, Attend, Stop, Recall, Kill)
}
