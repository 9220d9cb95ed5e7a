"""Tells when a child process has ended, how, and why no daemon can be started.

The end comes by a descriptor that can be waited for beside others. Linux has such descriptors
since 5.3 (pidfds). On other systems, on older ones, and where a sandbox forbids them, a thread
waits for the process, and writes to a socket then.
"""

import contextlib
import errno
import functools
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from mirai_executor._place import limit_behind
from mirai_executor._version import __version__
from mirai_executor._waiting import Reactor, Timer
from mirai_executor.errors import LaunchError

from ._launcher import Forked

if TYPE_CHECKING:
    from mirai_executor import _wire

    from ._process import DaemonProcess

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
        reactor: Tells when a descriptor is readable, and when it is time.
        on_end: Is called for a daemon of which nothing more is to be expected.
    """

    def __init__(self, reactor: Reactor, on_end: Callable[[K], object]) -> None:
        self._reactor = reactor
        self._on_end = on_end
        self._processes: dict[K, DaemonProcess] = {}
        self._patience: dict[K, Timer] = {}  # of daemons that may take only so long to end
        self._unwatched: dict[K, DaemonProcess] = {}  # nothing will tell of their end
        self._next_look: Timer | None = None  # whether those have ended

    def add(self, key: K, process: "DaemonProcess") -> None:
        """Watch a daemon's process."""
        self._processes[key] = process
        if process.end_fd >= 0:
            self._reactor.register(
                process.end_fd, selectors.EVENT_READ, lambda: self._on_death(key)
            )
        else:
            self._unwatched[key] = process  # until it has ended
            self._look_later()

    def replace(self, key: K, forked: Forked) -> None:
        """Watch another process for the daemon: the one that was started has forked it."""
        process = self._processes[key]
        self._reactor.unregister(process.end_fd)
        try:
            process.replace(forked)
        except OSError:  # nothing would tell of its end
            process.kill()
        self.add(key, process)

    def remove(self, key: K) -> None:
        """Forget a daemon that has ended."""
        self._processes.pop(key, None)
        self._stop_waiting(key)

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

    def _on_death(self, key: K) -> None:
        process = self._processes.get(key)
        if process is None or process.is_dead:
            return
        process.is_dead = True
        if process.end_fd >= 0:
            self._reactor.unregister(process.end_fd)
        self._unwatched.pop(key, None)
        process.reap()
        if process.link_is_closed or not process.has_greeted:
            self._on_end(key)
        else:
            # A child of a task may hold the link open for ever: do not wait for its end alone.
            self._wait(key, LAST_FRAMES)

    def _wait(self, key: K, seconds: float) -> None:
        self._stop_waiting(key)
        self._patience[key] = self._reactor.call_in(seconds, lambda: self._lose_patience(key))

    def _stop_waiting(self, key: K) -> None:
        if (timer := self._patience.pop(key, None)) is not None:
            timer.cancel()

    def _lose_patience(self, key: K) -> None:
        del self._patience[key]
        process = self._processes.get(key)
        if process is None or process.is_dead:
            self._on_end(key)
        else:
            process.kill()

    def _look_later(self) -> None:
        if self._unwatched and (self._next_look is None or self._next_look.is_over):
            self._next_look = self._reactor.call_in(_LOOK, self._look)

    def _look(self) -> None:
        for key in [key for key, process in self._unwatched.items() if process.has_ended()]:
            self._on_death(key)
        self._look_later()


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


def take_terminal_back(group: int) -> None:
    """Have the terminal again that was lent to the process group of a daemon which has died."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # this process has none
        return
    try:
        if os.tcgetpgrp(terminal) == group:
            # Whoever does that in the background would be stopped.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
            try:
                os.tcsetpgrp(terminal, os.getpgrp())
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    except OSError:  # it has hung up
        pass
    finally:
        os.close(terminal)


def _tell_the_end(process: "subprocess.Popen[bytes] | Forked", there: socket.socket) -> None:
    with there:
        try:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        except (AttributeError, ChildProcessError):  # as above
            process.wait()
        # To close it would not do: a child that was forked meanwhile has it open as well.
        with contextlib.suppress(OSError):
            there.send(b"\0", _NOSIGNAL)


_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)


def describe_exit(code: int | None) -> str:
    """Say how a process ended, from its return code as ``subprocess`` gives it."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def memory_hint(has_run_out: bool) -> str:
    """Say what has probably ended a process, if it has run out of memory; for a message."""
    if not has_run_out:
        return ""
    return (
        " (by the kernel, it seems: its control group has run out of memory meanwhile, so run "
        "fewer tasks at once, or smaller ones, or raise the limit)"
    )


def last_words(stderr: str) -> str:
    """Return the end of a message that quotes the last output of a process."""
    return f"; last output on stderr:\n{stderr.rstrip()}" if stderr.strip() else ""


def another(known: LaunchError) -> LaunchError:
    """Return the same error once more: each future has its own, with a traceback of its own."""
    error = LaunchError(
        str(known), command=known.command, exitcode=known.exitcode, stderr=known.stderr
    )
    error.__cause__ = known.__cause__
    return error


def lacks_room(error: BaseException | None) -> bool:
    """Tell whether a process could not be started only because a limit has been reached."""
    if isinstance(error, LaunchError):
        error = error.__cause__
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def as_launch_error(error: BaseException) -> LaunchError:
    """Return an error of any kind as the reason why no daemon could be started."""
    if isinstance(error, LaunchError):
        return error
    limit = limit_behind(error) if isinstance(error, OSError) else ""
    launch_error = LaunchError(f"no daemon could be started: {error}{limit}")
    launch_error.__cause__ = error
    return launch_error


def misfit(hello: "_wire.Hello", interpreter: str) -> str:
    """Return why a daemon of this machine cannot work for this process; empty if it can."""
    from mirai_executor import _wire  # not before the first daemon has been started

    ours = sys.version_info[:3]
    if hello.python[:2] != ours[:2]:  # code by value would crash it
        return (
            f"{interpreter} is Python {_dotted(hello.python)}, but this process runs Python "
            f"{_dotted(ours)}: daemons need the same minor version, so pass the path of a Python "
            f"{_dotted(ours[:2])} as python="
        )
    if hello.protocol != _wire.PROTOCOL_VERSION or hello.version != __version__:
        return other_package(hello)
    return ""


def other_package(hello: "_wire.Hello") -> str:
    """Say that a daemon and this process have different versions of this package."""
    from mirai_executor import _wire  # as above

    return (
        f"the daemon runs mirai_executor {hello.version} (protocol {hello.protocol}), but its "
        f"host runs {__version__} (protocol {_wire.PROTOCOL_VERSION})"
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
