"""Who owns a task that a daemon was sent: its host, which may want it back, or the daemon.

The tasks that a daemon is sent are counted, and each number is a ticket: a byte that both sides
can lock in the file of the page that they share. The daemon locks it *before* it begins the task,
and keeps it for as long as it lives; the host locks those that are left, says so in the page, and
lets go. The kernel gives each lock to one of them, so nothing ever runs twice, and neither side
waits for the other: a task is taken back even while the daemon runs code that holds the GIL. When
a daemon has died, its locks are gone, and the page tells which was the last that it had
taken: those behind that never began.

The locks are those of POSIX, which belong to a process, whoever has a descriptor: a child that a
task has forked holds none. They need no descriptor of their own, nor a call for what is sent.
"""

import errno
import fcntl
import os
from collections.abc import Collection, Sequence

__all__ = ["TicketOffice", "Tickets", "first_ticket"]

# Counters: where the daemon's next ticket would be, as of the last that it has taken; and what the
# host has taken back last: where that ends, and how many there are, in one number.
_TAKEN, _RECALLED = 0, 1
_BITS = 24
_COUNT = (1 << _BITS) - 1
_LOCK = fcntl.LOCK_EX | fcntl.LOCK_NB
_LOCKED = (errno.EAGAIN, errno.EACCES)  # by the other side: POSIX grants both
_MANY = 256  # tasks: so many that are settled may be remembered
_SHIFT = 28
_ALL = 4096 << _SHIFT  # tickets of a page: the next one's begin where they end, or later


def first_ticket(fd: int) -> int:
    """Return where the tickets of a page begin in its file, by a descriptor that stands at it."""
    return os.lseek(fd, 0, os.SEEK_CUR) << _SHIFT


class TicketOffice:
    """The host's side: issues tickets, and takes back those that are left. Not thread-safe.

    Args:
        counters: Those of the page.
        fd: Its file.
        base: The first byte of these tickets.
    """

    def __init__(self, counters: memoryview, fd: int, base: int) -> None:
        self._counters = counters
        self._fd = fd
        self._base = base
        self._first = 0  # the ticket of the first of these
        self._tasks: list[int] = []
        self._recalled = range(0)  # what was taken back last, with all right before it

    def issue(self, tasks: Sequence[int], without: Collection[int] = ()) -> None:
        """Let the daemon begin the tasks of a frame, in this order, but for some of them.

        What it must not begin stays locked only while no other page is made.
        """
        if len(self._tasks) > _MANY:
            self._forget()
        if without:
            tasks = [0 if task in without else task for task in tasks]
            for number, task in enumerate(tasks, self._first + len(self._tasks)):
                if not task:
                    fcntl.lockf(self._fd, _LOCK, 1, self._base + number)
        self._tasks += tasks

    def take_back(self) -> tuple[int, ...]:
        """Return the tasks that the daemon has not begun; it never will."""
        end = self._first + len(self._tasks)
        self._forget()
        while self._tasks and not self._lock(end):
            self._forget(self._first + 1)  # it has just taken that one, and is about to say so
        if not self._tasks:
            return ()
        self._forget()  # for a daemon that has died meanwhile
        tasks, self._tasks = tuple(filter(None, self._tasks)), []
        self._note_recalled(end)
        fcntl.lockf(self._fd, fcntl.LOCK_UN, _ALL, self._base)
        return tasks

    def _note_recalled(self, end: int) -> None:
        # Not all before the end: the daemon may have locked the last of those, and not looked here
        # yet. What was taken back earlier counts while it may still come to that; once it has
        # taken one behind, there is one between.
        start = self._recalled.start if self._recalled.stop == self._first else self._first
        self._recalled = range(max(start, end - _COUNT), end)
        self._counters[_RECALLED] = end << _BITS | len(self._recalled)
        self._first = end

    def _lock(self, end: int) -> bool:
        try:
            fcntl.lockf(self._fd, _LOCK, end - self._first, self._base + self._first)
        except OSError as error:
            if error.errno not in _LOCKED:
                raise
            return False
        return True

    def _forget(self, before: int = 0) -> None:
        """Forget what the daemon has taken."""
        settled = max(before, self._counters[_TAKEN]) - self._first
        if settled > 0:
            del self._tasks[:settled]
            self._first += settled


class Tickets:
    """The daemon's side.

    Args:
        counters: Those of the page.
        fd: The descriptor that came with it.
    """

    def __init__(self, counters: memoryview, fd: int) -> None:
        self._counters = counters
        self._fd = fd
        self._base = first_ticket(fd)
        self._next = 0

    def take(self) -> bool:
        """Take the ticket of the next task that has come; False if the host has it back."""
        number = self._next
        self._next = number + 1
        try:
            fcntl.lockf(self._fd, _LOCK, 1, self._base + number)
        except OSError as error:
            if error.errno not in _LOCKED:
                raise
            return False
        recalled = self._counters[_RECALLED]
        end = recalled >> _BITS
        if end - (recalled & _COUNT) <= number < end:
            return False
        self._counters[_TAKEN] = self._next
        return True
