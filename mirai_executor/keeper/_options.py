"""The options of a daemon that connects, and the meaning of its exit codes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from mirai_executor._daemon_options import DaemonOptions
from mirai_executor.urls import Url

HOST = "MIRAI_EXECUTOR_HOST"
_DAEMONS, _SEAT = "MIRAI_EXECUTOR_DAEMONS", "MIRAI_EXECUTOR_SEAT"  # as launchers set them


class ExitCode(IntEnum):
    """Why a daemon has ended."""

    DONE = 0  # its host released it, or has ended
    USAGE = 2  # invalid command line or environment
    UNREACHABLE = 10  # no answer at any address of the host
    UNTRUSTED = 11  # the certificate at the host's address is not trusted
    WRONG_SECRET = 12  # the host belongs to another executor
    WRONG_VERSION = 13  # host and daemon have different versions of Python, or of this package
    # No interpreter for tasks could be started, or none stayed up; or a package is missing.
    BROKEN = 14
    WRONG_MODE = 15  # the host's dispatcher mode is not the requested one
    INTERRUPTED = 130  # by Ctrl-C
    TERMINATED = 143  # by SIGTERM, as schedulers end a job


@dataclass(frozen=True, kw_only=True)
class KeeperOptions(DaemonOptions):
    """The options of a daemon, and where it connects.

    Args:
        urls: The addresses of its host, best first.
        request: The name of the request that it was started for; empty if started by hand.
    """

    urls: tuple[Url, ...]
    request: str = ""


def daemons_here(environment: Mapping[str, str]) -> int:
    """Return how many daemons were started side by side on this machine, this one included."""
    said = environment.get(_DAEMONS, "")
    return max(1, int(said)) if said.isdecimal() else 1


def seat_here(environment: Mapping[str, str]) -> str:
    """Return the seat that this daemon was given on its machine; empty if it was given none."""
    return environment.get(_SEAT, "")
