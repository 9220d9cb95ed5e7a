"""Decides, once and for all, whether a daemon begins a task or its host takes it back.

For each task that it sends, the host puts a ticket into a pipe that both of them read. The daemon
takes it *before* it begins the task; the host takes back all that are left. The kernel hands out
each ticket once, so nothing ever runs twice, and neither side waits for the other: a task is
taken back even while the daemon runs code that holds the GIL. When a daemon has died, the tickets
that are left tell which of its tasks never began.

The tickets are in the order of the frames. A daemon that finds another task's ticket skips its
way to that task: those in between were taken back.
"""

import os
import struct
from collections.abc import Callable, Sequence

_TICKET = struct.Struct("<Q")
_ALL = 4096 * _TICKET.size  # bytes; no more are ever out


class TicketOffice:
    """The host's side: issues tickets, and takes back those that are left.

    Not thread-safe. :meth:`create` makes one with the descriptor for its daemon.
    """

    def __init__(self, read_fd: int, write_fd: int) -> None:
        from mirai_executor import _nowait  # daemons do without it

        self._read_fd = read_fd
        self._write_fd = write_fd  # often the same
        self._write: Callable[[int, bytes], int] = _nowait.write

    @classmethod
    def create(cls) -> tuple["TicketOffice", int]:
        """Return an office, and a descriptor to hand to the daemon (the caller closes it)."""
        from mirai_executor._nameless import create_pipe

        theirs, write_fd, read_fd = create_pipe()
        for fd in (theirs, write_fd, read_fd):
            os.set_blocking(fd, False)
        return cls(read_fd, write_fd), theirs

    def issue(self, tasks: Sequence[int]) -> None:
        """Let the daemon begin these, in this order."""
        self._write(self._write_fd, struct.pack(f"<{len(tasks)}Q", *tasks))

    def take_back(self) -> tuple[int, ...]:
        """Return the tasks that the daemon has not begun; it never will."""
        try:
            data = os.read(self._read_fd, _ALL)
        except BlockingIOError:
            return ()
        return struct.unpack(f"<{len(data) // _TICKET.size}Q", data)

    def close(self) -> None:
        """Close the pipe."""
        for fd in {self._read_fd, self._write_fd}:
            os.close(fd)


class Tickets:
    """The daemon's side.

    Args:
        fd: The descriptor that :meth:`TicketOffice.create` returned.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._in_hand = 0  # of a task that comes later

    def take(self, task: int) -> bool:
        """Take the ticket of a task; False if the host has it back."""
        if not self._in_hand:
            try:
                (self._in_hand,) = _TICKET.unpack(os.read(self._fd, _TICKET.size))
            except BlockingIOError:
                return False
        if self._in_hand != task:
            return False
        self._in_hand = 0
        return True
