"""Tells frames apart by their kind, and turns them into bytes and back."""

import struct
from typing import get_args

from ._fields import U8, Reader, WireError
from ._frames import (
    BATCH,
    Broadcast,
    BroadcastOutcome,
    Hello,
    Init,
    InitFailed,
    Leave,
    Leaving,
    Outcomes,
    Ready,
    Tasks,
)
from ._keepers import Attend, Beat, Ended, Joined, Kill, Recall, Returned, Stop

__all__ = [
    "Frame",
    "count_outcomes",
    "decode",
    "encode",
    "is_for_keeper",
    "is_leave",
    "is_leaving",
    "is_tasks",
]

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

_KINDS: dict[int, type[Frame]] = {kind.KIND: kind for kind in get_args(Frame)}


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    return b"".join((U8.pack(frame.KIND), *frame.parts()))


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
    if not data or data[0] != Outcomes.KIND or len(data) <= BATCH.size:
        return 0
    count, _ = BATCH.unpack_from(data, 1)
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
    reader = Reader(data)
    try:
        frame = kind.read(reader)
    except (struct.error, KeyError, UnicodeDecodeError, ValueError) as error:
        raise WireError(f"a broken {kind.__name__} frame: {error}") from error
    reader.end()
    return frame
