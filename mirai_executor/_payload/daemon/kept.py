"""Keeps the unnamed functions of a daemon; its host keeps the same count, and never asks.

::

    host                                      daemon
    Sent.is_new(entry) ── digest, bytes ────► Kept.receive       the first time
                       ── digest ───────────► Kept.receive       as long as it is kept
          │                                        │
          └────────── Latest: one rule ────────────┘             so both forget the same ones

A daemon keeps the bytes, not the function: each call gets a fresh one, so that what a task does
to its cells or attributes is gone with the task.
"""

from mirai_executor._payload.common.entries import Latest
from mirai_executor.errors import PayloadError

__all__ = ["Kept"]


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
