"""What a pool is made of: arenas, and constants, with those who hold them and who know them."""

import contextlib
import os

from mirai_executor._typing import Protocol

from ._late import create_in
from ._memory import Mapping, write_cold

_LAST = object()


class Peer(Protocol):
    """Has been sent memory, and hears when that is gone."""

    def forget(self, arena: int) -> None: ...


class Memory:
    """What can be lent: a descriptor, and the peers that have one too."""

    writable = True

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.fds: list[int] = []  # its descriptor, once there is one
        self.peers: set[Peer] = set()

    @property
    def fd(self) -> int:
        return self.fds[0]

    def drop(self) -> None:
        """Let go of it, and let the peers know."""
        while self.fds:
            os.close(self.fds.pop())
        for peer in list(self.peers):
            peer.forget(self.number)

    def __del__(self) -> None:
        for fd in getattr(self, "fds", ()):  # whoever was to drop it has been interrupted
            os.close(fd)


class Arena(Memory):
    """Memory that is filled again and again."""

    def __init__(self, number: int, size: int) -> None:
        super().__init__(number, size)
        self.is_open = False  # it has its memory
        self.spoilt = False  # somebody may use it for ever, so it is never filled again
        self._holds: list[object] = [_LAST]
        self._warm = 0  # up to here, pages exist
        self._mapping: Mapping | None = None

    def open(self) -> None:
        create_in(self.fds, self.size)
        self.is_open = True

    # Holds. Whoever takes _LAST off the list was the last; that is so for one thread only.

    def renew(self) -> None:
        """Have it be held by whoever takes it next."""
        self._holds = [_LAST]

    def hold(self) -> None:
        self._holds.append(None)

    def let_go(self) -> bool:
        """Give back one hold; True if it was the last."""
        return bool(self._holds) and self._holds.pop() is _LAST

    # Contents

    def write(self, offset: int, data: memoryview) -> None:
        """Copy data there.

        Raises:
            OSError: The system has no memory left.
        """
        warm = max(0, min(len(data), self._warm - offset))
        if warm:
            self._mapped().write(offset, data[:warm])
        write_cold(self.fd, offset + warm, data[warm:])
        self._warm = max(self._warm, offset + len(data))

    def view(self, size: int) -> memoryview:
        """Return the first ``size`` bytes, all of which were written."""
        return self._mapped().view[:size]

    def _mapped(self) -> Mapping:
        if self._mapping is None:  # not before it is of use: a mapping costs a descriptor
            self._mapping = Mapping(self.fd, self.size)
        return self._mapping

    def drop(self) -> None:
        if self.peers and self._warm and not self.spoilt:
            with contextlib.suppress(OSError):  # no descriptor left: the pages go later
                self._mapped().punch()  # peers may take their time to let go
        self._mapping = None
        super().drop()


class Constant(Memory):
    """Memory that never changes; ``used`` bytes of it count."""

    writable = False

    def __init__(self, number: int, size: int, used: int) -> None:
        super().__init__(number, size)
        self.used = used
