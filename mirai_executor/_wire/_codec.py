"""Tells frames apart by their kind, and turns them into bytes and back."""

import struct

from mirai_executor._typing import get_args

from ._fields import U8, Bytes, Data, Reader, WireError
from ._frames import Frame, Leave, Leaving, OfDaemons, Outcomes, Tasks

_OF_KEEPERS = 32  # the first of their kinds
_LOG_PIECE, _REPORT = 22, 23  # LogPiece.KIND and Report.KIND, which are imported late
_LARGE = 1 << 16  # bytes; to copy fewer takes less than to send them by themselves

_KINDS: dict[int, type[Frame]] = {kind.KIND: kind for kind in get_args(OfDaemons)}


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    return b"".join((U8.pack(frame.KIND), *frame.parts()))


def pieces(frame: Frame) -> list[Bytes]:
    """Return the bytes of a frame in pieces: what is large is not copied."""
    if isinstance(frame, (Tasks, Outcomes)) and (lone := frame.lone()) is not None:
        return [b"".join(lone)] if len(lone[1]) < _LARGE else list(lone)
    parts = [U8.pack(frame.KIND), *frame.parts()]
    if max(map(len, parts)) < _LARGE:
        return [b"".join(parts)]
    found: list[Bytes] = []
    small: list[Bytes] = []
    for part in parts:
        if len(part) < _LARGE:
            small.append(part)
            continue
        if small:
            found.append(b"".join(small))
            small = []
        found.append(part)
    if small:
        found.append(b"".join(small))
    return found


def is_for_keeper(data: Data) -> bool:
    """Tell whether a frame is between host and keeper, and none of a daemon's business."""
    return bool(data) and data[0] >= _OF_KEEPERS


def is_tasks(data: Data) -> bool:
    """Tell whether a frame brings tasks."""
    return bool(data) and data[0] == Tasks.KIND


def is_leave(data: Data) -> bool:
    """Tell whether a frame lets a daemon go."""
    return bool(data) and data[0] == Leave.KIND


def is_leaving(data: Data) -> bool:
    """Tell whether a frame says that a daemon has to leave."""
    return bool(data) and data[0] == Leaving.KIND


def is_log(data: Data) -> bool:
    """Tell whether a frame has a log record of a task, or a part of one."""
    return bool(data) and data[0] == _LOG_PIECE


def is_report(data: Data) -> bool:
    """Tell whether a frame may be dropped: it says how far a task has come, or the like."""
    return bool(data) and data[0] == _REPORT


def ended_tasks(data: Data) -> list[int]:
    """Return the tasks that have ended, by a frame from a daemon."""
    if not data or data[0] != Outcomes.KIND:
        return []
    return Outcomes.read_tasks(Reader(data))


def decode(data: Data) -> Frame:
    """Return the frame that the bytes hold; its payloads are views into ``data``.

    Raises:
        WireError: The bytes are no frame of this protocol.
    """
    if not data:
        raise WireError("an empty frame")
    kind = _KINDS.get(data[0]) or _other_kind(data[0])
    if (kind is Tasks or kind is Outcomes) and (lone := kind.read_lone(data)) is not None:
        return lone
    reader = Reader(data)
    try:
        frame = kind.read(reader)
    except (struct.error, KeyError, UnicodeDecodeError, ValueError) as error:
        raise WireError(f"a malformed {kind.__name__} frame: {error}") from error
    reader.end()
    return frame


def _other_kind(number: int) -> type[Frame]:
    """Return the kind of a frame that most daemons neither send nor get."""
    kind: type[Frame] | None
    if number >= _OF_KEEPERS:
        from . import _keepers

        kind = _keepers.KINDS.get(number)
    else:
        from . import _beside

        kind = _beside.KINDS.get(number)
    if kind is None:
        raise WireError(f"unknown kind of frame: {number}")
    return kind
