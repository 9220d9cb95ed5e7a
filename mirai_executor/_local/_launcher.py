"""The two ways in which the process of a daemon comes into being here.

:class:`LocalLauncher` starts a fresh interpreter, which inherits the link of its daemon.
:class:`ForkServer` is what such an interpreter leaves behind, as its host sees it: it forks the
later ones, which are :class:`Forked`, when it is asked (:class:`Asking`).
"""

from __future__ import annotations

import _socket
import array
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from mirai_executor import _shared
from mirai_executor._place import limit_behind
from mirai_executor._private import optional
from mirai_executor._shared import ANSWER, FORK, IDENTITY, QUESTION, REAP, ServerLostError
from mirai_executor._typing import Record, Self
from mirai_executor.errors import LaunchError

# -P keeps the working directory off the path: a signal.py there must not stop a daemon. The
# folder of this package goes last, so that nothing in it hides a module of the standard library.
_PROGRAM = (
    "import sys; sys.path.append({home!r}); from mirai_executor.daemon import main; main({how})"
)
# Not by pathlib, which takes milliseconds to import.
_HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # noqa: PTH120
# Where libraries look for how many threads they may start. Most of them heed OMP_NUM_THREADS where
# their own variable is not set.
_OPENMP = "OMP_NUM_THREADS"
_POOLS = (
    _OPENMP,
    *("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"),
    *("NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS"),
)
_PATIENCE = 2.0  # seconds for an answer that takes milliseconds

# What multiprocessing runs, too, unless the program tells it something else.
_OWN_EXECUTABLE = sys.executable


def _chosen_executable() -> str:
    """Return what ``multiprocessing.set_executable`` was told; "" if nothing."""
    spawn = sys.modules.get("multiprocessing.spawn")  # which it imports
    chosen = None if spawn is None else spawn.get_executable()
    return "" if not chosen or os.fsdecode(chosen) == _OWN_EXECUTABLE else os.fsdecode(chosen)


def _flags_of_this_interpreter() -> list[str]:
    """Return -W, -X, -O and the like, as multiprocessing passes them on."""
    loss = "daemons start without the options of this interpreter, as -W, -X and -O."
    found: list[str] = optional("subprocess", "_args_from_interpreter_flags", list, loss)()
    return found


class LocalLauncher(Record):
    """How daemons are started on this machine.

    Args:
        python: The Python interpreter that runs them; None for this one's own.
        output: Whether what tasks print to standard output appears at the host's.
        stdout: The descriptor at which it appears; None for the host's own.
        threads: How many threads BLAS, OpenMP and their like may start in a daemon, unless the
            user has said so in the environment; None for as many as they want.
        cleanup: Whether they clean up after their tasks: a fork server then imports that once.
    """

    python: str | None = None
    output: bool = True
    stdout: int | None = None
    threads: int | None = None
    cleanup: bool = False

    def __post_init__(self) -> None:
        if self.python is not None and not isinstance(self.python, (str, os.PathLike)):
            raise TypeError(f"python must be the path of an interpreter, not {self.python!r}")

    def command(self, fds: Sequence[int], server: Sequence[int] = ()) -> tuple[str, ...]:
        """Return the command that starts a daemon which inherits these descriptors.

        With those of a fork server as well, it leaves one behind.

        Raises:
            LaunchError: There is no Python interpreter to run it.
        """
        flags = _flags_of_this_interpreter()
        how = f"first={bool(server)}, cleanup={self.cleanup}"
        program = _PROGRAM.format(home=_HOME, how=how)
        return (self._interpreter(), *flags, "-P", "-c", program, *map(str, (*server, *fds)))

    def start(
        self,
        fds: Sequence[int],
        stderr: int,
        server: Sequence[int] = (),
        *,
        stdout: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one daemon, in a process group of its own. Returns before it is ready.

        Args:
            fds: The descriptors of link, lifeline and page, which it inherits.
            stderr: The descriptor that becomes its standard error.
            server: Those of the fork server that it leaves behind, if it is to.
            stdout: The descriptor that becomes its standard output; None for that of the launcher.

        Raises:
            LaunchError: The interpreter could not be run; it carries the command.
        """
        command = self.command(fds, server)
        stdout = self.stdout if stdout is None else stdout
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout if self.output else subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=(*server, *fds),
                env=self.environment(),
                process_group=0,  # a terminal's Ctrl-C is the host's business alone
            )
        except OSError as error:
            message = f"cannot run {command[0]}: {error}{limit_behind(error)}"
            raise LaunchError(message, command=command) from error

    def environment(self) -> dict[str, str] | None:
        """Return what daemons find in their environment; None for what this process has."""
        if self.threads is None or _OPENMP in os.environ:
            return None
        return dict.fromkeys(_POOLS, str(self.threads)) | dict(os.environ)

    def _interpreter(self) -> str:
        if self.python is not None:
            return self.python
        if chosen := _chosen_executable():
            return chosen
        if getattr(sys, "frozen", False):
            raise LaunchError(
                "cannot start daemons: this is a frozen application, whose sys.executable is the "
                "application itself; pass python='/path/to/python', of the same minor version, or "
                "have daemons forked: mp_context=multiprocessing.get_context('fork')"
            )
        if sys.executable and "py" in os.path.basename(sys.executable).lower():  # noqa: PTH119
            return sys.executable
        raise LaunchError(
            f"cannot start daemons: sys.executable is {sys.executable!r}, which is not a Python "
            "interpreter; pass python='/path/to/python'"
        )


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


class Asking:
    """The host's end. Not thread-safe: one thread asks."""

    def __init__(self, end: _socket.socket, patience: float) -> None:
        self._socket = end
        self._socket.settimeout(patience)

    @classmethod
    def create(cls, patience: float = _PATIENCE) -> tuple[Self, int]:
        """Return an end, and the descriptor of the other one (the caller closes it).

        Args:
            patience: Seconds that an answer may take.
        """
        # Packets: a question arrives whole, with the descriptors that belong to it.
        here, there = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        return cls(here, patience), there.detach()

    def tell_identity(self, pid: int) -> None:
        """Tell the other process which one it has to be."""
        self.send(IDENTITY, pid)

    def order(self, fds: Sequence[int]) -> None:
        """Ask for the first daemon, which gets copies of these descriptors; do not wait for it.

        Raises:
            ServerLostError: There is no server, nor will there be one.
        """
        self.send(FORK, 0, fds)

    def first_daemon(self) -> int:
        """Return the pid of the first daemon, which was ordered.

        Raises:
            ServerLostError: There is no server.
        """
        return self._answer()

    def fork(self, fds: Sequence[int]) -> int:
        """Have a daemon forked that gets copies of these descriptors; return its pid.

        Raises:
            OSError: It could not be forked. If it is a ServerLostError, perhaps it was.
        """
        self.send(FORK, 0, fds)
        pid = self._answer()
        if pid <= 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def reap(self, pid: int) -> int:
        """Have a daemon that has ended collected; return its status.

        Raises:
            ServerLostError: There is nobody left to collect it.
        """
        self.send(REAP, pid)
        return self._answer()

    def close(self) -> None:
        self._socket.close()

    def send(self, what: int, pid: int, fds: Sequence[int] = ()) -> None:
        """Ask for something, and do not wait; ServerLostError if there is nobody."""
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([QUESTION.pack(what, pid)], rights, _socket.MSG_NOSIGNAL)
        except (ConnectionError, TimeoutError) as error:
            raise ServerLostError(str(error)) from error

    def _answer(self) -> int:
        try:
            data = self._socket.recv(ANSWER.size)
        except (ConnectionError, TimeoutError) as error:
            raise ServerLostError(str(error)) from error
        if not data:
            raise ServerLostError("it has ended")
        (answer,) = ANSWER.unpack(data)
        return int(answer)


class ForkServer:
    """A process that is about to leave a first daemon behind, or has, and forks others.

    Args:
        process: That process. A daemon like others until ``is_ready``.
        asking: This host's end of the socket at which it is asked.
        lifeline: This host's end of the pipe that it does not outlive.
        conditions: How it was started.
        no_fork: Held while this host's ends are closed.

    Attributes:
        knows_main: It was asked to import the main module, whatever has come of that.
    """

    knows_main = False

    def __init__(
        self,
        process: Starter,
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

    def first_daemon(self) -> Forked:
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

    def fork(self, fds: Sequence[int], command: Sequence[str]) -> Forked:
        """Have it fork a daemon that gets copies of these descriptors.

        Raises:
            OSError: It could not be forked. If it is a ServerLostError, perhaps it was.
        """
        return self._forked(self._asking.fork(fds), command)

    def import_main(self, fds: Sequence[int]) -> None:
        """Have it import the main module, with copies of these two descriptors. Does not wait.

        Raises:
            ServerLostError: It is gone.
        """
        self.knows_main = True
        self._asking.send(_shared.IMPORT, 0, fds)

    def _forked(self, pid: int, command: Sequence[str]) -> Forked:
        self._daemons.add(pid)
        return Forked(self, pid, command)

    def collect(self, pid: int) -> int | None:
        """Return the exit status of a daemon that has ended; None if nobody knows it."""
        status = None
        if not self.has_ended:
            try:
                status = self._asking.reap(pid)
                status = None if status == _shared.UNKNOWN else status
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
        if self.knows_main and isinstance(self.process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):  # it has a process to collect
                self.process.wait(_PATIENCE)
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
