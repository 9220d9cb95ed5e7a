"""Lets a fresh interpreter leave a fork server behind when it becomes the first daemon.

::

    fresh interpreter ── imports ──┬── the first daemon
                                   └── the fork server ──┬── another daemon
                                                         └── another daemon

The server has imported what a daemon needs, and nothing else: it has one thread, never runs or
unpickles anything of the user's, never sees a byte of a link, and sleeps until its host asks. It
is the process that the host has started, so it collects the daemons, and the host collects it.
Each daemon leaves this module by a return, and then is as fresh as the first one.
"""

import contextlib
import os
import signal

from mirai_executor import _place
from mirai_executor._forking import FORK, IDENTITY, Answering

from . import _child


def branch_off(control: int, lifeline: int) -> list[int]:
    """Fork the first daemon, and others, when the host asks. Returns in each of them, once.

    Where that would not be safe, this process itself becomes the first daemon.

    Args:
        control: The socket at which the host asks.
        lifeline: That of the server.

    Returns:
        The descriptors of the daemon that this process is now.
    """
    end = Answering(control)
    may_fork = _may_fork(end, {0, 1, 2, control, lifeline}) and _child.arm_lifeline(lifeline)
    if (order := end.next()) is None:
        os._exit(0)  # the host has gone, or has no use for a daemon any more
    fds = order.fds
    child = _fork() if may_fork else -1
    if child > 0:
        _child.hold_lifeline(lifeline)
        fds = _serve(end, child, fds)
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
    _child.arm_lifeline(lifeline)  # where that is impossible, the end of the socket tells
    _be_quiet()
    fds = _next_request(end)
    child = _fork()
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


def _fork() -> int:
    """Return as ``os.fork`` does, or minus an errno."""
    try:
        return os.fork()
    except OSError as error:
        return -(error.errno or 1)


def _serve(end: Answering, child: int, fds: list[int]) -> list[int]:
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
            fds = _next_request(end)
            child = _fork()
        return _take_over(*fds)
    finally:
        if os.getpid() == server:
            os._exit(0)  # no traceback either: the host starts fresh interpreters then


def _be_quiet() -> None:
    """Let go of the first daemon's streams: who reads them waits for their end."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _next_request(end: Answering) -> list[int]:
    """Collect daemons that have ended, until another one is asked for."""
    while (question := end.next()) is not None:
        if question.what == FORK:
            return question.fds
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
