"""Where daemons leave the host's ends of their channels, and how."""

from __future__ import annotations

import _socket
import contextlib
import os
import sys

from mirai_executor._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._channel import Channel

__all__ = ["Letterbox", "leave_channel"]

_UNREAD = 64  # letters of daemons that have gone, until somebody looks for them


class Letterbox:
    """Where daemons leave the host's ends of their channels until these are needed.

    A descriptor that lies in the queue of a socket takes no place in this process, which has not
    many. One thread; ``close`` is for any.
    """

    def __init__(self) -> None:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        theirs.setblocking(False)  # for all who write to it
        self._ours, self._theirs = ours, theirs
        self._letters: Channel | None = None  # what they come through, once somebody looks
        self._ends: dict[int, int] = {}  # taken out, and not asked for yet
        self._gone: set[int] = set()

    def slot(self) -> int:
        """Return a descriptor for :func:`leave_channel` (the caller closes it).

        Raises:
            OSError: No descriptor is free.
        """
        return os.dup(self._theirs.fileno())

    def take(self, key: int) -> int:
        """Return what was left under a key (the caller closes it).

        Raises:
            OSError: There is nothing, or this process has no descriptor free.
        """
        if key not in self._ends:
            self._look()
        if (end := self._ends.pop(key, None)) is None:
            raise ConnectionError("the peer has left no channel")
        return end

    def drop(self, key: int) -> None:
        """Note that nobody will ask for what was left, or will be left, under a key."""
        if (end := self._ends.pop(key, None)) is not None:
            os.close(end)
            return
        self._gone.add(key)
        if len(self._gone) >= _UNREAD:
            try:
                self._look()
            except OSError:  # no descriptor is free: the next time
                return
            self._gone.clear()  # those that had died before they could leave anything

    def _look(self) -> None:
        from ._channel import Channel, Memory

        if self._letters is None:
            self._letters = Channel(self._ours.detach())
        for letter in self._letters.receive():
            key = letter.arena
            if not isinstance(letter, Memory):
                continue  # nobody writes such letters
            if key in self._gone:
                self._gone.discard(key)
                os.close(letter.fd)
            else:
                self._ends[key] = letter.fd

    def close(self) -> None:
        """Let go of everything; in a forked child, of what is the parent's."""
        with contextlib.suppress(KeyError):  # another thread may come here, too
            while True:
                os.close(self._ends.popitem()[1])
        self._theirs.close()
        self._ours.close()
        if self._letters is not None:
            self._letters.close()


def leave_channel(slot: int, key: int) -> int:
    """Make a channel, leave one end in a letterbox, and return the other.

    Args:
        slot: Of the letterbox; it is closed.
        key: What the end is left under.

    Returns:
        A descriptor; -1 if the letterbox is full, or there is no descriptor free.
    """
    try:
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    except OSError:
        os.close(slot)
        return -1
    box = _socket.socket(fileno=slot)
    # As Channel.send() writes it, which is not imported before there is a large buffer.
    letter = b"\0" + key.to_bytes(8, sys.byteorder) + bytes(8)
    end = theirs.fileno().to_bytes(4, sys.byteorder)
    try:
        box.sendmsg([letter], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, end)])
    except OSError:
        ours.close()
        return -1
    finally:
        theirs.close()
        box.close()
    return ours.detach()
