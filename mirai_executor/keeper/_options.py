"""How a daemon lives, and what its exit code says of its end."""

from dataclasses import dataclass
from enum import Enum, IntEnum

from mirai_executor.urls import Url

__all__ = ["Autoexit", "ExitCode", "Options"]


class Autoexit(Enum):
    """What happens when the host is gone."""

    NOW = "now"  # the task that runs is ended
    FINISH = "finish"  # it may end by itself; nobody gets its result
    NEVER = "never"  # as NOW, and then the next host at the same address is served


class ExitCode(IntEnum):
    """Why a daemon has ended."""

    DONE = 0  # its host has let it go, or has ended
    USAGE = 2  # the command line, or the environment, is not as it must be
    UNREACHABLE = 10  # the host answered at none of its addresses
    UNTRUSTED = 11  # what answered has not the certificate that was to be expected
    WRONG_SECRET = 12  # the host is of another executor
    WRONG_VERSION = 13  # host and daemon have different versions of Python, or of this package
    BROKEN = 14  # no interpreter to run tasks could be started, or each came to nothing
    WRONG_MODE = 15  # the host works with a dispatcher, or without, and was to do otherwise
    INTERRUPTED = 130  # by Ctrl-C
    TERMINATED = 143  # by SIGTERM, as schedulers end a job


@dataclass(frozen=True)
class Options:
    """How a daemon lives.

    Args:
        urls: The addresses of its host, best first.
        output: Whether what tasks print appears at its standard output.
        cleanup: Whether it returns to its first state after each task; None leaves it to the host.
        dispatcher: Whether its host has to work with a dispatcher, or without; None for either.
        idle_time: Seconds without a task after which it leaves; None for never.
        wall_time: Seconds after which it takes no more tasks, and leaves; None for never.
        max_tasks: Tasks after which it leaves; None for any number.
        autoexit: What happens when the host is gone.
        retry: For how many seconds it tries to reach its host.
    """

    urls: tuple[Url, ...]
    output: bool = True
    cleanup: bool | None = None
    dispatcher: bool | None = None
    idle_time: float | None = None
    wall_time: float | None = None
    max_tasks: int | None = None
    autoexit: Autoexit = Autoexit.NOW
    retry: float = 30.0
