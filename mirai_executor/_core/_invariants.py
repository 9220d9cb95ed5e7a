"""Says what is true of every dispatcher between any two events."""

from collections.abc import Iterable

from ._fleet import DaemonRecord, FleetTable
from ._matching import Ending, companions_of_next
from ._tasks import Alarm, AlarmKind, TaskState, TaskTable
from .messages import DaemonState, Policy

# What is said before the story of a dispatcher that has failed.
THIS_IS_A_BUG = (
    'this is a bug in mirai_executor; please report it, as "How to report a bug" in its '
    "documentation says, with the last events and commands of its scheduler:"
)


def check_invariants(
    policy: Policy,
    tasks: TaskTable,
    fleet: FleetTable,
    alarms: Iterable[Alarm],
    ending: Ending,
) -> None:
    """Raise AssertionError if the state is one that must never be."""
    _check_tasks(tasks)
    _check_fleet(fleet, policy)
    for daemon in fleet.daemons.values():
        _check_daemon(daemon)
    _check_who_holds_what(tasks, fleet)
    _check_nothing_waits_in_vain(policy, tasks, fleet, cancelling=ending.cancelling)
    _check_nothing_takes_for_ever(policy, tasks, fleet, alarms)
    if ending.closing and not tasks.open:
        assert not fleet.idle, "an idle daemon is kept after all is done"


def _check_tasks(tasks: TaskTable) -> None:
    queued = list(tasks.queue)
    held = [id_ for id_, task in tasks.open.items() if task.state is TaskState.HELD]
    dealt = [id_ for id_, task in tasks.open.items() if task.state is TaskState.DEALT]
    assert queued == sorted(queued, key=tasks.place_of), "not first in, first out"
    assert sorted([*queued, *held, *dealt]) == sorted(tasks.open), "a stray task"
    assert tasks.executing == len(held)


def _check_fleet(fleet: FleetTable, policy: Policy) -> None:
    daemons = list(fleet.daemons.values())
    states = [daemon.state for daemon in daemons]
    on_rota = [d for d in daemons if d.is_usable and not d.asked_to_leave]
    assert fleet.counts == {state: states.count(state) for state in DaemonState}
    assert sum(daemon.launched for daemon in daemons) <= fleet.max_daemons
    assert sorted(fleet.idle) == [d.id for d in daemons if d.is_free], "a free daemon is not idle"
    assert sorted(d.id for d in fleet.rota) == [d.id for d in on_rota]
    stacked = [d.id for d in daemons if len(d.held) > 1 and d.is_usable]
    assert sorted(fleet.stacked) == stacked, "tasks that wait are overlooked"
    assert all(d.held and d.is_usable for d in fleet.shared.values()), "there is nobody to join"
    assert all(len(d.held) <= d.concurrency for d in fleet.shared.values()), "too many at once"


def _check_daemon(daemon: DaemonRecord) -> None:
    assert not (daemon.held and daemon.broadcasting), "more than one thing at a time"
    assert daemon.ahead < max(1, len(daemon.held)), "a frame waits behind nothing"
    assert daemon.due or not daemon.broadcasting
    assert daemon.broadcasting or not daemon.stopping
    assert not (daemon.is_free and (daemon.due or daemon.dealt)), "it has something to do"
    assert not (daemon.is_free and daemon.asked_to_leave), "it is kept against its will"
    assert not daemon.dealt or (daemon.is_usable and not daemon.asked_to_leave)
    if daemon.state in (DaemonState.STARTING, DaemonState.LEAVING):
        assert daemon.is_resting, "it does something while it cannot"


def _check_who_holds_what(tasks: TaskTable, fleet: FleetTable) -> None:
    for id_, task in tasks.open.items():
        if task.state is TaskState.HELD:
            assert id_ in fleet.daemons[task.daemon].held, "its daemon does not know"
        elif task.state is TaskState.DEALT:
            assert id_ in fleet.daemons[task.daemon].dealt, "its daemon does not know"
    for daemon in fleet.daemons.values():
        held = [tasks.open[id_].daemon for id_ in daemon.held if id_ in tasks.open]
        dealt = [tasks.open[id_].daemon for id_ in daemon.dealt]
        assert {*held, *dealt} <= {daemon.id}, "two daemons claim one task"


def _check_nothing_waits_in_vain(
    policy: Policy, tasks: TaskTable, fleet: FleetTable, *, cancelling: bool
) -> None:
    waiting = [id_ for id_ in tasks.open if tasks.is_waiting(id_)]
    assert not (tasks.queue and fleet.idle), "an idle daemon beside a queue"
    assert policy.direct or not companions_of_next(fleet, tasks), "room beside others is not used"
    assert not (waiting and fleet.broken), "a task waits for a daemon that cannot come"
    if cancelling:
        assert len(waiting) <= fleet.usable_count, "a task waits for what will not begin"
    elif policy.launches and len(fleet.daemons) < fleet.max_daemons and fleet.shortage is None:
        assert len(tasks.queue) <= fleet.counts[DaemonState.STARTING], "no daemon was launched"


def _check_nothing_takes_for_ever(
    policy: Policy, tasks: TaskTable, fleet: FleetTable, alarms: Iterable[Alarm]
) -> None:
    armed = {(alarm.kind, alarm.daemon) for alarm in alarms}
    for id_, daemon in fleet.daemons.items():
        match daemon.state:
            case DaemonState.STARTING:
                assert (AlarmKind.START, id_) in armed
            case DaemonState.LEAVING:
                assert (AlarmKind.LEAVE, id_) in armed
            case DaemonState.READY if any(task not in tasks.open for task in daemon.held):
                assert (AlarmKind.GRACE, id_) in armed
            case DaemonState.READY if daemon.is_free and daemon.idle_time is not None:
                assert (AlarmKind.IDLE, id_) in armed
