"""What a host shares with each daemon of its machine beside their link: a page, and tickets.

The **page** is memory, for what cannot wait for a frame. The host writes which tasks have to stop,
before it sends the signal: the daemon's handler looks for the task that it runs, so that a late
signal stops no other. The daemon writes when it began what it runs: should it die of that, its
last words are those since then. The cells are aligned 8-byte words with one writer, so no lock is
needed. A host has the pages of several daemons in one sheet, since each mapping costs it a
descriptor. A daemon maps its own page only: the descriptor that it inherits stands at where that
begins.

The **tickets** of its tasks (``_tickets``) have their counters in the page, and lie in its file.

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
      | -- (end of file) -----------------> |  it ends
"""

import _socket  # the module around it takes milliseconds to import
import array
import mmap
import os
import signal
import struct
import sys
from collections.abc import Sequence

from mirai_executor._tickets import TicketOffice, first_ticket
from mirai_executor._typing import NamedTuple, Self

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


IDENTITY, FORK, REAP = 1, 2, 3

_QUESTION = struct.Struct("<Bi")  # what is asked, and of which process
_ANSWER = struct.Struct("<i")  # an exit status as subprocess has it, a pid, or minus an errno
_PATIENCE = 2.0  # seconds for an answer that takes milliseconds
_MOST_FDS = 16


class ServerLostError(ConnectionError):
    """The fork server is gone, or does not answer; what it was handed may still be in use."""


class Asking:
    """The host's end. Not thread-safe: one thread asks."""

    def __init__(self, end: _socket.socket, patience: float) -> None:
        self._socket = end
        self._socket.settimeout(patience)

    @classmethod
    def create(cls, patience: float = _PATIENCE) -> tuple[Self, int]:
        """Return an end, and the descriptor of the other one (the caller closes it).

        Args:
            patience: Seconds that an answer may take.
        """
        # Packets: a question arrives whole, with the descriptors that belong to it.
        here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        return cls(here, patience), there.detach()

    def tell_identity(self, pid: int) -> None:
        """Tell the other process which one it has to be."""
        self._send(IDENTITY, pid)

    def order(self, fds: Sequence[int]) -> None:
        """Ask for the first daemon, which gets copies of these descriptors; do not wait for it.

        Raises:
            ServerLostError: There is no server, nor will there be one.
        """
        self._send(FORK, 0, fds)

    def first_daemon(self) -> int:
        """Return the pid of the first daemon, which was ordered.

        Raises:
            ServerLostError: There is no server.
        """
        return self._answer()

    def fork(self, fds: Sequence[int]) -> int:
        """Have a daemon forked that gets copies of these descriptors; return its pid.

        Raises:
            OSError: It could not be forked. If it is a ServerLostError, perhaps it was.
        """
        self._send(FORK, 0, fds)
        pid = self._answer()
        if pid <= 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def reap(self, pid: int) -> int:
        """Have a daemon that has ended collected; return its status.

        Raises:
            ServerLostError: There is nobody left to collect it.
        """
        self._send(REAP, pid)
        return self._answer()

    def close(self) -> None:
        self._socket.close()

    def _send(self, what: int, pid: int, fds: Sequence[int] = ()) -> None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([_QUESTION.pack(what, pid)], rights, _socket.MSG_NOSIGNAL)
        except (ConnectionError, TimeoutError) as error:
            raise ServerLostError(str(error)) from error

    def _answer(self) -> int:
        try:
            data = self._socket.recv(_ANSWER.size)
        except (ConnectionError, TimeoutError) as error:
            raise ServerLostError(str(error)) from error
        if not data:
            raise ServerLostError("it has ended")
        (answer,) = _ANSWER.unpack(data)
        return int(answer)


class Question(NamedTuple):
    """What the host asks for."""

    what: int
    pid: int
    fds: list[int]


class Answering:
    """The fork server's end.

    Args:
        fd: The descriptor that :meth:`Asking.create` returned.
    """

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        # Where the host has a default timeout for sockets, its end was made as one with a
        # timeout, which the kernel knows as one that does not wait; and so was this one.
        self._socket.setblocking(True)
        os.set_inheritable(fd, False)

    def next(self) -> Question | None:
        """Wait for a question; None if none will come any more."""
        fds = array.array("i")
        room = _socket.CMSG_LEN(_MOST_FDS * fds.itemsize)
        # Not socket.recv_fds: it drops the flags (python/cpython, Lib/socket.py).
        data, ancillary, _, _ = self._socket.recvmsg(
            _QUESTION.size, room, _socket.MSG_CMSG_CLOEXEC
        )
        for _, _, content in ancillary:
            fds.frombytes(content)
        if not data:
            return None
        what, pid = _QUESTION.unpack(data)
        return Question(what, pid, list(fds))

    def answer(self, number: int) -> None:
        """Answer the last question."""
        self._socket.send(_ANSWER.pack(number), _socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()
