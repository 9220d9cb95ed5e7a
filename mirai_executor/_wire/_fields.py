"""Reads and writes the fields that frames are made of."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from mirai_executor._typing import Any, NamedTuple, Record, Self

Bytes = bytes | memoryview
Data = bytes | bytearray | memoryview
# A large buffer of a payload: bytes, or its place in shared memory (arena, offset, length).
Buffer = Bytes | bytearray | tuple[int, int, int]

U8 = struct.Struct("<B")
U64 = struct.Struct("<Q")
_PLACE = struct.Struct("<QQQ")
_DIGEST_SIZE = 16
_SMALL = 4096  # bytes


class WireError(ValueError):
    """The bytes are not a frame of this protocol."""


class Name(NamedTuple):
    """One name of the host's ``__main__``; without ``blob`` where the daemon has it already."""

    name: str
    digest: bytes
    blob: Bytes | None = None


def own(data: Data, start: int) -> Bytes:
    """Return the end of a frame; a short one is copied, or it would keep a frame of many."""
    if len(data) - start >= _SMALL:
        return memoryview(data)[start:]
    return bytes(data[start:])


class Reader:
    """Walks through a frame, behind its kind; a field that is not all there is an error."""

    def __init__(self, frame: Data) -> None:
        self._body = memoryview(frame)
        # What is sliced out of bytes is a copy at once.
        self._copied = frame if type(frame) is bytes else self._body
        self._at = 1
        self._end = len(self._body)

    def unpack(self, fields: struct.Struct) -> tuple[Any, ...]:
        """Return the values of some fields."""
        at = self._at
        try:
            values = fields.unpack_from(self._body, at)
        except struct.error as error:
            raise WireError(f"a frame ends early: {error}") from error
        self._at = at + fields.size
        return values

    def take(self, size: int) -> memoryview:
        """Return so many bytes."""
        start = self._at
        self._at = end = start + size
        if end > self._end:
            raise WireError(f"a frame ends {end - self._end} bytes early")
        return self._body[start:end]

    def rows(self, fields: struct.Struct, count: int) -> Iterator[tuple[Any, ...]]:
        """Return the values of so many rows of fields."""
        start = self._at
        self._at = end = start + count * fields.size
        if end > self._end:
            raise WireError(f"a frame ends {end - self._end} bytes early")
        return fields.iter_unpack(self._body[start:end])

    def own(self, size: int) -> Bytes:
        """Return so many bytes; a few are copied, or one result would keep a frame of many."""
        if size >= _SMALL:
            return self.take(size)
        start = self._at  # as take would, at less cost: this is on the path of every result
        self._at = end = start + size
        if end > self._end:
            raise WireError(f"a frame ends {end - self._end} bytes early")
        return bytes(self._copied[start:end])

    def block(self) -> memoryview:
        """Return bytes that stand behind their length."""
        return self.take(int(self.unpack(U64)[0]))

    def end(self) -> None:
        """Raise WireError if something is left."""
        if self._at != self._end:
            raise WireError(f"a frame has {self._end - self._at} bytes too many")


def pack_block(data: Bytes) -> Iterator[Bytes]:
    """Yield bytes behind their length."""
    yield U64.pack(len(data))
    yield data


def pack_names(names: Sequence[Name]) -> Iterator[Bytes]:
    """Yield the names of a call."""
    for name in names:
        yield from pack_block(name.name.encode())
        yield name.digest
        yield U8.pack(name.blob is not None)
        if name.blob is not None:
            yield from pack_block(name.blob)


def read_names(reader: Reader, count: int) -> Iterator[Name]:
    """Yield what :func:`pack_names` has packed."""
    for _ in range(count):
        name = str(reader.block(), "utf-8")
        digest = bytes(reader.take(_DIGEST_SIZE * (name.count(",") + 1)))
        (has_blob,) = reader.unpack(U8)
        yield Name(name, digest, reader.block() if has_blob else None)


def pack_buffers(buffers: Sequence[Buffer]) -> Iterator[Bytes]:
    """Yield large buffers, or where they lie."""
    for buffer in buffers:
        if isinstance(buffer, tuple):
            yield _PLACE.pack(*buffer)
        else:
            yield _PLACE.pack(0, 0, len(buffer))  # no arena has this number
            yield memoryview(buffer)


def read_buffers(reader: Reader, count: int) -> Iterator[Buffer]:
    """Yield what :func:`pack_buffers` has packed."""
    for _ in range(count):
        arena, offset, length = reader.unpack(_PLACE)
        yield (arena, offset, length) if arena else reader.take(length)


class Plain(Record):
    """A frame of numbers; by itself, one whose kind says everything.

    ``ROW`` says how its fields are packed. What has a block of bytes behind them, names it last.
    """

    ROW = struct.Struct("<")
    HAS_BLOCK = False

    def parts(self) -> Iterator[Bytes]:
        values = [getattr(self, field) for field in type(self)._fields]
        block = values.pop() if self.HAS_BLOCK else None
        yield self.ROW.pack(*values)
        if block is not None:
            yield from pack_block(block)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        make: Callable[..., Self] = cls
        values = reader.unpack(cls.ROW)
        return make(*values, bytes(reader.block())) if cls.HAS_BLOCK else make(*values)
