"""Decides how the process of a new daemon comes into being: as a fresh interpreter, or by a fork.

::

    the first one    a fresh interpreter, which leaves a fork server behind once it has imported;
                     it starts while the host itself still imports
    until then       fresh interpreters
    from then on     forks of the server, in milliseconds

What a daemon inherits does not depend on how it came: a server is asked only for as long as a
fresh interpreter would start as the server itself did. Else another one takes its place.
"""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager

from mirai_executor._nameless import create, is_none_free, reopen
from mirai_executor._shared import Pages, ServerLostError
from mirai_executor._typing import TYPE_CHECKING, NamedTuple
from mirai_executor.errors import LaunchError

from ._ends import has_pidfds
from ._launcher import Asking, Forked, ForkServer, LocalLauncher

if TYPE_CHECKING:
    from ._output import OutputRelay
    from ._relay import Write

Process = subprocess.Popen[bytes] | Forked
Conditions = tuple[object, ...]

# Of what the kernel tells of a thread, what its children inherit.
_INHERITED = (
    *(b"Umask:", b"Uid:", b"Gid:", b"Groups:", b"SigBlk:", b"SigIgn:", b"NoNewPrivs:"),
    *(b"CapInh:", b"CapPrm:", b"CapEff:", b"CapBnd:", b"CapAmb:", b"Seccomp:"),
    *(b"Cpus_allowed:", b"Mems_allowed:"),
)
_PROC = "/proc/thread-self"
_STDOUT = 1
# Bytes that a daemon may write while its host is stalled. Linux grants a user 64 MiB in all pipes,
# and from then on two pages for each, also to programs that know nothing of us.
_CAPACITY = 1 << 18


class Spawner:
    """Starts the processes of one executor's daemons. For the host thread only.

    Args:
        launcher: Starts fresh interpreters.
        no_fork: Held while descriptors are closed which a forked child of this process would have
            to know. None: later daemons are no forks either, as where there is a single one.
        output: Passes on what daemons print; None if they inherit this process's standard output.

    Attributes:
        output: As given.
        lifeline: Ties daemons to this process.
        pages: What it shares with them.
    """

    def __init__(
        self,
        launcher: LocalLauncher,
        no_fork: AbstractContextManager[object] | None = None,
        output: "OutputRelay | None" = None,
    ) -> None:
        self._launcher = launcher
        self.output = output
        self._no_fork = contextlib.nullcontext() if no_fork is None else no_fork
        self._server: ForkServer | None = None  # which is asked, or will be
        self._servers: list[ForkServer] = []  # that one, and those that wait for their daemons
        self.lifeline = Lifeline()
        self.pages = Pages()
        self._streams: StandardPipes | None = None  # of the first daemon, if it is prepared
        self._generation = object()  # of its servers
        self._may_fork = (
            no_fork is not None and has_pidfds()
        )  # who forks a daemon cannot wait for its end
        self._may_import = True  # as long as no server was lost that had been asked to

    @property
    def write_stderr(self) -> "Write | None":
        """What passes on what daemons write to standard error; None if nobody is to see it."""
        if not self._launcher.output:
            return None
        if self.output is not None:
            return self.output.write_stderr
        from ._relay import write_to_stderr  # the first process has started by now

        return write_to_stderr

    @property
    def awaits_server(self) -> bool:
        """Whether the first daemon is on its way; until :meth:`confirm_start` has told."""
        server = self._server
        return server is not None and not server.is_waiting and not server.is_ready

    @property
    def server_pid(self) -> int:
        """The pid of the server that is on its way, or 0."""
        return self._server.process.pid if self._server is not None else 0

    def prepare(self) -> None:
        """Let a fresh interpreter begin with its imports, for the first daemon to come soon.

        If that fails, the first :meth:`start` says why.
        """
        conditions = self._conditions() if self._may_fork else None
        if conditions is None:
            return
        with contextlib.suppress(OSError, LaunchError):
            self._streams = self.streams()
            self._start_server(conditions, self._streams)

    @property
    def wants_main(self) -> bool:
        """Whether the server could import the main module for the daemons to come."""
        server = self._server
        if server is None or not self._may_import:
            return False
        if not server.is_ready or server.knows_main:
            return False
        conditions = self._conditions()
        return conditions is not None and server.serves(conditions)  # else it forks no more

    def import_main(self, request: bytes) -> int | None:
        """Have the server import the main module, for the daemons to come. Does not wait.

        Args:
            request: What daemons are prepared with, and the file, as they read it.

        Returns:
            The end of a pipe that the caller closes; it can be read once that has ended, in
            whatever way. None if it cannot be tried.
        """
        if self._server is None:
            return None
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            try:
                file = create("mirai-main", request)
                theirs.callback(os.close, file)
                end, its_end = os.pipe()
                theirs.callback(os.close, its_end)
                ours.callback(os.close, end)
                self._server.import_main((file, its_end))
            except (OSError, ServerLostError):  # if lost, it is noticed when it is asked to fork
                return None
            ours.pop_all()
            return end

    def renew(self) -> None:
        """Have a new server fork the next daemons. Safe from any thread."""
        self._generation = object()

    def streams(self) -> "StandardPipes":
        """Return the pipes for the standard streams of the next daemon.

        Raises:
            OSError: No descriptor is free.
        """
        if self._streams is not None:
            prepared, self._streams = self._streams, None
            return prepared
        return StandardPipes.create(with_stdout=self.output is not None)

    def start(self, fds: Sequence[int], streams: "StandardPipes") -> Process:
        """Start a process in a process group of its own. Returns before the daemon is ready.

        Args:
            fds: The descriptors that it inherits.
            streams: Its standard streams, from :meth:`streams`.

        Raises:
            LaunchError: The interpreter could not be run; it carries the command.
            ServerLostError: The server is gone, perhaps with a daemon that has these descriptors.
        """
        conditions = self._conditions() if self._may_fork else None
        server = self._server
        if server is not None and not self.awaits_server and not server.serves(conditions):
            server.retire()
            self._server = server = None
        if conditions is None:
            return self._launcher.start(fds, streams.stderr[1], stdout=streams.stdout[1])
        if server is None:
            server = self._start_server(conditions, streams)
        if server is not None and server.is_waiting:
            server.order(fds)
            return server.process  # type: ignore[return-value]  # a template waits for nobody
        if server is not None and server.is_ready and (forked := self._fork(server, fds, streams)):
            return forked
        return self._launcher.start(fds, streams.stderr[1], stdout=streams.stdout[1])

    def confirm_start(self, process: Process) -> Forked | None:
        """Take note that a daemon has been heard of, or has ended without.

        Returns:
            Its process, if the one that was started has become the server.
        """
        server = self._server
        if server is None or server.is_ready or server.process is not process:
            return None
        try:
            return server.first_daemon()
        except ServerLostError:
            # It cannot fork there, or not even start: trying again would cost more than it saves.
            self._may_fork = False
            self._server = None
            server.let_go()
            return None

    def close(self) -> None:
        """End all servers, and the daemons that are left."""
        for server in self._servers:
            if (server.is_ready or server.is_waiting) and not server.has_ended:
                server.end()
            elif not server.has_ended:
                server.let_go()
        if self._streams is not None:
            self._streams.close()
            self._streams = None
        if self.output is not None:
            self.output.close()
        with self._no_fork:
            self.lifeline.cut()
        self.pages.close()

    def forget(self) -> None:
        """In a forked child: keep no server from noticing the end of its host."""
        self.lifeline.cut()
        for server in self._servers:
            if not server.has_ended:
                server.forget()
            server.process.returncode = 0  # it is no child of this process: nothing to wait for

    def _start_server(self, conditions: Conditions, streams: "StandardPipes") -> ForkServer | None:
        """Start a fresh interpreter that waits for its first daemon; None without descriptors."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            try:
                asking, control = Asking.create()
                ours.callback(asking.close)
                theirs.callback(os.close, control)
                lifeline_fd, lifeline = os.pipe()
                ours.callback(os.close, lifeline)
                theirs.callback(os.close, lifeline_fd)
            except OSError:
                return None
            stdout, stderr = streams.stdout[1], streams.stderr[1]
            process = self._launcher.start((), stderr, (control, lifeline_fd), stdout=stdout)
            self._server = server = ForkServer(
                process, asking, lifeline, conditions, self._no_fork
            )
            self._servers = [known for known in self._servers if not known.has_ended]
            self._servers.append(server)
            ours.pop_all()
        with contextlib.suppress(ServerLostError):  # which will be noticed
            asking.tell_identity(process.pid)
        return server

    def _fork(
        self, server: ForkServer, fds: Sequence[int], streams: "StandardPipes"
    ) -> Forked | None:
        """Have the server fork a daemon; None if it cannot for now."""
        try:
            with contextlib.ExitStack() as stack:
                cwd = os.open(".", os.O_PATH | os.O_DIRECTORY)
                stack.callback(os.close, cwd)
                stdout = _STDOUT if streams.stdout[1] is None else streams.stdout[1]
                if not self._launcher.output:
                    stdout = os.open(os.devnull, os.O_RDWR)
                    stack.callback(os.close, stdout)
                return server.fork((streams.stderr[1], stdout, cwd, *fds), self._command(fds))
        except ServerLostError:
            self._server = None
            self._may_import = self._may_import and not server.knows_main
            server.end()
            raise
        except OSError:
            return None

    def _command(self, fds: Sequence[int]) -> tuple[str, ...]:
        """Return what would start a daemon that is forked."""
        return self._launcher.command(fds)

    def _conditions(self) -> Conditions | None:
        """Return what a fresh interpreter would inherit; None where that cannot be known."""
        command = self._launcher.command(())
        try:
            status = _read("status").splitlines()
            inherited = [line for line in status if line.startswith(_INHERITED)]
            inherited += [_read(name) for name in ("limits", "cgroup")]
            stdout = None if self.output is not None else os.fstat(_STDOUT)
        except OSError:
            return None
        # A fresh interpreter makes of a terminal its own.
        output = None if stdout is None else (stdout.st_dev, stdout.st_ino, stdout.st_rdev)
        return command, dict(os.environb), inherited, _share(), output, self._generation


class Lifeline:
    """What daemons do not outlive: their end of a pipe is told of the end of this process.

    It costs this process one descriptor for all of them, as its end can be opened anew as theirs;
    each has to have opened its own, for the kernel to know whom to signal.
    """

    def __init__(self) -> None:
        self._ends: list[int] = []  # more than one only where nothing can be opened anew

    def tie(self) -> int:
        """Return the end for one more process (the caller closes it).

        Raises:
            OSError: No descriptor is free.
        """
        if self._ends:
            try:
                return reopen(self._ends[0], os.O_RDONLY)
            except OSError as error:
                if is_none_free(error):
                    raise
        theirs, ours = os.pipe()
        self._ends.append(ours)
        return theirs

    def cut(self) -> None:
        """Let go of it: who is tied to it ends, unless another process holds it, too."""
        for end in self._ends:
            os.close(end)
        self._ends.clear()


class StandardPipes(NamedTuple):
    """Both ends of the pipes that are a daemon's standard streams.

    Args:
        stderr: Those of standard error.
        stdout: Those of standard output; Nones if this process's is inherited.
    """

    stderr: tuple[int, int]
    stdout: tuple[int, int] | tuple[None, None] = (None, None)

    @classmethod
    def create(cls, *, with_stdout: bool) -> "StandardPipes":
        """Open them.

        Raises:
            OSError: No descriptor is free.
        """
        stderr = _pipe()
        if not with_stdout:
            return cls(stderr)
        try:
            return cls(stderr, _pipe())
        except OSError:
            cls(stderr).close()
            raise

    def ends(self, side: int) -> list[int]:
        """Return the descriptors of this process (0), or of the daemon (1)."""
        return [fd for fd in (self.stderr[side], self.stdout[side]) if fd is not None]

    def close(self) -> None:
        """Close all ends."""
        for fd in (*self.ends(0), *self.ends(1)):
            os.close(fd)


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    # Linux only; or the user's quota of pipe memory is used up.
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _CAPACITY)
    return read_end, write_end


def _read(name: str) -> bytes:
    with open(f"{_PROC}/{name}", "rb") as file:  # noqa: PTH123 - pathlib takes milliseconds
        return file.read()


def _share() -> tuple[int, int | None]:
    """Return how this thread stands with the scheduler."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        return niceness, os.sched_getscheduler(0)
    except (AttributeError, OSError):  # musl has no such call
        return niceness, None
