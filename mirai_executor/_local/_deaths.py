"""Tells when a child process has ended, by a descriptor that can be waited for beside others.

Linux has such descriptors since 5.3 (pidfds). On other systems, on older ones, and where a sandbox
forbids them, a thread waits for the process, and writes to a socket then.
"""

import contextlib
import errno
import functools
import os
import socket
import subprocess
import threading

from ._forkserver import Forked

__all__ = ["LOOK", "has_ended", "has_pidfds", "watch"]

LOOK = 0.1  # seconds between two looks whether a process has ended, where nothing tells
_NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # macOS: Python sets SO_NOSIGPIPE


@functools.cache
def has_pidfds() -> bool:
    """Tell whether this system has descriptors of processes, and lets us have them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except AttributeError:
        return False
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)  # it has, but none is free
    return True


def watch(process: "subprocess.Popen[bytes] | Forked") -> int:
    """Return a descriptor that is readable once the process has ended; the caller closes it.

    The process is not collected by that, so its number stays its own.

    Returns:
        -1 where nothing can tell: without pidfds, when no thread can be started.

    Raises:
        OSError: No descriptor is free.
    """
    if has_pidfds():
        return os.pidfd_open(process.pid)
    here, there = socket.socketpair()
    thread = threading.Thread(
        target=_tell_the_end, args=(process, there), name=f"mirai-end-{process.pid}", daemon=True
    )
    try:
        thread.start()
    except RuntimeError:  # since 3.12, whenever the interpreter shuts down
        here.close()
        there.close()
        return -1
    return here.detach()


def has_ended(process: "subprocess.Popen[bytes] | Forked") -> bool:
    """Look whether a process has ended, without collecting it."""
    try:
        found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:  # it was collected already
        return True
    except AttributeError:  # macOS before Python 3.13
        return isinstance(process, subprocess.Popen) and process.poll() is not None
    return found is not None


def _tell_the_end(process: "subprocess.Popen[bytes] | Forked", there: socket.socket) -> None:
    with there:
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        except (AttributeError, ChildProcessError):  # as above
            process.wait()
        # To close it would not do: a child that was forked meanwhile has it open as well.
        with contextlib.suppress(OSError):
            there.send(b"\0", _NOSIGNAL)
