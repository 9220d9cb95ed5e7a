"""Makes the chunks of slow lines shorter, in a way that both sides know.

Each chunk is compressed by itself, so that one may be dropped, and short ones come in between. In
front of what is compressed stand how, and how many bytes it was: no more are ever made of it.
"""

import struct
from types import ModuleType

from mirai_executor._typing import Any

from ._stream import Bytes, LinkClosedError

_HEAD = struct.Struct("<BI")  # the method; how many bytes it was
_ZLIB, _ZSTD = 1, 2
_LEVEL = 1  # of zlib: five times as fast as its own choice, for a tenth more bytes


def known() -> bytes:
    """Return the methods that this process knows, the best first."""
    return bytes(code for code in (_ZSTD, _ZLIB) if _module(code) is not None)


def _module(code: int) -> ModuleType | None:
    try:
        if code == _ZLIB:
            import zlib

            return zlib
        if code == _ZSTD:
            return _zstd()
    except ImportError:
        pass
    return None


def _zstd() -> ModuleType:
    from importlib import import_module

    try:
        return import_module("compression.zstd")  # Python 3.14
    except ImportError:
        return import_module("backports.zstd")  # the same for others, where somebody installed it


class Packer:
    """Compresses chunks.

    Args:
        theirs: The methods that the other side knows.

    Raises:
        ValueError: This process knows none of them.
    """

    def __init__(self, theirs: bytes) -> None:
        self._code = next((code for code in known() if code in theirs), 0)
        if not self._code:
            raise ValueError("the two sides have no method in common")
        self._module: Any = _module(self._code)

    def pack(self, data: bytes) -> bytes:
        """Return some bytes in the form in which they travel."""
        packed: bytes = self._module.compress(data, _LEVEL)
        return _HEAD.pack(self._code, len(data)) + packed


def unpack(chunk: Bytes, offered: bytes, largest: int) -> memoryview:
    """Return what a chunk was before.

    Args:
        chunk: As it has come.
        offered: The methods that the other side was told of.
        largest: The most bytes that it may have been.

    Raises:
        LinkClosedError: It is no such chunk.
    """
    try:
        code, size = _HEAD.unpack_from(chunk)
    except struct.error:
        raise LinkClosedError("the other side sent a compressed chunk without a head") from None
    module: Any = _module(code) if code in offered else None
    if module is None or size > largest:
        raise LinkClosedError(f"the other side sent a chunk of {size} bytes by method {code}")
    is_zlib = code == _ZLIB
    opener = module.decompressobj() if is_zlib else module.ZstdDecompressor()
    refusals = (module.error if is_zlib else module.ZstdError, EOFError)
    try:
        # One more than it says: what makes more of itself is not read on.
        data = bytearray(opener.decompress(bytes(chunk[_HEAD.size :]), size + 1))
    except refusals as error:
        raise LinkClosedError(f"the other side sent a damaged chunk: {error}") from error
    if len(data) != size or not opener.eof or opener.unused_data:
        raise LinkClosedError("the other side sent a compressed chunk of another length")
    return memoryview(data)
