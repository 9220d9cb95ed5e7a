"""Turns the results that daemons have pickled into objects again."""

from collections.abc import Sequence

from mirai_executor._payload.common import pickles as pickle
from mirai_executor._payload.common.buffers import Buffer, taken_apart
from mirai_executor._payload.common.entries import PROTOCOL
from mirai_executor._typing import Any
from mirai_executor.errors import PayloadError

__all__ = ["NO_NUMBER", "decode_number", "decode_value"]

# The pickles of None, booleans and most numbers: how long they are, how they begin, where their
# one opcode stands, and which it is. What is longer than three bytes stands in a frame.
_HEAD = b"\x80" + bytes((PROTOCOL,))
_NUMBERS = {
    4: (_HEAD, 2, b"N\x88\x89"),
    5: (_HEAD, 2, b"K"),
    15: (_HEAD + b"\x95", 11, b"M"),
    17: (_HEAD + b"\x95", 11, b"J"),
    21: (_HEAD + b"\x95", 11, b"G"),
}
NO_NUMBER = object()


def decode_value(blob: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """Return the result that a daemon pickled. For the host; any thread.

    Args:
        blob: Its bytes; empty if they are the last of the buffers.
        buffers: The bytes of its large buffers, which the value keeps and does not copy; writable
            if the value is to be.

    Raises:
        PayloadError: It cannot be unpickled here.
        BaseException: KeyboardInterrupt or SystemExit, while the user's code ran.
    """
    try:
        if not buffers:
            return pickle.loads(blob)
        pickled, beside = taken_apart(blob, buffers)
        return pickle.loads(pickled, buffers=beside)
    except Exception as error:
        from mirai_executor._payload.common.wording import describe  # hardly ever

        raise PayloadError(f"cannot unpickle the result: {describe(error)}") from error


def decode_number(blob: bytes | memoryview) -> object:
    """Return a result that takes no time to decode: a number, a boolean or None.

    Returns:
        ``NO_NUMBER`` if it is none of these, an integer of more than 32 bits, or no pickle at all.
    """
    found = _NUMBERS.get(len(blob))
    if found is None:
        return NO_NUMBER
    head, place, opcodes = found
    if blob[place] not in opcodes or blob[: len(head)] != head:
        return NO_NUMBER
    try:
        return pickle.loads(blob)
    except Exception:  # it only looks like one
        return NO_NUMBER
