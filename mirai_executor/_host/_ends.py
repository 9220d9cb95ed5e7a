"""Describes how processes have ended, and why no daemon can be started."""

import signal

from mirai_executor._place import limit_behind
from mirai_executor.errors import LaunchError

__all__ = ["another", "as_launch_error", "describe_exit", "last_words"]


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


def as_launch_error(error: BaseException) -> LaunchError:
    """Return an error of any kind as the reason why no daemon could be started."""
    if isinstance(error, LaunchError):
        return error
    limit = limit_behind(error) if isinstance(error, OSError) else ""
    launch_error = LaunchError(f"no daemon could be started: {error}{limit}")
    launch_error.__cause__ = error
    return launch_error
