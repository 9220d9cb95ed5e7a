"""How a process becomes a daemon of its host, and may leave a fork server behind.

Its life: it holds the read end of a pipe whose only write end is at the host. The kernel closes
that end when the host ends, however it ends, and sends SIGKILL to the daemon's process group:
it needs no thread here, and no code that holds the GIL can delay it. (Linux's
PR_SET_PDEATHSIG would fire when the *thread* ends that started the daemon.) On other systems, and
where a sandbox forbids it, a thread waits for the end of the pipe.

Its streams: standard error is a pipe to the host. Where the host has stalled and the pipe stays
full, text is dropped, and the daemon goes on. The descriptor itself does block, as a task's
children expect of theirs: with O_NONBLOCK, which they would share, one that wrote 8 MB failed,
though the host read all the time.

Its place in multiprocessing is that of a worker. A daemon does without multiprocessing until one
of its tasks imports it: then is early enough.

The fork server::

    fresh interpreter ── imports ──┬── the first daemon
                                   └── the fork server ──┬── another daemon
                                                         └── another daemon

It has imported what a daemon needs, and nothing else: it has one thread, never runs or
unpickles anything of the user's, never sees a byte of a link, and sleeps until its host asks. It
is the process that the host has started, so it collects the daemons, and the host collects it.
Each daemon leaves this module by a return, and then is as fresh as the first one. What has the
main module imported is another process, which it has forked: see ``_import_server``.
"""

from __future__ import annotations

import _socket  # the module around it takes milliseconds to import
import array
import contextlib
import faulthandler
import fcntl
import io
import os
import select
import signal
import sys
import threading

from mirai_executor import _nameless, _place
from mirai_executor._lazily import when_imported
from mirai_executor._shared import ANSWER, FORK, IDENTITY, IMPORT, QUESTION
from mirai_executor._typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from mirai_executor._payload.daemon import Preparation

    ImportMain = Callable[["Answering", int, int], list[int]]

_MOST_FDS = 16  # of one question

serving: Any = None  # the Daemon that this process is


def hold_lifeline(fd: int) -> None:
    """Tie this process group's life to the pipe. Returns at once, or never if the host is gone."""
    if not arm_lifeline(fd):
        threading.Thread(target=_watch, args=(fd,), daemon=True).start()
    # The host may have ended before the signal was armed.
    poll = _nameless.new_poll()
    poll.register(fd, 0)
    if poll.poll(0):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def arm_lifeline(fd: int, owner: int = 0) -> bool:
    """Have the kernel end a process, or this group, with the pipe; False where it does not."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETOWN, owner or -os.getpgrp())
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | fcntl.fcntl(fd, fcntl.F_GETFL))
    except (AttributeError, OSError):  # F_SETSIG is Linux's
        return False
    return True


def _watch(fd: int) -> None:
    group = os.getpgrp()
    os.read(fd, 1)  # returns when the write end closes: nobody ever writes
    os.killpg(group, signal.SIGKILL)


_PIECE = select.PIPE_BUF  # bytes that do not block when written to a pipe that can be written to
_PATIENCE_MS = 500  # milliseconds for a full pipe to be read


class _Lossy(io.RawIOBase):
    """The raw side of standard error: writes what fits, and drops the rest."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = _nameless.new_poll()
        self._poll.register(fd, select.POLLOUT)
        self._has_stalled = False

    def fileno(self) -> int:
        return self._fd

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # any buffer
        pieces = memoryview(data).cast("B")
        with contextlib.suppress(BlockingIOError):  # a task has changed the descriptor
            while pieces and self._can_write():
                pieces = pieces[os.write(self._fd, pieces[:_PIECE]) :]
        return len(data)

    def _can_write(self) -> bool:
        # Once it has stalled, nobody waits again until it is read.
        self._has_stalled = not self._poll.poll(0 if self._has_stalled else _PATIENCE_MS)
        return not self._has_stalled


def prepare_streams() -> None:
    """Set up standard error and the dump of Python frames at a crash."""
    # The handler of a crash writes to descriptor 2 by itself.
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Lossy(2)),
        encoding="utf-8",
        errors="backslashreplace",
        write_through=True,
        line_buffering=True,
    )
    sys.__stderr__ = sys.stderr  # type: ignore[misc]  # what the interpreter itself falls back to
    faulthandler.enable(sys.stderr)


def end_fork(error: BaseException | None) -> NoReturn:
    """End a process that a task has forked, as the end of a program ends it."""
    status = 0 if error is None else 1
    if isinstance(error, SystemExit) and (error.code is None or type(error.code) is int):
        status = (error.code or 0) & 0xFF
    elif error is not None:
        import traceback

        traceback.print_exception(error)
    _nameless.flush_streams()
    os._exit(status)


_PROCESS, _TRACKER = "multiprocessing.process", "multiprocessing.resource_tracker"


def process_name(host: Preparation) -> str:
    """Return what multiprocessing and log records call the daemon of this host."""
    return f"MiraiDaemon-{':'.join(map(str, host.identity))}"


def title_of(host: Preparation) -> str:
    """Return what the system shows of the daemon of this host: the name may be cut."""
    number = f"-{'.'.join(map(str, host.identity))}"
    name = f"mirai-{host.executor}" if host.executor else "mirai"
    room = max(0, _place.LONGEST_TITLE - len(number))
    return name.encode(errors="replace")[:room].decode(errors="ignore") + number


class Child:
    """This process, as multiprocessing is to see it.

    Args:
        lifeline: The descriptor that closes with the host.
        tracker: The descriptor at which the tracker of the host's resources hears of them: what
            has a name, and was made here, lives until its maker or the host's end removes it.
            Without one, it would end with this daemon.
    """

    on_host: Callable[[int], None] | None = None  # called with its process id, if that is here

    def __init__(self, lifeline: int, tracker: int = -1) -> None:
        self._lifeline = lifeline
        self._tracker = tracker

    def introduce(self, host: Preparation) -> None:
        """Tell multiprocessing whose child this is: each module now, or once it is imported.

        Its executor and its number among its siblings are the title by which the system shows it.
        """
        if self.on_host is not None and host.host_pid is not None:
            self.on_host(host.host_pid)
        _place.show_as(title_of(host))
        if host.shows_state:
            from ._titles import show_states  # for hosts that give themselves titles

            show_states(serving, title_of(host))
        steps: dict[str, Callable[[Any], None]] = {
            _PROCESS: lambda process: self._set_process(process, host)
        }
        if self._tracker >= 0:
            steps[_TRACKER] = self._set_tracker
        when_imported(steps)

    def _set_process(self, process: Any, host: Preparation) -> None:
        this = process.current_process()
        this.name = process_name(host)
        this._identity = host.identity  # noqa: SLF001 - as multiprocessing's own children do
        if host.authkey:
            this.authkey = host.authkey
        # Elsewhere, the keeper of this daemon stands for the host.
        pid = os.getppid() if host.host_pid is None else host.host_pid
        parent = process._ParentProcess(host.host, pid, self._lifeline)  # noqa: SLF001
        process._parent_process = parent  # noqa: SLF001

    def _set_tracker(self, module: Any) -> None:
        tracker = module._resource_tracker  # noqa: SLF001 - as multiprocessing's own children do
        if tracker._fd is None:  # noqa: SLF001
            tracker._fd = os.dup(self._tracker)  # noqa: SLF001 - it may close its own


class Question(NamedTuple):
    """What the host asks for."""

    what: int
    pid: int
    fds: list[int]


class Answering:
    """The fork server's end.

    Args:
        fd: The descriptor that ``Asking.create`` returned.
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
        data, ancillary, _, _ = self._socket.recvmsg(QUESTION.size, room, _socket.MSG_CMSG_CLOEXEC)
        for _, _, content in ancillary:
            fds.frombytes(content)
        if not data:
            return None
        what, pid = QUESTION.unpack(data)
        return Question(what, pid, list(fds))

    def fileno(self) -> int:
        return self._socket.fileno()

    def answer(self, number: int) -> None:
        """Answer the last question."""
        self._socket.send(ANSWER.pack(number), _socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


def branch_off(control: int, lifeline: int, import_main: ImportMain) -> list[int]:
    """Fork the first daemon, and others, when the host asks. Returns in each of them, once.

    Where that would not be safe, this process itself becomes the first daemon.

    Args:
        control: The socket at which the host asks.
        lifeline: That of the server.
        import_main: Goes on as the server once that has been asked to import the main module.

    Returns:
        The descriptors of the daemon that this process is now.
    """
    end = Answering(control)
    may_fork = _may_fork(end, {0, 1, 2, control, lifeline}) and arm_lifeline(lifeline)
    if (order := end.next()) is None:
        os._exit(0)  # the host has gone, or has no use for a daemon any more
    fds = order.fds
    child = fork() if may_fork else -1
    if child > 0:
        hold_lifeline(lifeline)
        fds = _serve(end, child, fds, import_main)
        child = 0
    end.close()
    os.close(lifeline)
    if child == 0:
        os.setpgid(0, 0)
    return fds


def branch_off_from_host(control: int, lifeline: int) -> list[int]:
    """In a fork of the host: fork daemons, when it asks. Returns in each of them, once.

    Args:
        control: The socket at which the host asks.
        lifeline: That of the process that asks for this.

    Returns:
        The descriptors of the daemon that this process is now.
    """
    end = Answering(control)
    arm_lifeline(lifeline)  # where that is impossible, the end of the socket tells
    _be_quiet()
    fds, child = next_daemon(end)
    fds = _serve(end, child, fds) if child else _take_over(*fds)
    end.close()
    os.close(lifeline)
    os.setpgid(0, 0)
    return fds


def _may_fork(end: Answering, known: set[int]) -> bool:
    # A wrapper around the interpreter may have made it another process than the host knows, or
    # one of a namespace where processes have other numbers.
    try:
        identity = end.next()
    except OSError:  # a sandbox lets nobody send descriptors
        return False
    if identity is None or identity[:2] != (IDENTITY, os.getpid()):
        return False
    # The kernel would collect the daemons, and their numbers could be others' too early.
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        return False
    # What is imported at each start of Python may have started threads, or have connected to
    # something, which two processes must not share.
    try:
        threads, descriptors = (os.listdir(f"/proc/self/{what}") for what in ("task", "fd"))  # noqa: PTH208 - as they are
    except OSError:  # not mounted here
        return False
    listing = 1
    return len(threads) == 1 and len(set(map(int, descriptors)) - known) == listing


def fork() -> int:
    """Return as ``os.fork`` does, or minus an errno."""
    try:
        return os.fork()
    except OSError as error:
        return -(error.errno or 1)


def _serve(
    end: Answering, child: int, fds: list[int], import_main: ImportMain | None = None
) -> list[int]:
    """Fork daemons until the host wants no more. Returns in each, with its descriptors."""
    server = os.getpid()
    try:
        _be_quiet()
        _place.show_as("mirai-server")
        while child:
            # First: when the host has its answer, nothing of the daemon's is open here.
            for fd in fds:
                os.close(fd)
            end.answer(child)
            fds, child = next_daemon(end, import_main=import_main)
        return _take_over(*fds)
    finally:
        if os.getpid() == server:
            os._exit(0)  # no traceback either: the host starts fresh interpreters then


def _be_quiet() -> None:
    """Let go of the first daemon's streams: their reader waits for their end."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def next_daemon(
    end: Answering, fork: Callable[[], int] = fork, import_main: ImportMain | None = None
) -> tuple[list[int], int]:
    """Collect daemons that have ended, until another one is asked for, and fork that.

    Returns:
        Its descriptors, and what ``fork`` returns.
    """
    while (question := end.next()) is not None:
        if question.what == FORK:
            return question.fds, fork()
        if question.what == IMPORT and import_main is not None:
            return import_main(end, *question.fds), 0
        _, status = os.waitpid(question.pid, 0)
        end.answer(os.waitstatus_to_exitcode(status))
    os._exit(0)


def _take_over(stderr: int, stdout: int, cwd: int, *fds: int) -> list[int]:
    """Put a new daemon in its place, and return what is left of its descriptors."""
    os.dup2(stderr, 2)
    os.dup2(stdout, 1)
    with contextlib.suppress(OSError):  # a fresh interpreter needs no permission to start there
        os.fchdir(cwd)
    for fd in (stderr, stdout, cwd):
        os.close(fd)
    return list(fds)
