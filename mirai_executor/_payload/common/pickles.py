"""Pickle's half in C, without the one in Python, whose import takes milliseconds."""

from mirai_executor._typing import Any

try:
    from _pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads
except ImportError:  # it is CPython's own
    from pickle import PickleBuffer, Pickler, PicklingError, Unpickler, dumps, loads

__all__ = [
    "PickleBuffer",
    "Pickler",
    "PicklingError",
    "Unpickler",
    "decode_plain",
    "dumps",
    "encode_plain",
    "loads",
]


def encode_plain(obj: object) -> bytes:
    """Pickle data of ours, such as a ``Preparation``."""
    return dumps(obj, 5)


def decode_plain(blob: bytes | memoryview) -> Any:
    """Return what ``encode_plain`` pickled."""
    return loads(blob)
