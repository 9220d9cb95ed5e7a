"""Tells when a child process has ended, by a descriptor that can be waited for beside others.

Linux has such descriptors since 5.3 (pidfds). On other systems, on older ones, and where a sandbox
forbids them, a thread waits for the process, and writes to a socket then.
"""

import contextlib
import errno
import functools
import math
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from ._forkserver import Forked

if TYPE_CHECKING:
    from ._process import DaemonProcess

__all__ = ["LAST_FRAMES", "DeathWatch", "has_ended", "has_pidfds", "watch"]

LAST_FRAMES = 0.5  # seconds for what a dead daemon had sent to come in
_LOOK = 0.1  # seconds between two looks whether a process has ended, where nothing tells
_NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # macOS: Python sets SO_NOSIGPIPE

K = TypeVar("K")


class DeathWatch(Generic[K]):
    """Notices how daemons end, and leaves time for what they had sent to come in.

    ::

        it dies, its link is closed ──────────────────────────────► on_end
        it dies, its link is open ───► waits for its last frames ─► on_end
        its link is closed, it lives ─► waits for its death ──────► kills it
        it has no process here, and its time is up ───────────────► on_end

    Args:
        selector: Calls the data of a key when its descriptor is readable.
        on_end: Is called for a daemon of which nothing more is to be expected.

    Attributes:
        deadline: When :meth:`expire` has something to do; infinite for never.
    """

    def __init__(self, selector: selectors.BaseSelector, on_end: Callable[[K], object]) -> None:
        self._selector = selector
        self._on_end = on_end
        self._processes: dict[K, DaemonProcess] = {}
        self._patience: dict[K, float] = {}  # until when a daemon may take to end
        self._unwatched: dict[K, DaemonProcess] = {}  # nothing will tell of their end
        self._look_at = math.inf  # when it is looked for
        self.deadline = math.inf

    def add(self, key: K, process: "DaemonProcess") -> None:
        """Watch a daemon's process."""
        self._processes[key] = process
        if process.end_fd >= 0:
            self._selector.register(
                process.end_fd, selectors.EVENT_READ, lambda: self._on_death(key)
            )
        else:
            self._unwatched[key] = process  # until it has ended
            self._look_at = time.monotonic() + _LOOK
            self._set_deadline()

    def replace(self, key: K, forked: Forked) -> None:
        """Watch another process for the daemon: the one that was started has forked it."""
        process = self._processes[key]
        self._selector.unregister(process.end_fd)
        try:
            process.replace(forked)
        except OSError:  # nothing would tell of its end
            process.kill()
        self.add(key, process)

    def remove(self, key: K) -> None:
        """Forget a daemon that has ended."""
        self._processes.pop(key, None)
        if self._patience.pop(key, None) is not None:
            self._set_deadline()

    def note_link_closed(self, key: K, seconds: float | None) -> None:
        """Take in that nothing more will come from a daemon.

        Args:
            key: Which.
            seconds: How long its process may live on; None for as long as it likes.
        """
        process = self._processes.get(key)
        if process is None or process.is_dead:
            self._on_end(key)
        elif seconds is not None:
            # A task has closed its descriptors, or the process is about to end: wait a little.
            self._wait(key, seconds)

    def limit(self, key: K, seconds: float) -> None:
        """Let a daemon take so many seconds to end, unless that is limited already."""
        if key not in self._patience:
            self._wait(key, seconds)

    def expire(self, now: float) -> None:
        """Do what has to be done because time has passed."""
        if self._unwatched and self._look_at <= now:
            self._look_at = now + _LOOK
            for key in [key for key, it in self._unwatched.items() if it.has_ended()]:
                self._on_death(key)
        for key in [key for key, deadline in self._patience.items() if deadline <= now]:
            if self._patience.pop(key, None) is None:
                continue  # the end of another one was its end, too
            process = self._processes.get(key)
            if process is None or process.is_dead:
                self._on_end(key)
            else:
                process.kill()
        self._set_deadline()

    def _on_death(self, key: K) -> None:
        process = self._processes.get(key)
        if process is None or process.is_dead:
            return
        process.is_dead = True
        if process.end_fd >= 0:
            self._selector.unregister(process.end_fd)
        self._unwatched.pop(key, None)
        process.reap()
        if process.link_is_closed or not process.has_greeted:
            self._on_end(key)
        else:
            # A child of a task may hold the link open for ever: do not wait for its end alone.
            self._wait(key, LAST_FRAMES)

    def _wait(self, key: K, seconds: float) -> None:
        self._patience[key] = time.monotonic() + seconds
        self._set_deadline()

    def _set_deadline(self) -> None:
        look_at = self._look_at if self._unwatched else math.inf
        self.deadline = min(look_at, *self._patience.values(), math.inf)


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
