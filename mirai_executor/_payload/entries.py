"""What both ends know of a call's table: what an entry is, and the digest of its bytes."""

from mirai_executor._typing import NamedTuple

try:
    from _blake2 import blake2b  # hashlib brings OpenSSL along, which takes milliseconds
except ImportError:
    from hashlib import blake2b

__all__ = [
    "MULTIPROCESSING",
    "PROTOCOL",
    "SHARED",
    "SYS_PATH",
    "UNAVAILABLE",
    "WITH_CARE",
    "NameEntry",
    "digest_of",
    "new_seal",
]

PROTOCOL = 5
MULTIPROCESSING = "multiprocessing.reduction"  # where programs register how types are pickled
# Where its locks, queues and values are, which refuse to be pickled unless a process is starting.
SHARED = frozenset(
    {"multiprocessing.queues", "multiprocessing.sharedctypes", "multiprocessing.synchronize"}
)
SYS_PATH = "sys.path"  # the reserved name of the table
# The first byte of an entry that says why a name did not come; a pickle begins with 0x80.
UNAVAILABLE = b"!"
_DIGEST_SIZE = 16


# Where all the types are defined whose instances pickler.py takes apart by themselves.
WITH_CARE = frozenset(
    [
        "_io",
        "_weakrefset",
        "abc",
        "builtins",
        "dataclasses",
        "functools",
        "logging",
        "typing",
        "weakref",
    ]
)


class NameEntry(NamedTuple):
    """One name of the host's ``__main__``.

    ``name`` is ``module:name`` for one of another module that only the host holds, and
    ``sys.path`` for the import path.
    """

    name: str
    digest: bytes
    blob: bytes


def new_seal(blob: bytes) -> blake2b:
    """Return the beginning of a digest."""
    return blake2b(blob, digest_size=_DIGEST_SIZE)


def digest_of(blob: bytes) -> bytes:
    """Return the digest of bytes that refer to nothing else."""
    return new_seal(blob).digest()
