"""Names every way in which a task can fail to return its own result.

::

    Exception
     └─ MiraiError
         ├─ TaskTimeoutError     also TimeoutError         .code == 5
         ├─ DaemonLostError      also BrokenProcessPool    .code == 19
         ├─ LaunchError          also BrokenProcessPool
         ├─ MiraiInterrupt
         ├─ RemoteError
         ├─ PayloadError         also pickle.PicklingError
         ├─ ForkedExecutorError  also RuntimeError
         └─ DaemonsNotSetError   also LookupError

A cancelled task ends in the standard ``concurrent.futures.CancelledError``; its ``future.code``
is 20. The codes are those of mirai. Every error survives pickling with its attributes.
"""

from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError
from typing import ClassVar

__all__ = [
    "CODE_CANCELLED",
    "CODE_CONNECTION_RESET",
    "CODE_TIMED_OUT",
    "DaemonLostError",
    "DaemonsNotSetError",
    "ForkedExecutorError",
    "LaunchError",
    "MiraiError",
    "MiraiInterrupt",
    "PayloadError",
    "RemoteError",
    "TaskTimeoutError",
]

CODE_TIMED_OUT = 5
CODE_CONNECTION_RESET = 19
CODE_CANCELLED = 20


class MiraiError(Exception):
    """Base of all errors that this package raises about tasks and daemons."""

    code: ClassVar[int | None] = None


class TaskTimeoutError(MiraiError, TimeoutError):
    """The task passed its ``timeout`` or ``run_timeout``; its work has been stopped."""

    code: ClassVar[int | None] = CODE_TIMED_OUT


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


class MiraiInterrupt(MiraiError):  # noqa: N818 - mirai's own name for it
    """The task was interrupted where it ran, by SIGINT or by a KeyboardInterrupt of its own."""


class RemoteError(MiraiError):
    """A task raised an exception that cannot travel; this carries what could be said of it.

    Attributes:
        type_name: Qualified name of the exception's class.
        text: ``str()`` of the exception.
        traceback: The full traceback as Python would have printed it at the daemon.
    """

    def __init__(
        self,
        message: str = "a task failed",
        *,
        type_name: str = "",
        text: str = "",
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback


class PayloadError(MiraiError, PicklingError):
    """A call, or its result, cannot be turned into bytes or back; the message names the object."""


class ForkedExecutorError(MiraiError, RuntimeError):
    """An executor that had started was used in a process forked from its own."""


class DaemonsNotSetError(MiraiError, LookupError):
    """A profile was asked for that has no daemons; the message says how to set them."""
