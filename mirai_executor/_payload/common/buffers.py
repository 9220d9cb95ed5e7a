"""Pickle's half in C, and what travels beside a payload's bytes instead of in them: what is large.

Pickle's half in Python takes milliseconds to import, so everything here is done without it. Its
protocol 5 hands over each buffer that an object offers (an array's memory, a ``PickleBuffer``). A
small one is cheaper to copy into the stream than to look after. Where memory is shared, a pickle
that is large itself (many ``bytes``, a long list) goes beside, too: as the last of its buffers, in
the pieces that the pickler wrote.
"""

import io
from collections.abc import Callable, Sequence

from mirai_executor._typing import Any, NamedTuple

__all__ = [
    "ATOMS",
    "BRIEF",
    "LARGE",
    "OUT_OF_BAND",
    "Buffer",
    "Large",
    "OutOfBand",
    "PickleBuffer",
    "Pickler",
    "PicklingError",
    "Pieces",
    "Unpickler",
    "Value",
    "decode_plain",
    "dump_value",
    "dumps",
    "encode_plain",
    "is_short",
    "loads",
    "taken_apart",
]

try:
    from _pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads
except ImportError:  # it is CPython's own
    from pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads


def encode_plain(obj: object) -> bytes:
    """Pickle data of ours, such as a ``Preparation``."""
    return dumps(obj, 5)


def decode_plain(blob: bytes | memoryview) -> Any:
    """Return what ``encode_plain`` pickled."""
    return loads(blob)


Buffer = bytes | bytearray | memoryview  # what decoding takes
Large = memoryview | list[bytes]  # what encoding gives; a list: one after the other

OUT_OF_BAND = 192 * 1024  # bytes; where the copy becomes dearer than a place of its own, measured
LARGE = 1 << 20  # bytes; from here on, a pickle is better beside than in a frame, measured

# Exactly these: a subclass may be picklable only by value.
ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None)})
# What is pickled at once, with nothing to look for inside: all atoms but those that may be long.
BRIEF = ATOMS - {bytes, str}


def is_short(value: object) -> bool:
    """Tell whether something is a text or ``bytes`` that is pickled at once."""
    kind = type(value)
    return (kind is str or kind is bytes) and len(value) < LARGE // 4  # type: ignore[arg-type]


class Value(NamedTuple):
    """A pickled object, and its large buffers: views of the memory that it lies in itself.

    If there are buffers and ``blob`` is empty, the pickle is the last of the buffers.
    """

    blob: bytes
    buffers: tuple[Large, ...] = ()

    @property
    def nbytes(self) -> int:
        """How many bytes they are together."""
        sizes = (sum(map(len, it)) if isinstance(it, list) else it.nbytes for it in self.buffers)
        return len(self.blob) + sum(sizes)


def made_value(blob: bytes, buffers: tuple[Large, ...] = ()) -> Value:
    """Make a Value at half of what its constructor takes."""
    return tuple.__new__(Value, (blob, buffers))


def dump_value(
    make: "Callable[[Any, OutOfBand | None], Pickler]",
    obj: object,
    *,
    out_of_band: bool = False,
    apart: bool = False,
) -> Value:
    """Pickle an object.

    Args:
        make: Makes a pickler from its file and its ``buffer_callback``; perhaps twice.
        obj: The object.
        out_of_band: Whether large buffers may travel beside the bytes.
        apart: Whether a large pickle may be one of them; only with ``out_of_band``.
    """
    if apart:
        beside, pieces = OutOfBand(), Pieces()
        make(pieces, beside).dump(obj)
        if (value := pieces.settle(tuple(beside))) is not None:
            return value
    collected = OutOfBand() if out_of_band else None
    file = io.BytesIO()  # left open: whoever made the pickler may go on with it
    make(file, collected).dump(obj)
    return made_value(file.getvalue(), tuple(collected or ()))


def taken_apart(blob: Buffer, buffers: Sequence[Buffer]) -> tuple[Buffer, Sequence[Buffer]]:
    """Return a pickle and its buffers, wherever it has travelled."""
    return (blob, buffers) if blob or not buffers else (buffers[-1], buffers[:-1])


class Pieces(list[bytes]):
    """What a pickler has written, as a file that keeps each piece as it is.

    The pickler hands over a large ``bytes`` itself, and the rest in pieces of about 64 KiB. Its
    ``write`` is C: while one in Python ran, other threads could change what is being pickled.
    """

    write = list.append

    def settle(self, views: tuple[memoryview, ...]) -> Value | None:
        """Return all of it, with copies of what others can change; None if that cannot be done.

        The pickler hands over a ``bytearray`` itself, too. It has noted its length, at the end of
        the piece before; if it has another one by now, all has to be pickled again.
        """
        if len(self) == 1 and len(self[0]) < LARGE:  # nearly always
            return made_value(self[0], views)
        kinds = set(map(type, self))
        try:
            if bytearray in kinds and not self._copy_bytearrays():
                return None
            if sum(map(_size_of if PickleBuffer in kinds else len, self)) < LARGE:
                return Value(b"".join(self), views)
            if kinds != {bytes}:
                self[:] = [b"".join((piece,)) for piece in self]  # as they lie; bytes stay
        except (BufferError, TypeError, ValueError):  # another file says better what is wrong
            return None
        return Value(b"", (*views, self))

    def _copy_bytearrays(self) -> bool:
        pieces: list[Any] = self
        for i, piece in enumerate(pieces):
            if type(piece) is bytearray:
                pieces[i] = copy = bytes(piece)  # at once: other threads may change it
                if pieces[i - 1][-8:] != len(copy).to_bytes(8, "little"):
                    return False
        return True


def _size_of(piece: Buffer) -> int:
    return len(piece) if type(piece) is bytes else memoryview(piece).nbytes


class OutOfBand(list[memoryview]):
    """Collects the large buffers of one payload, in their order; pickle's ``buffer_callback``.

    They are views of the bytes of each, as they lie in memory.
    """

    def __call__(self, buffer: PickleBuffer) -> bool:
        """Take a buffer out of the stream; True if it stays there."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle says so
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        self.append(raw)
        return False
