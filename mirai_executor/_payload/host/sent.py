"""Knows which entries a daemon has, without asking it: the daemon's ``kept.py`` shows how."""

from mirai_executor._payload.common.entries import FUNCTIONS, Applied, Latest, NameEntry

__all__ = ["Sent"]


class Sent:
    """What one daemon has of the entries that its host has sent."""

    def __init__(self) -> None:
        self._names = Applied()
        self._functions = Latest()

    def is_new(self, entry: NameEntry) -> bool:
        """Tell whether the daemon lacks the bytes of an entry, and note that it gets them."""
        name, digest, blob = entry
        if name in FUNCTIONS:
            is_new = digest not in self._functions
            self._functions.use(digest, len(blob))
        else:
            is_new = not self._names.has(name, digest)
            if is_new:
                self._names.note(name, digest)
        return is_new
