"""All exceptions raised by this package about tasks and daemons.

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

A cancelled task raises the standard ``concurrent.futures.CancelledError``; its ``future.code`` is
20. The codes are those of mirai. All exceptions can be pickled, and keep their attributes.
"""

from __future__ import annotations

from mirai_executor._lazily import lazy_imports

try:
    from _pickle import PicklingError  # the same, without the milliseconds of pickle
except ImportError:
    from pickle import PicklingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ._pool_errors import DaemonLostError, LaunchError
else:
    # Their base is ProcessPoolExecutor's, and brings much that a daemon never needs.
    __getattr__ = lazy_imports(
        __name__, {"_pool_errors": "DaemonLostError LaunchError"}, package="mirai_executor"
    )

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
    """Base class of all exceptions that this package raises about tasks and daemons.

    Attributes:
        code: mirai's code for this kind of error, or None.

    Example:
        >>> import os
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.submit(os._exit, 3)
        ...     try:
        ...         future.result()
        ...     except MiraiError as error:
        ...         print(type(error).__name__, error.code)
        DaemonLostError 19
    """

    code: ClassVar[int | None] = None


class TaskTimeoutError(MiraiError, TimeoutError):
    """The task exceeded its ``timeout`` or ``run_timeout``, and has been stopped.

    The executor and its daemons stay usable.

    Example:
        >>> import time
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.with_options(timeout=0.2).submit(time.sleep, 60)
        ...     print(future.exception())
        task 1 timed out: not finished 0.2 s after submission
    """

    code: ClassVar[int | None] = CODE_TIMED_OUT


class MiraiInterrupt(MiraiError):  # noqa: N818 - mirai's own name for it
    """The task was interrupted on its daemon, by SIGINT or by its own KeyboardInterrupt.

    Example:
        >>> def interrupt():
        ...     raise KeyboardInterrupt
        >>> with MiraiExecutor(1) as executor:
        ...     type(executor.submit(interrupt).exception()).__name__
        'MiraiInterrupt'
    """


class RemoteError(MiraiError):
    """The task raised an exception whose class cannot be pickled; this one describes it.

    Attributes:
        type_name: Qualified name of the exception's class.
        text: ``str()`` of the exception.
        traceback: The full traceback, as Python would have printed it on the daemon.

    Example:
        >>> import threading
        >>> def fail():
        ...     class DiskError(Exception):
        ...         lock = threading.Lock()
        ...     raise DiskError("disk full")
        >>> with MiraiExecutor(1) as executor:
        ...     error = executor.submit(fail).exception()
        >>> type(error).__name__, error.text
        ('RemoteError', 'disk full')
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
    """A call or its result cannot be pickled or unpickled; the message names the object.

    Example:
        >>> import threading
        >>> with MiraiExecutor(1) as executor:
        ...     error = executor.submit(print, {"a": threading.Lock()}).exception()
        ...     str(error).split(":")[0]
        "cannot pickle args[0]['a'] (a _thread.lock object)"
    """

    _is_for_the_call = False  # whether submit() raises it as a TypeError: see _arguments


class ForkedExecutorError(MiraiError, RuntimeError):
    """An executor that had started was used in a forked child process.

    A forked child can create executors of its own.

    Example:
        >>> issubclass(ForkedExecutorError, RuntimeError)
        True
    """


class DaemonsNotSetError(MiraiError, LookupError):
    """The requested profile has no daemons; the message says how to start some.

    Example:
        >>> try:
        ...     executor_for("gpu")
        ... except DaemonsNotSetError as error:
        ...     str(error).split(";")[1]
        " call daemons(4, compute='gpu') to start 4"
    """
