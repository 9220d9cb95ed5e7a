"""Lets tasks print even if nobody reads the output any more.

A login that is cut takes along who read this process's standard output, and whoever writes to a
pipe without a reader fails; one that has stalled would hold tasks up. So the daemon writes to a
pipe of its keeper's, which drops what nobody takes. A file or a terminal the daemon gets itself:
it cannot lose them, and tasks may ask what they print to.
"""

import os
import select
import selectors
import stat

from mirai_executor._waiting import Deadline, Reactor, Timer

_STDOUT = 1
_PARTING_TIME = 2.0  # seconds for a reader that has stalled to take the rest
_PATIENCE = 0.5  # seconds that a task waits for a reader that has stalled, as for standard error
_PIECE = select.PIPE_BUF  # bytes that do not block when written to what can be written to


class Output:
    """The standard output of one daemon; for one thread, which never waits for its reader.

    Args:
        reactor: Tells when something is to be done.

    Attributes:
        fd: What the daemon is to have for its standard output; None for what this process has.
    """

    def __init__(self, reactor: Reactor) -> None:
        self.fd: int | None = None
        self._reactor = reactor
        self._pending = b""  # read, and not written yet
        self._awaited: int | None = None  # the descriptor that has to be ready for more
        self._has_stalled = False  # the reader: until it reads again, what comes is dropped
        self._patience: Timer | None = None
        if not _may_lose_its_reader():
            return
        self._source, self.fd = os.pipe()
        os.set_blocking(self._source, False)
        self._writable = select.poll()
        self._writable.register(_STDOUT, select.POLLOUT)
        self._wait_for(self._source)

    def hand_over(self) -> None:
        """Leave the daemon's end to the daemon, now that it has been started, or could not be."""
        if self.fd is not None:
            os.close(self.fd)

    def pass_on(self) -> None:
        """Pass on what the daemon has written so far, as far as somebody takes it."""
        if self._awaited is None:
            return
        while self._pending or self._read():
            if self._writable.poll(0):
                self._has_stalled = False
                self._write()
            elif self._has_stalled:
                self._pending = b""
            else:
                self._wait_for(_STDOUT)
                return

    def close(self) -> None:
        """Pass on the rest: the daemon has ended."""
        if self.fd is None:
            return
        deadline = Deadline(_PARTING_TIME)
        self.pass_on()
        while self._pending and deadline.wait_for(_STDOUT, selectors.EVENT_WRITE):
            self.pass_on()
        self._wait_for(None)
        os.close(self._source)

    def _read(self) -> bool:
        try:
            self._pending = os.read(self._source, 65536)
        except BlockingIOError:
            self._wait_for(self._source)
        else:
            if not self._pending:  # tasks have closed theirs
                self._wait_for(None)
        return bool(self._pending)

    def _write(self) -> None:
        try:
            self._pending = self._pending[os.write(_STDOUT, self._pending[:_PIECE]) :]
        except OSError:  # nobody reads it any more
            self._pending = b""

    def _wait_for(self, fd: int | None) -> None:
        if fd == self._awaited:
            return
        if self._awaited is not None:
            self._reactor.unregister(self._awaited)
        if fd is not None:
            events = selectors.EVENT_READ if fd == self._source else selectors.EVENT_WRITE
            self._reactor.register(fd, events, self.pass_on)
        self._awaited = fd
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if fd == _STDOUT:
            self._patience = self._reactor.call_in(_PATIENCE, self._give_up)

    def _give_up(self) -> None:
        """Drop what a reader has not taken that has stalled, as a login whose cable was cut."""
        self._has_stalled = True
        self.pass_on()


def _may_lose_its_reader() -> bool:
    try:
        mode = os.fstat(_STDOUT).st_mode
    except OSError:  # it is closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
