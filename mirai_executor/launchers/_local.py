"""Starts daemons on this machine: fresh interpreters that inherit their link."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from mirai_executor._place import limit_behind
from mirai_executor._private import optional
from mirai_executor._record import Record
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
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


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
    """

    python: str | None = None
    output: bool = True
    stdout: int | None = None
    threads: int | None = None

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
        program = _PROGRAM.format(home=_HOME, how="first=True" if server else "")
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
