"""Keeps the unnamed functions of a daemon, and finds the named ones.

Its host keeps the same count, and never asks.

::

    host                                      daemon
    Sent.is_new(entry) ── digest, bytes ────► Kept.receive       the first time
                       ── digest ───────────► Kept.receive       as long as it is kept
          │                                        │
          └────────── Latest: one rule ────────────┘             so both forget the same ones

A daemon keeps the bytes, not the function: each call gets a fresh one, so that what a task does
to its cells or attributes is gone with the task.
"""

import functools
import sys

from mirai_executor._payload.common.entries import MOST_FUNCTIONS, Latest
from mirai_executor._typing import Any
from mirai_executor.errors import PayloadError

__all__ = ["Kept", "find_named"]


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


def find_named(where: bytes) -> object:
    """Return what a module has by a name at this moment, as pickle would, at less cost."""
    module, names = _parts(where)
    found: Any = None
    try:
        found = sys.modules[module]
        spec = found.__spec__
        is_there = spec is None or not spec._initializing  # noqa: SLF001 - as the import itself does
    except (KeyError, AttributeError):
        is_there = False
    if not is_there:  # or another thread is about to import it, and has to be waited for
        __import__(module)
        found = sys.modules[module]
    for name in names:
        found = getattr(found, name)
    return found


@functools.lru_cache(MOST_FUNCTIONS)
def _parts(where: bytes) -> tuple[str, list[str]]:
    module, _, name = where.decode().partition(":")
    return module, name.split(".")
