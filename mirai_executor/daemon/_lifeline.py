"""Ends a daemon, and whatever its tasks have started, when its host is gone.

The daemon holds the read end of a pipe whose only write end is at the host. The kernel closes
that end when the host ends, however it ends, and sends SIGKILL to the daemon's process group:
it needs no thread here, and no code that holds the GIL can delay it. (Linux's
PR_SET_PDEATHSIG would fire when the *thread* ends that started the daemon.) On other systems, and
where a sandbox forbids it, a thread waits for the end of the pipe.
"""

import fcntl
import os
import select
import signal
import threading


def hold(fd: int) -> None:
    """Tie this process group's life to the pipe. Returns at once, or never if the host is gone."""
    if not arm(fd):
        threading.Thread(target=_watch, args=(fd,), daemon=True).start()
    # The host may have ended before the signal was armed.
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def arm(fd: int) -> bool:
    """Have the kernel end this process group with the pipe; False where it does not do that."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | fcntl.fcntl(fd, fcntl.F_GETFL))
    except (AttributeError, OSError):  # F_SETSIG is Linux's
        return False
    return True


def _watch(fd: int) -> None:
    os.read(fd, 1)  # returns when the write end closes: nobody ever writes
    os.killpg(os.getpgrp(), signal.SIGKILL)
