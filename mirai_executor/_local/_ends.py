"""Describes how processes have ended, and why no daemon can be started."""

import errno
import signal
import sys

from mirai_executor import _wire
from mirai_executor._place import limit_behind
from mirai_executor._version import __version__
from mirai_executor.errors import LaunchError

__all__ = [
    "another",
    "as_launch_error",
    "describe_exit",
    "lacks_room",
    "last_words",
    "memory_hint",
    "misfit",
    "other_package",
]

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)


def describe_exit(code: int | None) -> str:
    """Say how a process ended, from its return code as ``subprocess`` gives it."""
    if code is None:
        return "ended"
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def memory_hint(has_run_out: bool) -> str:
    """Say what has probably ended a process, if it has run out of memory; for a message."""
    if not has_run_out:
        return ""
    return (
        " (by the kernel, it seems: its control group has run out of memory meanwhile, so run "
        "fewer tasks at once, or smaller ones, or raise the limit)"
    )


def last_words(stderr: str) -> str:
    """Return the end of a message that quotes the last output of a process."""
    return f"; last output on stderr:\n{stderr.rstrip()}" if stderr.strip() else ""


def another(known: LaunchError) -> LaunchError:
    """Return the same error once more: each future has its own, with a traceback of its own."""
    error = LaunchError(
        str(known), command=known.command, exitcode=known.exitcode, stderr=known.stderr
    )
    error.__cause__ = known.__cause__
    return error


def lacks_room(error: BaseException | None) -> bool:
    """Tell whether a process could not be started only because a limit has been reached."""
    if isinstance(error, LaunchError):
        error = error.__cause__
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def as_launch_error(error: BaseException) -> LaunchError:
    """Return an error of any kind as the reason why no daemon could be started."""
    if isinstance(error, LaunchError):
        return error
    limit = limit_behind(error) if isinstance(error, OSError) else ""
    launch_error = LaunchError(f"no daemon could be started: {error}{limit}")
    launch_error.__cause__ = error
    return launch_error


def misfit(hello: _wire.Hello, interpreter: str) -> str:
    """Return why a daemon of this machine cannot work for this process; empty if it can."""
    ours = sys.version_info[:3]
    if hello.python[:2] != ours[:2]:  # code by value would crash it
        return (
            f"{interpreter} is Python {_dotted(hello.python)}, but this process runs Python "
            f"{_dotted(ours)}: daemons need the same minor version, so pass the path of a Python "
            f"{_dotted(ours[:2])} as python="
        )
    if hello.protocol != _wire.PROTOCOL_VERSION or hello.version != __version__:
        return other_package(hello)
    return ""


def other_package(hello: _wire.Hello) -> str:
    """Say that a daemon and this process have different versions of this package."""
    return (
        f"the daemon runs mirai_executor {hello.version} (protocol {hello.protocol}), but its "
        f"host runs {__version__} (protocol {_wire.PROTOCOL_VERSION})"
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
