"""Answers questions about a host: which tasks and daemons it has, and when those are ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirai_executor._core import DaemonState
from mirai_executor._typing import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mirai_executor._core import DaemonId, Dispatcher
    from mirai_executor._waiting import Reply

    Ready = tuple[int, Reply[None]]


class DaemonRow(Record):
    """One daemon in :class:`HostView`."""

    pid: int
    host: str
    state: str
    tasks: int
    seat: str = ""


class WaitView(Record):
    """Tasks that wait while no daemon is connected."""

    tasks: int
    seconds: float
    requested: int
    said: str


class AfarView(Record):
    """What only an executor with daemons elsewhere has; ``coming`` are requests."""

    refused: int = 0
    waiting: WaitView | None = None
    failures: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()


class HostView(Record):
    """How many tasks there are, and how far each daemon has come."""

    awaiting: int
    executing: int
    completed: int
    connections: int
    cumulative: int
    daemons: tuple[DaemonRow, ...]
    refused: int = 0
    shortage: str = ""
    waiting: WaitView | None = None
    failures: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()


def picture(
    dispatcher: Dispatcher,
    daemons: Iterable[tuple[DaemonId, int, str, str]],
    afar: AfarView,
    shortage: str,
    departures: tuple[str, ...],
) -> HostView:
    """Return what there is to see at this moment.

    Args:
        dispatcher: Knows the tasks, and what daemons do.
        daemons: The process id of each, its machine, and its seat there.
        afar: What there is to say of daemons elsewhere.
        shortage: Why there are fewer daemons than there should be, if there are.
        departures: Why daemons of other machines have left.
    """
    view = dispatcher.view()
    rows = []
    for id_, pid, host, seat in daemons:
        daemon = view.daemons[id_]
        busy = daemon.busy and daemon.state is DaemonState.READY
        state = "busy" if busy else daemon.state.value
        rows.append(DaemonRow(pid, host, state, daemon.tasks_done, seat))
    return HostView(
        awaiting=view.awaiting,
        executing=view.executing,
        completed=view.completed,
        connections=dispatcher.ready_count,
        cumulative=view.cumulative,
        daemons=tuple(rows),
        refused=afar.refused,
        shortage=shortage if view.is_short else "",
        waiting=afar.waiting,
        failures=afar.failures,
        departures=departures,
        coming=afar.coming,
    )


def answer_ready(
    questions: list[Ready], dispatcher: Dispatcher, launch_error: Callable[[], Exception]
) -> None:
    """Answer those who wait until so many daemons are ready, if it is time.

    Args:
        questions: How many daemons each waits for, and where it waits; those answered are removed.
        dispatcher: Knows how many are ready.
        launch_error: Says why none can be started.
    """
    for entry in list(questions):
        count, answer = entry
        if dispatcher.is_broken or dispatcher.falls_short_of(count):
            answer.set_exception(launch_error())
        elif dispatcher.has_come(count):
            answer.set_result(None)
        else:
            continue
        questions.remove(entry)
