"""What both ends know of calls and their tables, and of which functions a daemon keeps."""

from collections import OrderedDict

from mirai_executor._payload.common.buffers import Large
from mirai_executor._typing import NamedTuple

try:
    from _blake2 import blake2b  # hashlib brings OpenSSL along, which takes milliseconds
except ImportError:
    from hashlib import blake2b

__all__ = [
    "DIGEST_SIZE",
    "FUNCTION",
    "FUNCTIONS",
    "MAIN_FILE",
    "MOST_BYTES",
    "MOST_FUNCTIONS",
    "MULTIPROCESSING",
    "NAMED",
    "PROTOCOL",
    "SYS_PATH",
    "UNAVAILABLE",
    "WITH_CARE",
    "Call",
    "Latest",
    "NameEntry",
    "Own",
    "digest_of",
    "new_seal",
]

PROTOCOL = 5
MULTIPROCESSING = "multiprocessing.reduction"  # where programs register how types are pickled
SYS_PATH = "sys.path"  # a reserved name of the table
MAIN_FILE = "<main file>"  # likewise: the file that daemons import as their ``__main__``
# The first byte of an entry that says why a name did not come; a pickle begins with 0x80.
UNAVAILABLE = b"!"
# That of an entry that begins with a fingerprint: the daemon's own stays if it has the same.
_OWN = b"="
# Those for the function of a call, as the last entry: itself, pickled, or where it is found
# ("module:name").
FUNCTION = "<function>"
NAMED = "<named function>"
FUNCTIONS = (FUNCTION, NAMED)
MOST_FUNCTIONS = 256  # that a daemon keeps
MOST_BYTES = 32 << 20  # of all of these
DIGEST_SIZE = 16  # bytes


# Where all the types are defined whose instances reducers.py takes apart by themselves.
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


class Call(NamedTuple):
    """A pickled call.

    ``names`` is the flat table of what it may look up in ``__main__``, perhaps empty; the last one
    may be the function itself, if it has no name. ``buffers`` are views of the user's own memory,
    in the order in which the blob refers to them: they are good until ``submit`` returns. If the
    blob is empty, it is the last of the buffers.
    """

    blob: bytes
    names: tuple[NameEntry, ...]
    buffers: tuple[Large, ...] = ()


def new_seal(blob: bytes) -> blake2b:
    """Return the beginning of a digest."""
    return blake2b(blob, digest_size=DIGEST_SIZE)


def digest_of(blob: bytes) -> bytes:
    """Return the digest of bytes that refer to nothing else."""
    return new_seal(blob).digest()


class Own(NamedTuple):
    """What an entry says of the value that a daemon has by importing the host's main module.

    ``fingerprint`` is that of the host's value; ``identity``, of a class, the id by which the
    host speaks of it.
    """

    fingerprint: bytes
    identity: str = ""

    def mark(self, blob: bytes) -> bytes:
        """Return the bytes of an entry, with this before them."""
        identity = self.identity.encode()
        return b"".join([_OWN, self.fingerprint, bytes([len(identity)]), identity, blob])

    @staticmethod
    def split(blob: bytes) -> "tuple[Own | None, bytes]":
        """Return what an entry begins with, if that is in it, and the rest."""
        if not blob.startswith(_OWN):
            return None, blob
        start = len(_OWN) + DIGEST_SIZE
        end = start + 1 + blob[start]
        return Own(blob[len(_OWN) : start], blob[start + 1 : end].decode()), blob[end:]


class Latest:
    """The rule: the functions that came last, up to a number and a size; at least one."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[bytes, int] = OrderedDict()
        self._total = 0

    def __contains__(self, digest: object) -> bool:
        return digest in self._sizes

    def use(self, digest: bytes, size: int) -> list[bytes]:
        """Note that a call has this function; return the digests that are forgotten for it."""
        if digest not in self._sizes:
            self._sizes[digest] = size
            self._total += size
        self._sizes.move_to_end(digest)
        forgotten = []
        while len(self._sizes) > 1 and self._is_too_much():
            oldest, size = self._sizes.popitem(last=False)
            self._total -= size
            forgotten.append(oldest)
        return forgotten

    def _is_too_much(self) -> bool:
        return len(self._sizes) > MOST_FUNCTIONS or self._total > MOST_BYTES
