"""The errors that say that daemons are gone, or cannot be started.

Their base class is ``ProcessPoolExecutor``'s, which takes long to import, and a daemon raises
neither: so they are not in ``errors`` itself, where users find them.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from .errors import CODE_CONNECTION_RESET, MiraiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class DaemonLostError(MiraiError, BrokenProcessPool):
    """The daemon ended while it was running the task.

    Only this task fails. The executor stays usable, and starts a new daemon if it needs one.

    Attributes:
        pid: Process id of the daemon, or None if it is not known.
        host: Name of the machine that it ran on, or None if it is not known.
        exitcode: Its exit status, or minus the number of the signal that killed it, as in
            ``subprocess.Popen.returncode``; None if it is not known.
        stderr: The end of its standard error output since it began the task, at most 4 kB.

    Example:
        >>> import os
        >>> with MiraiExecutor(1) as executor:
        ...     error = executor.submit(os._exit, 3).exception()
        ...     error.exitcode, executor.submit(abs, -1).result()
        (3, 1)
    """

    code: ClassVar[int | None] = CODE_CONNECTION_RESET
    # For executors: the last task and the last element of a chunk that it had begun, if known.
    _task: int | None = None
    _element: int | None = None

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
    """Daemons cannot be started, so the tasks that wait for one cannot run.

    Attributes:
        command: The command that should have started the daemon.
        exitcode: Its exit status, as in ``subprocess.Popen.returncode``; None if it never ran.
        stderr: The end of its standard error output, at most 4 kB.

    Example:
        >>> def load():
        ...     raise ValueError("no model")
        >>> with MiraiExecutor(1, initializer=load) as executor:
        ...     print(executor.submit(abs, -1).exception())
        the initializer failed: ValueError: no model
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
    _error.__module__ = MiraiError.__module__
