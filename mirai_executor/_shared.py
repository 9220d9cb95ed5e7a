"""What a host shares with each daemon of its machine beside their link: a page, and tickets.

The **page** is memory, for what cannot wait for a frame. The host writes which tasks have to stop,
before it sends the signal: the daemon's handler looks for the task that it runs, so that a late
signal stops no other. The daemon writes when it began what it runs: should it die of that, its
last words are those since then. The cells are aligned 8-byte words with one writer, so no lock is
needed. A host has the pages of several daemons in one sheet, since each mapping costs it a
descriptor. A daemon maps its own page only: the descriptor that it inherits stands at where that
begins.

The **tickets** say who owns a task that a daemon was sent: its host, which may want it back, or
the daemon. These tasks are counted, and each number is a ticket: a byte that both sides can lock
in the file of the page. The daemon locks it *before* it begins the task, and keeps it for as long
as it lives; the host locks those that are left, says so in the page, and lets go. The kernel gives
each lock to one of them, so nothing ever runs twice, and neither side waits for the other: a task
is taken back even while the daemon runs code that holds the GIL. When a daemon has died, its locks
are gone, and the page tells which was the last that it had taken: those behind that never began.

The locks are those of POSIX, which belong to a process, whoever has a descriptor: a child that a
task has forked holds none. They need no descriptor of their own, nor a call for what is sent.

With its fork server, a host shares a socket pair: one question at a time, each with a number as
its answer::

    host                                 fork server
      | -- you are process 4711 ----------> |  (else it does not become one)
      | -- the first one's descriptors ---> |  (it may still be importing)
      | <-------------- first daemon: 4712  |
      | -- fork, with descriptors --------> |
      | <------------------ daemon: 4713    |
      | -- reap 4713 ---------------------> |
      | <------------------- its status     |
      | -- import, with two descriptors --> |  a fork of it imports the main module; no answer
      | -- (end of file) -----------------> |  it ends

The two are a file that says what to import, and a pipe, into which the server writes how that
has ended: ``IMPORTED``, or something else, and why.
"""

import errno
import fcntl
import mmap
import os
import signal
import struct
import sys
from collections.abc import Collection, Sequence

from mirai_executor._typing import Self

# By this signal the host asks a daemon to look at the page: a queued one that nothing else uses,
# or, on systems without those, one that little else uses.
STOP_SIGNAL: int = signal.SIGRTMIN + 7 if sys.platform == "linux" else signal.SIGUSR2

_SIZE = max(4096, mmap.ALLOCATIONGRANULARITY)
_SHEET = 16  # pages
# Cells: how many tasks were ever named, when the daemon began the last thing that it has run, the
# last element of a chunk that it has begun, two for the tickets, and the last tasks that were
# named, in a ring.
_COUNT, _BEGUN, _ELEMENT, _TICKETS, _FIRST = 0, 1, 2, 3, 5
_RING = 256  # more than a daemon ever holds
# Counters of tickets: where the daemon's next one would be, as of the last that it has taken; and
# what the host has taken back last: where that ends, and how many there are, in one number.
_TAKEN, _RECALLED = 0, 1
_BITS = 24
_MASK = (1 << _BITS) - 1
_LOCK = fcntl.LOCK_EX | fcntl.LOCK_NB
_LOCKED = (errno.EAGAIN, errno.EACCES)  # by the other side: POSIX grants both
_MANY = 256  # tasks: so many that are settled may be remembered
_SHIFT = 28
_ALL = 4096 << _SHIFT  # tickets of a page: the next one's begin where they end, or later


class Page:
    """The shared page; task ids are positive, 0 stands for none.

    Args:
        cells: Its memory.

    Attributes:
        begun: Where the daemon writes when it began what it runs, by ``time.perf_counter_ns``,
            which is one clock for all processes of a machine. Written without a call: it is done
            for each task.
        element: Where it writes which element of a chunk it has begun last, likewise: should it
            die of that, the elements behind it have not begun.
        tickets: The counters of its tickets.
    """

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self.begun = cells[_BEGUN:_ELEMENT]
        self.element = cells[_ELEMENT:_TICKETS]
        self.tickets = cells[_TICKETS:_FIRST]
        self._count = 0  # when the daemon last looked
        self._stopped: frozenset[int] = frozenset()

    @classmethod
    def inherited(cls, fd: int) -> Self:
        """Return the page that a host has given, by a descriptor; for a daemon."""
        memory = mmap.mmap(fd, _SIZE, offset=os.lseek(fd, 0, os.SEEK_CUR))
        return cls(memoryview(memory).cast("Q"))

    def stop(self, task: int) -> None:
        """Name a task that has to stop; for the host."""
        count = self._cells[_COUNT]
        self._cells[_FIRST + count % _RING] = task
        self._cells[_COUNT] = count + 1

    def must_stop(self, task: int) -> bool:
        """Tell whether a task has to stop; for the daemon."""
        count = self._cells[_COUNT]
        if count != self._count:
            self._stopped = frozenset(self._cells[_FIRST : _FIRST + min(count, _RING)])
            self._count = count
        return task in self._stopped

    def close(self) -> None:
        """Let go of its memory."""
        self.begun.release()
        self.element.release()
        self.tickets.release()
        self._cells.release()


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
        self._recalled = range(max(start, end - _MASK), end)
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
        if end - (recalled & _MASK) <= number < end:
            return False
        self._counters[_TAKEN] = self._next
        return True


class Pages:
    """The pages of one host's daemons. Not thread-safe."""

    def __init__(self) -> None:
        self._sheets: list[_Sheet] = []

    def create(self) -> tuple[Page, TicketOffice, int]:
        """Return a page that names no task, its tickets, and a descriptor to hand to its daemon.

        The caller closes the descriptor, and gives the page back by :meth:`release`.

        Raises:
            OSError: No descriptor is free, or there is no place for a sheet.
        """
        sheet = next((sheet for sheet in self._sheets if sheet.free), None)
        if sheet is None:
            sheet = _Sheet()
            self._sheets.append(sheet)
        return sheet.take()

    def release(self, page: Page) -> None:
        """Take back the page of a daemon that has ended."""
        for sheet in self._sheets:
            sheet.put_back(page)

    def close(self) -> None:
        """Unmap all of them."""
        for sheet in self._sheets:
            sheet.close()
        self._sheets.clear()


class _Sheet:
    """Pages that a host maps as one."""

    def __init__(self) -> None:
        from mirai_executor._nameless import create  # daemons do without it

        self._fd = create("mirai-pages", bytes(_SHEET * _SIZE))
        try:
            self._map = mmap.mmap(self._fd, _SHEET * _SIZE)
        except BaseException:
            os.close(self._fd)
            raise
        self._memory = memoryview(self._map)
        self.free = list(range(_SHEET))
        self._taken: dict[Page, int] = {}

    def take(self) -> tuple[Page, TicketOffice, int]:
        from mirai_executor._nameless import is_none_free, reopen

        number, *others = self.free
        try:
            fd = reopen(self._fd, os.O_RDWR)
        except OSError as error:
            if is_none_free(error):
                raise
            fd = os.dup(self._fd)
            others = []  # both stand at the same place: there is no other page to be had
        self.free = others
        at = number * _SIZE
        os.lseek(fd, at, os.SEEK_SET)
        memory = self._memory[at : at + _SIZE]
        memory[:] = bytes(_SIZE)  # it may have been another's
        page = Page(memory.cast("Q"))
        self._taken[page] = number
        return page, TicketOffice(page.tickets, self._fd, first_ticket(fd)), fd

    def put_back(self, page: Page) -> None:
        if (number := self._taken.pop(page, None)) is not None:
            page.close()
            self.free.append(number)

    def close(self) -> None:
        for page in self._taken:
            page.close()
        self._memory.release()
        self._map.close()
        os.close(self._fd)


IDENTITY, FORK, REAP, IMPORT = 1, 2, 3, 4
IMPORTED = b"+"

QUESTION = struct.Struct("<Bi")  # what is asked, and of which process
ANSWER = struct.Struct("<i")  # an exit status as subprocess has it, a pid, or minus an errno
UNKNOWN = -(1 << 31)  # in place of a status: it went with the process that knew it


class ServerLostError(ConnectionError):
    """The fork server is gone, or does not answer; what it was handed may still be in use."""
