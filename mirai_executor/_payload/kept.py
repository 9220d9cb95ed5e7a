"""Decides which unnamed functions a daemon keeps; its host keeps the same count, and never asks.

::

    host                                      daemon
    Sent.is_new(entry) ── digest, bytes ────► Kept.receive       the first time
                       ── digest ───────────► Kept.receive       as long as it is kept
          │                                        │
          └────────── Latest: one rule ────────────┘             so both forget the same ones

A daemon keeps the bytes, not the function: each call gets a fresh one, so that what a task does
to its cells or attributes is gone with the task.
"""

from collections import OrderedDict

from mirai_executor._payload.entries import NameEntry
from mirai_executor.errors import PayloadError

__all__ = ["FUNCTION", "FUNCTIONS", "NAMED", "Kept", "Latest", "Sent"]

# The reserved names of the table for the function of a call, as the last entry: itself, pickled,
# or where it is found ("module:name").
FUNCTION = "<function>"
NAMED = "<named function>"
FUNCTIONS = (FUNCTION, NAMED)

MOST_FUNCTIONS = 256
MOST_BYTES = 32 << 20


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


class Kept:
    """The bytes of the functions that a daemon keeps, by digest."""

    def __init__(self) -> None:
        self._latest = Latest()
        self._blobs: dict[bytes, bytes] = {}

    def receive(self, digest: bytes, blob: bytes | None) -> None:
        """Note the function of a call; its bytes are None if they came before."""
        if blob is not None:
            self._blobs[digest] = blob
        if digest in self._blobs:
            for forgotten in self._latest.use(digest, len(self._blobs[digest])):
                del self._blobs[forgotten]

    def __contains__(self, digest: object) -> bool:
        return digest in self._blobs

    def __getitem__(self, digest: bytes) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise PayloadError("the bytes of the call's function have not arrived") from None


class Sent:
    """What one daemon has of the entries that its host has sent."""

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}
        self._functions = Latest()

    def is_new(self, entry: NameEntry) -> bool:
        """Tell whether the daemon lacks the bytes of an entry, and note that it gets them."""
        name, digest, blob = entry
        if name in FUNCTIONS:
            is_new = digest not in self._functions
            self._functions.use(digest, len(blob))
        else:
            is_new = self._names.get(name) != digest
            self._names[name] = digest
        return is_new
