"""Asks for more daemons of a profile, and tells what those it has are doing.

All functions of this module are safe from any thread.
"""

from typing import TYPE_CHECKING

from mirai_executor._monitoring._status import Info, Status

from ._profiles import current_or_none, executor_for

if TYPE_CHECKING:
    from typing import Unpack

    from numpy.random import SeedSequence

    from mirai_executor._daemon_options import DaemonKeywords
    from mirai_executor.launchers import Launcher


def launch_local(
    n: int = 1, *, compute: str | None = None, **options: "Unpack[DaemonKeywords]"
) -> int:
    """Start more local daemons for a profile, without waiting for them.

    Args:
        n: How many.
        compute: The name of the profile; by default the current one.
        **options: The same as for :meth:`MiraiExecutor.launch_local`.

    Returns:
        ``n``.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        TypeError: There is no such option, or it has the wrong type.
        ValueError: ``n`` is negative, or an option is out of range.

    Example:
        >>> with daemons(1) as executor:
        ...     launch_local(1)
        ...     executor.wait_ready()
        ...     status().connections
        1
        2
    """
    return executor_for(compute).launch_local(n, **options)


def launch_remote(
    n: int = 1,
    remote: "Launcher | None" = None,
    *,
    compute: str | None = None,
    **options: "Unpack[DaemonKeywords]",
) -> list[str]:
    """Start daemons on other machines for a profile, or return the commands that start them.

    Args:
        n: How many.
        remote: How to start them, as returned by :func:`ssh_config` and the like; by default, as
            given to :func:`daemons`.
        compute: The name of the profile; by default the current one.
        **options: The same as for :meth:`MiraiExecutor.launch_local`.

    Returns:
        The answers of the launcher, or shell commands, as :meth:`MiraiExecutor.launch_remote`
        returns them.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        LaunchError: The launcher failed.
        RuntimeError: The profile has no ``url``.

    Example:
        >>> with daemons(url=local_url(tcp=True)):
        ...     commands = launch_remote(2)
        >>> len(commands)
        2
    """
    return executor_for(compute).launch_remote(n, remote, **options)


def next_stream(compute: str | None = None) -> "SeedSequence | None":
    """Return random entropy for a use of your own, as the next task would have had it.

    Args:
        compute: The name of the profile; by default the current one.

    Returns:
        ``SeedSequence(seed, spawn_key=(index,))``; None if the profile has no ``seed``.

    Raises:
        DaemonsNotSetError: The profile has no daemons.
        ImportError: NumPy is not installed.

    Example:
        >>> with daemons(2, seed=42):
        ...     next_stream().spawn_key
        (0,)
    """
    return executor_for(compute).next_stream()


def status(compute: str | None = None) -> Status:
    """Return a snapshot of a profile; an empty one if no default daemons are set.

    Args:
        compute: The name of the profile; by default the current one.

    Raises:
        DaemonsNotSetError: There is no such profile.

    Example:
        >>> with daemons(2):
        ...     status().connections
        2
    """
    executor = executor_for(compute) if compute is not None else current_or_none()
    return executor.status() if executor is not None else Status(0, None, 0, 0, 0, ())


def info(compute: str | None = None) -> Info:
    """Return mirai's five counters; zeros if no default daemons are set.

    Args:
        compute: The name of the profile; by default the current one.

    Raises:
        DaemonsNotSetError: There is no such profile.

    Example:
        >>> with daemons(2):
        ...     info()
        Info(connections=2, cumulative=2, awaiting=0, executing=0, completed=0)
    """
    executor = executor_for(compute) if compute is not None else current_or_none()
    return executor.info() if executor is not None else Info(0, 0, 0, 0, 0)
