"""The errors that say that daemons are gone, or cannot be started."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from . import CODE_CONNECTION_RESET, MiraiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

__all__ = ["DaemonLostError", "LaunchError"]


class DaemonLostError(MiraiError, BrokenProcessPool):
    """The daemon ended while it ran the task; the executor itself goes on.

    Attributes:
        pid: Process id of the daemon, or None where it is not known.
        host: Name of the machine that it ran on.
        exitcode: Its exit status, or minus the number of the signal that ended it, as in
            ``subprocess.Popen.returncode``; None where it is not known.
        stderr: The last lines that it wrote to its standard error (at most 4 kB).
    """

    code: ClassVar[int | None] = CODE_CONNECTION_RESET

    def __init__(
        self,
        message: str = "the daemon was lost",
        *,
        pid: int | None = None,
        host: str | None = None,
        exitcode: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.host = host
        self.exitcode = exitcode
        self.stderr = stderr


class LaunchError(MiraiError, BrokenProcessPool):
    """Daemons cannot be started, so no task that waits for one can ever run.

    Attributes:
        command: The command that was to start the daemon.
        exitcode: Its exit status, as in ``subprocess.Popen.returncode``; None where it never ran.
        stderr: The last lines that it wrote to its standard error (at most 4 kB).
    """

    def __init__(
        self,
        message: str = "no daemon could be started",
        *,
        command: tuple[str, ...] = (),
        exitcode: int | None = None,
        stderr: str = "",
    ) -> None:
        super().__init__(message)
        self.command = command
        self.exitcode = exitcode
        self.stderr = stderr


# Where they are found, and what tracebacks and pickles say.
for _error in (DaemonLostError, LaunchError):
    _error.__module__ = __name__.rpartition(".")[0]
