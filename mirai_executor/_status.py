"""Describes what an executor does at one moment, as data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ._host import HostView

__all__ = ["DaemonStatus", "Info", "Status"]


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """One daemon in :class:`Status`. Immutable.

    Attributes:
        pid: Its process id.
        host: The name of the machine that it runs on.
        state: ``"starting"``, ``"ready"``, ``"busy"``, ``"leaving"`` or ``"killed"``.
        tasks: How many tasks it has finished.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     executor.submit(abs, -1).result()
        ...     row = executor.status().rows[0]
        ...     row.state, row.tasks
        1
        ('ready', 1)
    """

    pid: int
    host: str
    state: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot of an executor, returned by :meth:`MiraiExecutor.status`. Immutable.

    Attributes:
        connections: How many daemons are connected.
        url: The address to which daemons connect; None if they are local.
        daemons: The same, by mirai's name.
        awaiting: How many tasks are queued.
        executing: How many tasks have been sent to daemons and are not finished.
        completed: How many tasks have ended, in whatever way.
        rows: The daemons, in the order in which they were started.
        refused: How many connections were turned away because they did not authenticate.
        shortage: Why there are fewer daemons than there is work for, where a limit of the system
            leaves no room for another one; else empty. More are started once there is room.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     list(executor.map(abs, [-1, -2, -3]))
        ...     status = executor.status()
        ...     status.connections, status.completed, len(status.rows)
        [1, 2, 3]
        (1, 3, 1)
    """

    connections: int
    daemons: str | None
    awaiting: int
    executing: int
    completed: int
    rows: tuple[DaemonStatus, ...]
    refused: int = 0
    shortage: str = ""

    @property
    def url(self) -> str | None:
        """The address to which daemons connect, as ``daemons`` has it.

        Example:
            >>> with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
            ...     executor.status().url == executor.url
            True
        """
        return self.daemons

    @classmethod
    def of(cls, view: "HostView | None", url: str | None) -> Self:
        """Build the snapshot from a host's; None stands for a host that has not started."""
        if view is None:
            return cls(0, url, 0, 0, 0, ())
        return cls(
            connections=view.connections,
            daemons=url,
            awaiting=view.awaiting,
            executing=view.executing,
            completed=view.completed,
            rows=tuple(DaemonStatus(d.pid, d.host, d.state, d.tasks) for d in view.daemons),
            refused=view.refused,
            shortage=view.shortage,
        )


@dataclass(frozen=True, slots=True)
class Info:
    """mirai's five counters, returned by :meth:`MiraiExecutor.info`. Immutable.

    Attributes:
        connections: How many daemons are connected now.
        cumulative: How many daemons have ever connected.
        awaiting: How many tasks are queued.
        executing: How many tasks have been sent to daemons and are not finished.
        completed: How many tasks have ended, in whatever way.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     executor.submit(abs, -1).result()
        ...     executor.info()
        1
        Info(connections=1, cumulative=1, awaiting=0, executing=0, completed=1)
    """

    connections: int
    cumulative: int
    awaiting: int
    executing: int
    completed: int

    @classmethod
    def of(cls, view: "HostView | None") -> Self:
        """Build the counters from a host's; None stands for a host that has not started."""
        if view is None:
            return cls(0, 0, 0, 0, 0)
        return cls(
            view.connections, view.cumulative, view.awaiting, view.executing, view.completed
        )
