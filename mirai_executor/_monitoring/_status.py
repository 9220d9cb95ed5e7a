"""Describes what an executor does at one moment, as data."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from mirai_executor._host import Gate, HostView

_MOST_ROWS = 20  # that are shown: a repr of hundreds of daemons would be read by nobody


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
class Waiting:
    """Tasks that wait while no daemon is connected, in :class:`Status`. Immutable.

    After 30 seconds of that, a warning in the log says the same.

    Attributes:
        tasks: How many wait.
        seconds: For how long they have waited since a daemon was connected last, if one ever was.
        requested: How many daemons have been requested and have not connected.
        said: What the launcher printed or answered, or why it failed; empty if that was nothing.

    Example:
        >>> executor = MiraiExecutor(url=local_url())
        >>> future = executor.submit(abs, -1)
        >>> waiting = executor.status().waiting
        >>> waiting.tasks, waiting.requested
        (1, 0)
        >>> executor.shutdown(cancel_futures=True)
    """

    tasks: int
    seconds: float
    requested: int
    said: str

    def __str__(self) -> str:
        said = f"; {self.said}" if self.said else ""
        those = "1 task has" if self.tasks == 1 else f"{self.tasks} tasks have"
        return (
            f"{those} waited for {self.seconds:.0f} s, and no daemon is connected; "
            f"{self.requested} requested{said}"
        )


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """The bytes of calls that are queued, in :class:`Status`. Immutable.

    They are those of pickled arguments: of tasks that no daemon has been sent yet, without arrays
    that are shared (:meth:`MiraiExecutor.share`), and without functions.

    Attributes:
        used: How many there are now.
        peak: The most that there have been.
        capacity: How many there may be: the ``memory`` of the executor.

    Example:
        >>> with MiraiExecutor(1, memory=1_000_000) as executor:
        ...     executor.submit(len, b"x" * 1000).result()
        ...     memory = executor.status().memory
        ...     memory.used, memory.peak > 1000, memory.capacity
        1000
        (0, True, 1000000)
    """

    used: int
    peak: int
    capacity: int

    def __str__(self) -> str:
        return f"{self.used:,} of {self.capacity:,} bytes queued, {self.peak:,} at most so far"


@dataclass(frozen=True, slots=True, repr=False)
class Status:
    """A snapshot of an executor, returned by :meth:`MiraiExecutor.status`. Immutable.

    Its ``repr`` has a line for each daemon, of 20 at most; notebooks show a table.

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
        waiting: The tasks that wait while no daemon is connected to a ``url``; else None.
        failures: Why daemons could not be requested the last time, or some of them; a machine
            that cannot be reached, for instance.
        departures: Why the last daemons that connect to a ``url`` have left or were lost, five of
            them at most; the log has the same at level INFO.
        memory: The bytes of calls that are queued; None if the executor has no ``memory``.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     list(executor.map(abs, [-1, -2, -3]))
        ...     status = executor.status()
        ...     status.connections, status.completed, len(status.rows)
        [1, 2, 3]
        (1, 3, 1)
        >>> MiraiExecutor(2).status()
        <Status: 0 daemons connected; tasks: 0 awaiting, 0 executing, 0 completed>
    """

    connections: int
    daemons: str | None
    awaiting: int
    executing: int
    completed: int
    rows: tuple[DaemonStatus, ...]
    refused: int = 0
    shortage: str = ""
    waiting: Waiting | None = None
    failures: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    memory: MemoryStatus | None = None

    @property
    def url(self) -> str | None:
        """The address to which daemons connect, as ``daemons`` has it.

        Example:
            >>> with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
            ...     executor.status().url == executor.url
            True
        """
        return self.daemons

    def __repr__(self) -> str:
        lines = [
            f"  pid {row.pid} on {row.host}: {row.state}, {row.tasks} tasks done"
            for row in self.rows[:_MOST_ROWS]
        ]
        return "\n".join([f"<Status: {self._summary()}>", *lines, *self._rest()])

    def _repr_html_(self) -> str:
        """Return a table, which notebooks show."""
        from html import escape  # few run in a notebook

        heads = "".join(f"<th>{head}</th>" for head in ("pid", "host", "state", "tasks done"))
        rows = [
            f"<tr><td>{row.pid}</td><td>{escape(row.host)}</td><td>{escape(row.state)}</td>"
            f"<td>{row.tasks}</td></tr>"
            for row in self.rows[:_MOST_ROWS]
        ]
        table = f"<table><tr>{heads}</tr>{''.join(rows)}</table>" if rows else ""
        rest = "".join(f"<p>{escape(line.strip())}</p>" for line in self._rest())
        return f"<p>{escape(self._summary())}</p>{table}{rest}"

    def _summary(self) -> str:
        parts = [
            f"{self.connections} {'daemon' if self.connections == 1 else 'daemons'} connected",
            f"tasks: {self.awaiting} awaiting, {self.executing} executing, "
            f"{self.completed} completed",
        ]
        if self.url is not None:
            parts.append(f"at {self.url}")
        if self.refused:
            parts.append(f"{self.refused} connections refused")
        if self.memory is not None:
            parts.append(str(self.memory))
        return "; ".join(parts)

    def _rest(self) -> list[str]:
        left_out = len(self.rows) - _MOST_ROWS
        lines = [f"  and {left_out} more"] if left_out > 0 else []
        if self.shortage:
            lines.append(f"  no room for more: {self.shortage}")
        if self.waiting is not None:
            lines.append(f"  {self.waiting}")
        lines += [f"  a launch has failed: {why}" for why in self.failures]
        return [*lines, *(f"  {departure}" for departure in self.departures)]

    @classmethod
    def of(cls, view: "HostView | None", url: str | None, gate: "Gate | None") -> Self:
        """Build the snapshot from a host's; None stands for a host that has not started."""
        memory = None if gate is None else MemoryStatus(*gate.picture())
        if view is None:
            return cls(0, url, 0, 0, 0, (), memory=memory)
        return cls(
            connections=view.connections,
            daemons=url,
            awaiting=view.awaiting,
            executing=view.executing,
            completed=view.completed,
            rows=tuple(DaemonStatus(d.pid, d.host, d.state, d.tasks) for d in view.daemons),
            refused=view.refused,
            shortage=view.shortage,
            waiting=_waiting(view),
            failures=view.failures,
            departures=view.departures,
            memory=memory,
        )


def _waiting(view: "HostView") -> Waiting | None:
    found = view.waiting
    if found is None:
        return None
    return Waiting(found.tasks, found.seconds, found.requested, found.said)


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
