"""Turns results into bytes at a daemon, and back at the host.

What came from the host goes back as itself: an instance of a class of the host's ``__main__`` by
that class's name, one of a class without a name by the id under which the class travelled.
"""

from collections.abc import Sequence

from mirai_executor._payload import pickles as pickle
from mirai_executor._payload.buffers import (
    BRIEF,
    LARGE,
    Buffer,
    Value,
    is_short,
    taken_apart,
)
from mirai_executor._payload.culprits import describe
from mirai_executor._payload.entries import PROTOCOL
from mirai_executor._payload.plain import dump_plainly
from mirai_executor._typing import Any
from mirai_executor.errors import PayloadError

__all__ = ["NO_NUMBER", "decode_number", "decode_value", "encode_value"]

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
_NONE = Value(pickle.dumps(None, PROTOCOL))


def encode_value(value: object, *, out_of_band: bool = False, apart: bool = False) -> Value:
    """Turn a result into bytes, and views of its large buffers in the user's own memory.

    Args:
        value: The result.
        out_of_band: Whether large buffers may travel beside the bytes.
        apart: Whether a large pickle may be one of them; only with ``out_of_band``.

    Raises:
        PayloadError: It cannot be pickled; the message names the part.
        BaseException: What the user's own code raised while it was being pickled.
    """
    if value is None:
        return _NONE
    if type(value) in BRIEF or is_short(value):
        blob = pickle.dumps(value, PROTOCOL)
        if len(blob) < LARGE:
            # At half the cost of Value(...), for most results.
            return tuple.__new__(Value, (blob, ()))
    dumped = dump_plainly(value, out_of_band=out_of_band, apart=apart)
    if dumped is not None:
        return dumped
    from mirai_executor._payload.careful import dump_carefully  # with cloudpickle, and much else

    return dump_carefully(value, out_of_band=out_of_band, apart=apart)


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
