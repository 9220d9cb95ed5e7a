"""A terminal for a script, and what a shell does for it there."""

import fcntl
import functools
import os
import pty
import select
import subprocess
import termios
from typing import Any

from live.hosts import PATIENCE


class Terminal:
    """A script at a terminal of its own, which sends it signals by its keys."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self._shown = b""
        self.options: dict[str, Any] = {
            "stdin": self.slave,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "start_new_session": True,
            "preexec_fn": functools.partial(fcntl.ioctl, self.slave, termios.TIOCSCTTY, 0),
        }

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)
        os.close(self.slave)

    def press_ctrl_c(self) -> None:
        os.write(self.master, b"\x03")

    def press_ctrl_z(self) -> None:
        os.write(self.master, b"\x1a")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    @property
    def echoes(self) -> bool:
        """Whether it shows what is typed."""
        return bool(termios.tcgetattr(self.master)[3] & termios.ECHO)

    @property
    def front(self) -> int:
        """The process group that it belongs to."""
        return os.tcgetpgrp(self.master)

    def shown(self, text: bytes) -> bool:
        """Wait until it has shown a text, or for a while."""
        while text not in self._shown and self._has_more(PATIENCE):
            self._shown += os.read(self.master, 1024)
        return text in self._shown

    def all_shown(self) -> bytes:
        """Return all that it has shown."""
        while self._has_more(0):
            self._shown += os.read(self.master, 1024)
        return self._shown

    def _has_more(self, seconds: float) -> bool:
        return bool(select.select([self.master], [], [], seconds)[0])


# What a shell does: only in a session with such a process can a terminal stop another one.
SHELL = """
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTTOU])
    if job := os.fork():
        os.setpgid(job, job)
        if not globals().get("in_background"):
            os.tcsetpgrp(0, job)
        say("started")
        while os.WIFSTOPPED(status := os.waitpid(job, os.WUNTRACED)[1]):
            os.tcsetpgrp(0, os.getpgrp())
            say("stopped")
            signal.sigwait([signal.SIGUSR1])  # the user says: fg
            os.tcsetpgrp(0, job)
            os.kill(-job, signal.SIGCONT)
        os._exit(os.waitstatus_to_exitcode(status))
"""
