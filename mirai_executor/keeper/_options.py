"""The options of a daemon that connects, and the meaning of its exit codes."""

from dataclasses import dataclass
from enum import Enum, IntEnum

from mirai_executor.urls import Url

__all__ = ["Autoexit", "ExitCode", "Options"]


class Autoexit(Enum):
    """What a daemon does when its host is gone."""

    NOW = "now"  # stop the running task
    FINISH = "finish"  # let it finish; nobody gets its result
    NEVER = "never"  # as NOW, and then serve the next host at the same address


class ExitCode(IntEnum):
    """Why a daemon has ended."""

    DONE = 0  # its host released it, or has ended
    USAGE = 2  # invalid command line or environment
    UNREACHABLE = 10  # no answer at any address of the host
    UNTRUSTED = 11  # the certificate at the host's address is not trusted
    WRONG_SECRET = 12  # the host belongs to another executor
    WRONG_VERSION = 13  # host and daemon have different versions of Python, or of this package
    BROKEN = 14  # no interpreter for tasks could be started, or none stayed up
    WRONG_MODE = 15  # the host's dispatcher mode is not the requested one
    INTERRUPTED = 130  # by Ctrl-C
    TERMINATED = 143  # by SIGTERM, as schedulers end a job


@dataclass(frozen=True)
class Options:
    """The options of a daemon that connects to its host.

    Args:
        urls: The addresses of its host, best first.
        output: Whether what tasks print appears on its standard output.
        cleanup: Whether it resets the interpreter after each task; None leaves it to the host.
        dispatcher: Whether its host must work with a dispatcher, or without one; None accepts
            either.
        idle_time: Seconds without a task after which it exits; None for never.
        wall_time: Seconds after which it accepts no more tasks, and exits; None for never.
        max_tasks: Tasks after which it exits; None for any number.
        autoexit: What it does when the host is gone.
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
