"""Says what an executor does at one moment, as data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from ._host import HostView

__all__ = ["DaemonStatus", "Info", "Status"]


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """One daemon in :class:`Status`.

    Attributes:
        pid: Its process id.
        host: The name of the machine that it runs on.
        state: "starting", "ready", "busy", "leaving" or "killed".
        tasks: How many tasks it has done.
    """

    pid: int
    host: str
    state: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Status:
    """What an executor is doing, at one moment.

    Attributes:
        connections: How many daemons are connected.
        daemons: The URL at which daemons connect, None where they are local.
        awaiting: Tasks in the queue.
        executing: Tasks at daemons.
        completed: Tasks that have ended, however they did.
        rows: The daemons, in the order in which they were started.
        refused: Connections that were turned away, since they did not prove to be daemons.
    """

    connections: int
    daemons: str | None
    awaiting: int
    executing: int
    completed: int
    rows: tuple[DaemonStatus, ...]
    refused: int = 0

    @classmethod
    def of(cls, view: "HostView | None", url: str | None) -> Self:
        """Return what a host was seen to do; None is one that has not begun."""
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
        )


@dataclass(frozen=True, slots=True)
class Info:
    """mirai's five counters.

    Attributes:
        connections: Daemons connected now.
        cumulative: Daemons that have ever connected.
        awaiting: Tasks in the queue.
        executing: Tasks at daemons.
        completed: Tasks that have ended, however they did.
    """

    connections: int
    cumulative: int
    awaiting: int
    executing: int
    completed: int

    @classmethod
    def of(cls, view: "HostView | None") -> Self:
        """Return what a host was seen to do; None is one that has not begun."""
        if view is None:
            return cls(0, 0, 0, 0, 0)
        return cls(
            view.connections, view.cumulative, view.awaiting, view.executing, view.completed
        )
