"""Decides which buffers travel beside a payload's bytes instead of in them: the large ones.

Pickle's protocol 5 hands over each buffer that an object offers (an array's memory, a
``PickleBuffer``). A small one is cheaper to copy into the stream than to look after.
"""

from pickle import PickleBuffer
from typing import NamedTuple

__all__ = ["OUT_OF_BAND", "Beside", "Buffer", "Value"]

Buffer = bytes | bytearray | memoryview  # what decoding takes

OUT_OF_BAND = 192 * 1024  # bytes; where the copy becomes dearer than a place of its own, measured


class Value(NamedTuple):
    """A pickled object, and its large buffers: views of the memory that it lies in itself."""

    blob: bytes
    buffers: tuple[memoryview, ...] = ()


class Beside:
    """Collects the large buffers of one payload, in their order; pickle's ``buffer_callback``."""

    def __init__(self) -> None:
        self._views: list[memoryview] = []

    def __call__(self, buffer: PickleBuffer) -> bool:
        """Take a buffer out of the stream; True if it stays there."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle says so
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        self._views.append(raw)
        return False

    @property
    def views(self) -> tuple[memoryview, ...]:
        """The bytes of each, as they lie in memory."""
        return tuple(self._views)
