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

from __future__ import annotations

from mirai_executor._lazily import door

try:
    from _pickle import PicklingError  # the same, without the milliseconds of pickle
except ImportError:
    from pickle import PicklingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ._broken import DaemonLostError, LaunchError

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

# Their base is ProcessPoolExecutor's, and brings much that a daemon never needs.
__getattr__ = door(__name__, {"_broken": ("DaemonLostError", "LaunchError")})


class MiraiError(Exception):
    """Base of all errors that this package raises about tasks and daemons."""

    code: ClassVar[int | None] = None


class TaskTimeoutError(MiraiError, TimeoutError):
    """The task passed its ``timeout`` or ``run_timeout``; its work has been stopped."""

    code: ClassVar[int | None] = CODE_TIMED_OUT


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
