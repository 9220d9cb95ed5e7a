"""Lets a task read from the terminal of its host, although this process is in the background.

The kernel sends SIGTTIN to the group of a process that reads from a terminal in the background.
Only then is anything of this imported::

    the task                this process
     |
     |-- reads ----------->  gets SIGTTIN, and joins the process group of the host
     |-- reads again, by itself (PEP 475)
     |   ...                 a Ctrl-C or Ctrl-Z is for the host and for this task
     |<- a line is typed --  leaves that group: from now on, they are for the host alone

So the host keeps its terminal, can read there, too, and misses nothing if this process dies. Where
the host is in the background, the kernel stops the whole job until the shell brings it to the
front, as it stops others.

A process that the task has started cannot be moved to another group. Where there are such, one of
them may be the reader, so the terminal is lent to this process's own group, which is theirs. Keys
reach nobody else then, so they are passed on: a Ctrl-C by SIGINT to the group of the host; and at
a Ctrl-Z, this process joins that group to be stopped, and continued, together with it. That lasts
until the task ends: ssh reads a line byte by byte, and begins anew if it is stopped in between.

The first reader has its turn until its task ends, and others wait for theirs. Then all is as
before. Everything here runs on the main thread, most of it in handlers of signals.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import signal
import termios
import time

from mirai_executor import _nameless
from mirai_executor._typing import TYPE_CHECKING, Any

from . import _child

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._interrupts import Interrupts

_TYPED = signal.SIGURG  # the kernel says by this that there is input: no harm if it comes late
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds until programs are told again to go on
_LOOKS = 10  # at whether the host has stopped, with the first of these pauses between them
_FAILURES = (OSError, termios.error)


class _RefusedError(Exception):
    """Reading has to be an error."""


_visit: Visit | None = None  # of the task that runs


def come(host: int, lifeline: int, handler: Callable[..., None]) -> None:
    """Let a task that has tried to read from the terminal, and has got SIGTTIN, read from it.

    Args:
        host: The process id of the host.
        lifeline: The descriptor that closes with it.
        handler: What gets SIGTTIN.
    """
    global _visit  # a process has one terminal
    interrupts: Interrupts = _child.serving.interrupts
    if _visit is None:
        may_read = interrupts.is_open and os.getpgrp() == os.getpid()
        interrupts.on_next("leave" if interrupts.is_open else "enter", _end)
        _visit = Visit(host if may_read else 0, lifeline, handler)
    _visit.on_read()


def _end() -> None:
    global _visit  # as above
    if _visit is not None and _visit.end():
        _visit = None


class Visit:
    """What a task has to do with the terminal, from its first attempt to read until its end.

    Args:
        host: The process id of the host; 0 if reading is to be an error, since it is none of the
            task that runs, or since this process has no group of its own.
        lifeline: The descriptor that closes with the host.
        handler: What gets SIGTTIN.
    """

    def __init__(self, host: int, lifeline: int, handler: Callable[..., None]) -> None:
        self._pid = os.getpid()  # which is also the number of its own group
        self._thread = _thread.get_ident()  # the main one
        self._host = host
        self._lifeline = lifeline
        self._handler = handler
        self._files = contextlib.ExitStack()
        self._terminal = -1  # until it is this task's turn
        self._second_lifeline = -1
        self._loan: object = None  # while programs may be told that they have the terminal
        self._instead: dict[int, Any] = {}  # handlers, while ours are in their place

    def on_read(self) -> None:
        """Come to the front, or have reading be an error from now on."""
        try:
            self._take_turn()
            self._come(os.getpgid(self._host))
        except (_RefusedError, *_FAILURES):  # such as: the host is in another session
            self.go_back()
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)

    def go_back(self) -> None:
        """Be in the background again, in a group of its own, as before."""
        if self._terminal >= 0:
            with contextlib.suppress(*_FAILURES):  # it has hung up
                flags = fcntl.fcntl(self._terminal, fcntl.F_GETFL)
                fcntl.fcntl(self._terminal, fcntl.F_SETFL, flags & ~os.O_ASYNC)
                front = os.tcgetpgrp(self._terminal)
                if front == self._pid or _is_gone(front):  # a shell of the task, say
                    os.tcsetpgrp(self._terminal, os.getpgid(self._host))
        if os.getpgrp() != self._pid:
            os.setpgid(0, 0)
        for number, handler in tuple(self._instead.items()):
            signal.signal(number, handler)
            self._instead.pop(number, None)  # a handler may have been here, too
        if self._second_lifeline >= 0:
            fd, self._second_lifeline = self._second_lifeline, -1
            with contextlib.suppress(OSError):  # the task has closed all descriptors
                os.close(fd)

    def end(self) -> bool:
        """Undo all of it; False in a child that the task has forked, which has done none of it."""
        if os.getpid() != self._pid:
            return False
        self._loan = None
        self.go_back()
        with contextlib.suppress(*_FAILURES):
            self._files.close()
        signal.signal(signal.SIGTTIN, self._handler)
        return True

    # Turns

    def _take_turn(self) -> None:
        """Wait until no other task of the host has the terminal; from then on, do nothing."""
        if not self._host:
            raise _RefusedError
        if self._terminal >= 0:
            return
        self._files.close()  # of an attempt that was interrupted
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._files.callback(os.close, terminal)
        # All daemons of a host can lock this, and the kernel unlocks it when one of them dies.
        turn = os.open(f"/proc/{self._host}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files.callback(os.close, turn)
        # To close it would not do while a child that the task has forked has it open, too.
        self._files.callback(fcntl.flock, turn, fcntl.LOCK_UN)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait(terminal, turn)
        self._terminal = terminal

    def _wait(self, terminal: int, turn: int) -> None:
        # Whoever asks for a password has turned the echo off by now, and the task whose turn it is
        # turns it on again: what is typed then must not be shown.
        wanted = termios.tcgetattr(terminal)
        # A thread that reads gets an error: it would try again for ever, as fast as it can.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        try:
            fcntl.flock(turn, fcntl.LOCK_EX)
        finally:
            signal.signal(signal.SIGTTIN, self._handler)
        found = termios.tcgetattr(terminal)
        if wanted != found:
            self._files.callback(termios.tcsetattr, terminal, termios.TCSANOW, found)
            termios.tcsetattr(terminal, termios.TCSANOW, wanted)

    # To the front and back

    def _come(self, group: int) -> None:
        front = os.tcgetpgrp(self._terminal)
        if front not in (group, self._pid) and self._is_orphan(front):
            os.tcsetpgrp(self._terminal, group)  # SIGTTOU is ignored
            front = group
        if _has_children(self._pid):
            self._borrow(group, front)
        elif os.getpgrp() != group:
            self._join(group)
        elif front != group:  # a background job, which is stopped as a whole
            _stop_at(signal.SIGTTIN, lambda: os.killpg(group, signal.SIGTTIN))

    def _is_orphan(self, group: int) -> bool:
        """Tell whether a group has the terminal whose daemon has died, since it is our turn."""
        return _is_gone(group) or _parent(group) == os.getppid()

    def _join(self, group: int) -> None:
        self.go_back()
        # That of the group does not reach this process meanwhile.
        self._second_lifeline = _nameless.reopen(self._lifeline, os.O_RDONLY)
        if not _child.arm_lifeline(self._second_lifeline, self._pid):
            raise _RefusedError  # nothing would end this process with its host
        self._put(signal.SIGTSTP, signal.SIG_DFL)
        self._go_back_when_typed()
        os.setpgid(0, group)
        if self._second_lifeline < 0:  # it was typed just now
            os.setpgid(0, 0)
        with contextlib.suppress(OSError):  # a daemon of this one may have been stopped in there
            os.killpg(self._pid, signal.SIGCONT)

    def _borrow(self, group: int, front: int) -> None:
        if front == group:
            self.go_back()
            self._put(signal.SIGINT, self._pass_interrupt_on)
            self._put(signal.SIGTSTP, self._pass_stop_on)
            self._put(_TYPED, lambda *_: None)
            os.tcsetpgrp(self._terminal, self._pid)
            if _is_stopped(self._host):  # a Ctrl-Z came before: the shell has it, or is to have it
                os.tcsetpgrp(self._terminal, _shell_of(self._host, group))
                if not self._stop_with(group, signal.SIGTSTP):
                    raise _RefusedError  # as below
                self._come(group)
                return
        elif front != self._pid and not self._stop_with(group, signal.SIGTTIN):
            raise _RefusedError  # no shell will ever bring the host to the front
        os.killpg(self._pid, signal.SIGCONT)  # they read again
        self._loan = loan = object()
        with contextlib.suppress(RuntimeError):  # there may be no more threads
            _thread.start_new_thread(self._insist, (loan,))

    def _insist(self, loan: object) -> None:
        """Have programs go on that stop themselves, as ssh does, a moment after we have come.

        Each loan has a thread of its own, which shares no count with that of another one: so none
        takes back that the loan has ended, and none is taken for another's that is about to end.
        """
        for pause in _PAUSES:
            time.sleep(pause)  # nothing tells of what a program of a program does
            # Python calls handlers in the order of their numbers. A Ctrl-Z that came while that of
            # SIGTTIN was ending would wait until another signal wakes the main thread.
            signal.pthread_kill(self._thread, _TYPED)
            # Those alone: it would take a Ctrl-Z back that others have not seen yet.
            for pid in _stopped(self._pid):
                if self._loan is not loan:
                    return
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGCONT)

    def _go_back_when_typed(self) -> None:
        self._put(_TYPED, self._on_typed)
        for command, value in ((fcntl.F_SETOWN, self._pid), (fcntl.F_SETSIG, _TYPED)):
            fcntl.fcntl(self._terminal, command, value)
        flags = fcntl.fcntl(self._terminal, fcntl.F_GETFL)
        fcntl.fcntl(self._terminal, fcntl.F_SETFL, flags | os.O_ASYNC)

    def _put(self, number: int, handler: Any) -> None:
        self._instead.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)

    # Signals of the terminal

    def _on_typed(self, *_: Any) -> None:
        # Whoever waits for it has it now. Should it not be enough, the next read brings us back.
        self.go_back()

    def _pass_interrupt_on(self, number: int, frame: Any) -> None:
        handler = self._instead.get(number)
        if os.getpid() == self._pid:  # else a child of the task, which has this from there
            self.go_back()
            with contextlib.suppress(OSError):
                os.killpg(os.getpgid(self._host), number)
        if callable(handler):
            handler(number, frame)

    def _pass_stop_on(self, number: int, _: Any) -> None:
        if os.getpid() != self._pid:  # likewise
            _stop_at(number, lambda: os.kill(os.getpid(), number))
            return
        self._loan = None  # what is stopped now stays so
        self.go_back()
        with contextlib.suppress(OSError):
            group = os.getpgid(self._host)
            os.killpg(group, number)
            if self._host_stops():
                self._stop_with(group, number)
            os.killpg(self._pid, signal.SIGCONT)

    def _host_stops(self) -> bool:
        """Tell whether it stops at a Ctrl-Z; if not, no shell would have this process go on."""
        for _ in range(_LOOKS):
            if _is_stopped(self._host):
                return True
            time.sleep(_PAUSES[0])  # nothing tells of that
        return False

    def _stop_with(self, group: int, number: int) -> bool:
        """Be stopped, and go on, together with a group; False if nobody would continue it."""
        continued: list[int] = []
        handler = signal.signal(signal.SIGCONT, lambda number, _: continued.append(number))
        os.setpgid(0, group)
        try:
            _stop_at(number, lambda: os.killpg(group, number))
        finally:
            os.setpgid(0, 0)
            signal.signal(signal.SIGCONT, handler)
        return bool(continued)


def _is_gone(group: int) -> bool:
    with contextlib.suppress(PermissionError):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
    return False


def _stop_at(number: int, send: Callable[[], None]) -> None:
    handler = signal.signal(number, signal.SIG_DFL)
    try:
        send()
    finally:
        signal.signal(number, handler)


def _has_children(group: int) -> bool:
    """Tell whether children of this process are in a group."""
    looks = os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT
    try:
        os.waitid(os.P_PGID, group, looks)
    except ChildProcessError:
        return False
    return True


def _stopped(group: int) -> list[int]:
    """Return the processes of a group that are stopped."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - as it is
    return [pid for pid in pids if _stat(pid)[::2] == [b"T", b"%d" % group]]


def _is_stopped(pid: int) -> bool:
    return _stat(pid)[:1] == [b"T"]


def _shell_of(pid: int, group: int) -> int:
    """Return the group of what has started the job that a process of a group belongs to."""
    while (found := os.getpgid(pid)) == group:
        pid = _parent(pid)
    return found


def _parent(pid: int) -> int:
    return int((_stat(pid) or (b"", b"0"))[1])


def _stat(pid: int) -> list[bytes]:
    """Return the state, the parent and the group of a process; nothing if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as elsewhere on daemons
            return file.read().rpartition(b")")[2].split()[:3]
    except OSError:
        return []
