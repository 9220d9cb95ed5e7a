"""The fork server as its host sees it, and the daemons that it has forked."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mirai_executor._forking import Asking, ServerLostError


class ForkOfHost:
    """A process that this one has forked itself, as far as it is like ``subprocess.Popen``."""

    ARGS = ("(fork of the host)",)

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.args: Sequence[str] = self.ARGS
        self.returncode: int | None = None

    def wait(self) -> int:
        """Wait for its end, and return the exit status."""
        if self.returncode is None:
            try:
                self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            except ChildProcessError:  # the program has waited for whatever ends first
                self.returncode = 0
        return self.returncode


if TYPE_CHECKING:
    # What leaves a first daemon behind, or was forked to be asked for daemons.
    Starter = subprocess.Popen[bytes] | ForkOfHost


class ForkServer:
    """A process that is about to leave a first daemon behind, or has, and forks others.

    Args:
        process: That process. A daemon like others until ``is_ready``.
        asking: This host's end of the socket at which it is asked.
        lifeline: This host's end of the pipe that it does not outlive.
        conditions: How it was started.
        no_fork: Held while this host's ends are closed.
    """

    def __init__(
        self,
        process: "Starter",
        asking: Asking,
        lifeline: int,
        conditions: object,
        no_fork: AbstractContextManager[object],
    ) -> None:
        self.process = process
        self._conditions = conditions
        self.is_waiting = True  # for the descriptors of its first daemon
        self.is_ready = self.has_ended = False
        self._asking = asking
        self._lifeline = lifeline
        self._no_fork = no_fork
        self._daemons: set[int] = set()  # not collected yet
        self._retired = False

    def order(self, fds: Sequence[int]) -> None:
        """Have it leave its first daemon behind, as soon as it can, with these descriptors."""
        self.is_waiting = False
        with contextlib.suppress(ServerLostError):  # which will be noticed
            self._asking.order(fds)

    def settle(self) -> "Forked":
        """Return its first daemon, which is there once it has been heard of.

        Raises:
            ServerLostError: The process is a daemon itself, or has ended.
        """
        pid = self._asking.first_daemon()
        self.is_ready = True
        return self._forked(pid, self.process.args)  # type: ignore[arg-type]  # of strings

    def serves(self, conditions: object) -> bool:
        """Tell whether it can be asked for a daemon that would start like this."""
        return not self.has_ended and self._conditions == conditions

    def fork(self, fds: Sequence[int], command: Sequence[str]) -> "Forked":
        """Have it fork a daemon that gets copies of these descriptors.

        Raises:
            OSError: It could not be forked. If it is a ServerLostError, perhaps it was.
        """
        return self._forked(self._asking.fork(fds), command)

    def _forked(self, pid: int, command: Sequence[str]) -> "Forked":
        self._daemons.add(pid)
        return Forked(self, pid, command)

    def collect(self, pid: int) -> int | None:
        """Return the exit status of a daemon that has ended; None if nobody knows it."""
        status = None
        if not self.has_ended:
            try:
                status = self._asking.reap(pid)
            except ServerLostError:
                self.end()
        self._daemons.discard(pid)
        if self._retired:
            self.retire()
        return status

    def retire(self) -> None:
        """End it once it has collected its daemons."""
        self._retired = True
        if not self._daemons and not self.has_ended:
            self.end()

    def end(self) -> None:
        """End it now. Daemons that it has left live on."""
        self.let_go()
        if self.process.returncode is None:  # not collected: the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)  # it has nothing to lose
        self.process.wait()

    def let_go(self) -> None:
        """Close this host's ends."""
        with self._no_fork:
            self.has_ended = True
            self.forget()

    def forget(self) -> None:
        """In a forked child: do not keep it from noticing its host's end."""
        self._asking.close()
        os.close(self._lifeline)


class Forked:
    """The process of a daemon that a fork server has started and will collect.

    ``subprocess.Popen`` as far as a daemon needs it; ``wait`` is for one that has ended.
    """

    def __init__(self, server: ForkServer, pid: int, args: Sequence[str]) -> None:
        self._server = server
        self.pid = pid
        self.args = args
        self.returncode: int | None = None

    def wait(self) -> int | None:
        """Return the exit status; None if it died with the server that knew it."""
        if self.returncode is None:
            self.returncode = self._server.collect(self.pid)
        return self.returncode
