"""The frames that a task causes while it runs: what it logs, reports, and is granted."""

from __future__ import annotations

import struct

from ._fields import Bytes, Plain


class LogPiece(Plain):
    """A log record of a task, or a part of one.

    Args:
        number: Rises from piece to piece; one that comes again was sent twice.
        lost: How many records the daemon has had to drop so far.
        more: The next piece belongs to the same record.
        piece: Bytes of the pickled record; none if the frame only says how many were dropped.
    """

    KIND = 22
    ROW = struct.Struct("<QQ?")
    HAS_BLOCK = True
    number: int
    lost: int
    more: bool
    piece: Bytes


class Report(Plain):
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
    ROW = struct.Struct("<QQ???")
    HAS_BLOCK = True
    task: int
    number: int
    first: bool
    more: bool
    is_progress: bool
    piece: Bytes


class Credit(Plain):
    """A task may yield so many values more, before the host says that they have been taken."""

    KIND = 5
    ROW = struct.Struct("<QI")
    task: int
    count: int


KINDS = {kind.KIND: kind for kind in (LogPiece, Report, Credit)}
