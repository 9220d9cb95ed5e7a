"""Recognises large values that a daemon was sent before, byte for byte.

What may change is pickled at each submission of a function that looks at it. To compare the bytes
with those of last time takes a tenth of the time of their digest; and calls that wait share the
same bytes then.
"""

from mirai_executor._payload.common.entries import new_seal
from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _blake2 import blake2b
    from collections.abc import Hashable

_LARGE = 1 << 16  # bytes; what is smaller takes no time
_MOST = 1 << 28  # bytes that are kept, of all names


class Seals:
    """The last pickles of large values, with the beginnings of their digests. For any thread."""

    def __init__(self) -> None:
        self._last: dict[Hashable, tuple[bytes, blake2b]] = {}

    def of(self, key: "Hashable", blob: bytes) -> "tuple[bytes, blake2b]":
        """Return the bytes of a value, those of last time if they are equal; and their seal.

        Args:
            key: The name of the value.
            blob: Its pickle.
        """
        if len(blob) < _LARGE:
            return blob, new_seal(blob)
        found = self._last.get(key)
        if found is None or found[0] != blob:
            found = blob, new_seal(blob)
            self._keep(key, found)
        return found[0], found[1].copy()

    def _keep(self, key: "Hashable", found: "tuple[bytes, blake2b]") -> None:
        self._last.pop(key, None)
        if sum(len(blob) for blob, _ in self._last.copy().values()) + len(found[0]) > _MOST:
            self._last.clear()
        if len(found[0]) <= _MOST:
            self._last[key] = found
