"""The frames that a task causes while it runs: what it logs, reports, and is granted."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from mirai_executor._typing import Record, Self

from ._fields import Bytes, Reader, pack_block

_LOG_PIECE = struct.Struct("<QQB")
_REPORT = struct.Struct("<QQBBB")
_CREDIT = struct.Struct("<QI")


class LogPiece(Record):
    """A log record of a task, or a part of one.

    Args:
        number: Rises from piece to piece; one that comes again was sent twice.
        lost: How many records the daemon has had to drop so far.
        more: The next piece belongs to the same record.
        piece: Bytes of the pickled record; none if the frame only says how many were dropped.
    """

    KIND = 22
    number: int
    lost: int
    more: bool
    piece: Bytes

    def parts(self) -> Iterator[Bytes]:
        yield _LOG_PIECE.pack(self.number, self.lost, self.more)
        yield from pack_block(self.piece)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        number, lost, more = reader.unpack(_LOG_PIECE)
        return cls(number, lost, bool(more), bytes(reader.block()))


class Report(Record):
    """What a task reports, or a part of it.

    Args:
        task: The one that runs.
        number: Rises by one from piece to piece; one that comes again was sent twice, and one that
            is missing has been dropped on the way.
        first: It is the first piece of a report.
        more: The next piece belongs to the same report.
        is_progress: It says how far the task has come.
        piece: Bytes of the pickled report.
    """

    KIND = 23
    task: int
    number: int
    first: bool
    more: bool
    is_progress: bool
    piece: Bytes

    def parts(self) -> Iterator[Bytes]:
        yield _REPORT.pack(self.task, self.number, self.first, self.more, self.is_progress)
        yield from pack_block(self.piece)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        task, number, *flags = reader.unpack(_REPORT)
        first, more, is_progress = map(bool, flags)
        return cls(task, number, first, more, is_progress, bytes(reader.block()))


class Credit(Record):
    """A task may yield so many values more, before the host says that they have been taken."""

    KIND = 5
    task: int
    count: int

    def parts(self) -> Iterator[Bytes]:
        yield _CREDIT.pack(self.task, self.count)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        return cls(*reader.unpack(_CREDIT))


KINDS = {kind.KIND: kind for kind in (LogPiece, Report, Credit)}
