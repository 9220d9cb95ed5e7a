"""Whatever happens in whatever order, the dispatcher keeps its promises."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import assert_never

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from budget import Budget
from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastCancelRequested,
    BroadcastId,
    CancelRequested,
    Command,
    DaemonId,
    DaemonLost,
    DaemonReady,
    DaemonsAdded,
    DaemonsRequested,
    DismissDaemon,
    Dispatcher,
    Event,
    EverywhereRequested,
    FailBroadcast,
    FailTask,
    Failure,
    ForgetBroadcast,
    InitializerFailed,
    InterruptBroadcast,
    InterruptTask,
    KillDaemon,
    KillRequested,
    LaunchDaemon,
    LaunchFailed,
    LeaveRequested,
    ListeningEnded,
    Policy,
    RecallTasks,
    ReportShortage,
    ReportWait,
    ResolveTasks,
    RestartRequested,
    SendBroadcast,
    SendTasks,
    ShutdownRequested,
    TaskId,
)
from mirai_executor._core._tasks import AlarmKind

from .shorthand import result_arrived, submitted

POLICIES = st.builds(
    Policy,
    max_daemons=st.integers(1, 4),
    launches=st.sampled_from([True, True, True, False]),
    direct=st.sampled_from([False, False, True]),
    max_tasks=st.none() | st.integers(1, 3),
    idle_time=st.none() | st.sampled_from([0.5, 4.0]),
    start_timeout=st.just(6.0),
    cancel_grace=st.just(2.0),
    leave_grace=st.just(3.0),
    failed_starts=st.sampled_from([2, 50]),
    failure_window=st.just(5.0),
)

NOBODY = DaemonId(10_000)
NOTHING = TaskId(20_000)


@dataclass(eq=False)
class Task:
    """What the caller of ``submit`` knows."""

    id: TaskId
    deadline: float | None
    run_timeout: float | None
    retries: int
    sent_at: float = 0
    executions: int = 0
    cancelled: bool = False


@dataclass(eq=False)
class Daemon:
    """What goes on in a daemon process."""

    id: DaemonId
    launched: bool
    since: float  # its present state, or its idleness
    due: deque[BroadcastId]
    state: str = "starting"  # then "ready", "dismissed", "killed"
    holds: Task | None = None
    stopped_at: float | None = None  # was told to let go of what it holds
    runs: BroadcastId | None = None
    asked_to_leave: bool = False
    overdue: bool = False
    sent: int = 0
    done: int = 0

    @property
    def is_free(self) -> bool:
        return self.state == "ready" and self.holds is None and self.runs is None


@dataclass
class World:
    """Daemons that do as they please, and what the dispatcher made of it so far."""

    policy: Policy
    now: float = 100.0
    tasks: dict[TaskId, Task] = field(default_factory=dict)  # in the order of submission
    ended: dict[TaskId, str] = field(default_factory=dict)
    daemons: dict[DaemonId, Daemon] = field(default_factory=dict)
    broadcasts: list[BroadcastId] = field(default_factory=list)  # that who joins has to run
    done: set[BroadcastId] = field(default_factory=set)
    failed_starts: list[float] = field(default_factory=list)
    expects_daemons: bool = False  # for another reason than tasks
    broken: bool = False
    closing: bool = False
    cancelling: bool = False
    spared: set[TaskId] = field(default_factory=set)  # daemons were on their way for these
    answering: TaskId | None = None
    losing: Daemon | None = None
    begun: bool = False
    is_closed: bool = False  # no daemon comes any more
    is_waiting: bool = False  # nothing happens but that time passes

    def __post_init__(self) -> None:
        self.max_daemons = self.policy.max_daemons

    @property
    def losing_id(self) -> DaemonId | None:
        return None if self.losing is None else self.losing.id

    def open(self) -> list[Task]:
        return [task for id_, task in self.tasks.items() if id_ not in self.ended]

    def holder(self, task: Task) -> Daemon | None:
        daemons = self.daemons.values()
        return next((d for d in daemons if d.holds is task and d is not self.losing), None)

    def waiting(self) -> list[Task]:
        return [task for task in self.open() if self.holder(task) is None]

    def having(self, *states: str) -> list[Daemon]:
        return [daemon for daemon in self.daemons.values() if daemon.state in states]

    def deadlines(self) -> Iterable[float]:
        """Every moment at which something has to happen."""
        for task in self.open():
            if task.deadline is not None:
                yield task.deadline
            if task.run_timeout is not None and self.holder(task) is not None:
                yield task.sent_at + task.run_timeout
        for daemon in self.daemons.values():
            yield from self._deadlines_of(daemon)

    def _deadlines_of(self, daemon: Daemon) -> Iterable[float]:
        if daemon.state == "starting":
            yield daemon.since + self.policy.start_timeout
        if daemon.state == "ready" and daemon.stopped_at is not None:
            yield daemon.stopped_at + self.policy.cancel_grace
        if daemon.state == "dismissed":
            yield daemon.since + self.policy.leave_grace
        if daemon.is_free and self.policy.idle_time is not None:
            yield daemon.since + self.policy.idle_time

    # Carrying out commands, and asking of each whether it may be

    def carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:  # noqa: C901, PLR0912, PLR0915 - a branch for each command
        match command:
            case ResolveTasks(tasks):
                assert tasks == (self.answering,), "resolved by the wrong result"
                self._end(tasks[0], "resolved")
            case FailTask(task, failure, holder):
                self._check_failure(self.tasks[task], failure, holder)
                self._end(task, failure.value)
            case SendTasks(id_, tasks):
                (task,) = tasks  # one of unknown duration travels alone
                self._send(self.daemons[id_], self.tasks[task])
            case InterruptTask(id_, task):
                self._interrupt(self.daemons[id_], self.tasks[task])
            case SendBroadcast(id_, broadcast):
                self._broadcast(self.daemons[id_], broadcast)
            case FailBroadcast(id_, broadcast, failure_or_none):
                self._fail_share(self.daemons[id_], broadcast, failure_or_none)
            case InterruptBroadcast(id_, broadcast):
                self._interrupt_share(self.daemons[id_], broadcast)
            case ForgetBroadcast(broadcast):
                self._forget(broadcast)
            case LaunchDaemon(id_):
                self._launch(id_)
            case DismissDaemon(id_):
                self._dismiss(self.daemons[id_])
            case KillDaemon(id_, overdue):
                self._kill(self.daemons[id_], overdue=overdue)
            case ReportShortage():
                assert self.having("ready"), "there is nobody to go on"
            case ReportWait(tasks):
                assert tasks, "nobody waits"
                assert not self.having("ready"), "what waits is served"
            case RecallTasks():
                raise AssertionError("each task travels alone: there is nothing to take back")
            case _:
                assert_never(command)

    def _interrupt(self, daemon: Daemon, task: Task) -> None:
        assert daemon.state == "ready", "only a live daemon can be interrupted"
        assert daemon.holds is task, "an interrupt hits the wrong task"
        daemon.stopped_at = self.now

    def _interrupt_share(self, daemon: Daemon, broadcast: BroadcastId) -> None:
        assert daemon.state == "ready", "only a live daemon can be interrupted"
        assert daemon.runs == broadcast, "an interrupt hits the wrong share"
        assert daemon.stopped_at is None, "interrupted twice"
        daemon.stopped_at = self.now
        self._withdraw(broadcast)

    def _fail_share(self, daemon: Daemon, broadcast: BroadcastId, failure: Failure | None) -> None:
        if failure is None:
            assert self.cancelling or daemon is self.losing
            daemon.due.remove(broadcast)
        elif daemon.runs != broadcast:  # else it has been interrupted
            daemon.due.remove(broadcast)
            self._withdraw(broadcast)

    def _forget(self, broadcast: BroadcastId) -> None:
        assert broadcast not in self.broadcasts, "a daemon that joins later needs it"
        others = [daemon for daemon in self.daemons.values() if daemon is not self.losing]
        assert not any(broadcast in daemon.due for daemon in others), "it has still to run"

    def _withdraw(self, broadcast: BroadcastId) -> None:
        """What was stopped wherever it was to run, runs at no daemon that joins later."""
        owed = [d for d in self.daemons.values() if broadcast in d.due]
        stopped = [d for d in owed if d.runs == broadcast and d.stopped_at is not None]
        if broadcast in self.broadcasts and broadcast not in self.done and owed == stopped:
            self.broadcasts.remove(broadcast)

    def _broadcast(self, daemon: Daemon, broadcast: BroadcastId) -> None:
        assert daemon.is_free, "a daemon has one thing to do at a time"
        assert daemon.due[0] == broadcast, "each broadcast once, in order"
        daemon.runs = broadcast

    def _dismiss(self, daemon: Daemon) -> None:
        assert daemon.is_free, "dismissed with something to do"
        self.let_leave(daemon)

    def let_leave(self, daemon: Daemon) -> None:
        """Note that a daemon is about to end."""
        daemon.state, daemon.since = "dismissed", self.now

    def _end(self, task: TaskId, how: str) -> None:
        assert task in self.tasks
        assert task not in self.ended, "a task ended twice"
        self.ended[task] = how

    def _launch(self, id_: DaemonId) -> None:
        alive = [d for d in self.daemons.values() if d is not self.losing]
        assert id_ not in self.daemons
        assert self.policy.launches
        assert not self.broken, "launched what cannot start"
        assert not self.cancelling, "launched for nothing"
        assert len(alive) < self.max_daemons, "too many daemons"
        starting = len(self.having("starting"))
        if not self.expects_daemons and not self.policy.direct:
            assert starting < len(self.waiting()), "more daemons than the work needs"
        self.join(id_, launched=True)

    def join(self, id_: DaemonId, *, launched: bool) -> None:
        due = deque(self.broadcasts)
        self.daemons[id_] = Daemon(id_, launched, self.now, due)

    def _send(self, daemon: Daemon, task: Task) -> None:
        assert daemon.is_free, "a daemon has one thing to do at a time"
        assert not daemon.due, "a task overtook everywhere"
        assert not daemon.asked_to_leave, "a task for a daemon that wants to go"
        assert not self.cancelling or task.id in self.spared, "begun after all was cancelled"
        assert task.id not in self.ended, "a task that has ended is sent"
        assert self.holder(task) is None, "one task on two daemons"
        assert task.executions <= task.retries, "it runs too often"
        if not self.policy.direct:
            assert task is self.waiting()[0], "not first in, first out"
        daemon.holds, daemon.stopped_at = task, None
        daemon.sent += 1
        task.sent_at = self.now
        assert self.policy.max_tasks is None or daemon.sent <= self.policy.max_tasks

    def _kill(self, daemon: Daemon, *, overdue: bool) -> None:
        assert daemon.state != "killed", "killed twice"
        is_late = daemon.since + self.policy.start_timeout <= self.now
        # Killed at that very moment for another reason, it is not to blame.
        assert overdue == (daemon.state == "starting" and is_late and self.is_waiting)
        daemon.state, daemon.overdue = "killed", overdue

    def _check_failure(self, task: Task, failure: Failure, holder: DaemonId | None) -> None:
        daemon = self.losing if self.losing and self.losing.holds is task else self.holder(task)
        assert holder == (daemon.id if daemon else None) or failure is Failure.BROKEN
        match failure:
            case Failure.CANCELLED:
                assert task.cancelled or self.cancelling
            case Failure.TIMED_OUT:
                assert task.deadline is not None
                assert task.deadline <= self.now
            case Failure.RUN_TIMED_OUT:
                assert task.run_timeout is not None
                assert task.sent_at + task.run_timeout <= self.now
            case Failure.DAEMON_LOST:
                assert daemon is self.losing, "failed by another daemon's death"
                assert self.begun, "failed though it had not begun"
                assert task.executions > task.retries or self.cancelling
            case Failure.BROKEN:
                self.broken |= self.is_closed and self.daemons.keys() <= {self.losing_id}
                assert self.broken
            case _:
                assert_never(failure)

    # What happens by itself

    def answer_broadcast(self, daemon: Daemon) -> None:
        if daemon.stopped_at is None:
            self.done.add(daemon.due[0])
        daemon.runs, daemon.stopped_at, daemon.since = None, None, self.now

    def answer(self, daemon: Daemon) -> TaskId:
        assert daemon.holds is not None
        task, daemon.holds, daemon.stopped_at = daemon.holds, None, None
        daemon.since, daemon.done = self.now, daemon.done + 1
        if task.id not in self.ended:
            task.executions += 1
            self.answering = task.id
        self.failed_starts.clear()
        return task.id

    def lose(self, daemon: Daemon, *, begun: bool) -> None:
        self.losing, self.begun = daemon, begun and daemon.holds is not None
        if daemon.holds is not None and self.begun:
            daemon.holds.executions += 1
        in_vain = daemon.overdue or (daemon.launched and daemon.state in ("starting", "ready"))
        if in_vain and not daemon.done and not self.begun:
            self.failed_starts.append(self.now)
            recent = self.failed_starts[-self.policy.failed_starts :]
            is_last = self.policy.launches or self.daemons.keys() == {daemon.id}
            if len(recent) == self.policy.failed_starts and is_last:
                self.broken |= self.now - recent[0] <= self.policy.failure_window
        daemon.state = "lost"


class DispatcherMachine(RuleBasedStateMachine):
    """Tells a dispatcher all that can happen, in any order, and watches what it does."""

    world: World
    dispatcher: Dispatcher
    has_failed = True

    # Most stories go on until the teardown: after a shutdown, little happens.
    @initialize(policy=POLICIES, tasks_before_the_end=st.sampled_from([5, 30, 1000, 1000]))
    def begin(self, policy: Policy, tasks_before_the_end: int) -> None:
        self.tasks_before_the_end = tasks_before_the_end
        self.world = World(policy)
        self.dispatcher = Dispatcher(policy)
        self.next_id = 0
        self.has_failed = False

    def tell(self, event: Event) -> None:
        world = self.world
        self.has_failed = True
        world.carry_out(self.dispatcher.handle(event, world.now))
        self.has_failed = False
        world.answering = None
        if world.losing is not None:
            assert not world.losing.due, "a share of everywhere was forgotten"
            del world.daemons[world.losing.id]
            world.losing, world.begun = None, False

    @property
    def may_end(self) -> bool:
        return len(self.world.tasks) > self.tasks_before_the_end

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def pick(self, data: st.DataObject, wanted: Callable[[Daemon], bool]) -> Daemon:
        daemons = [daemon for daemon in self.world.daemons.values() if wanted(daemon)]
        return data.draw(st.sampled_from(daemons))

    # The host

    @rule(
        timeout=st.none() | st.sampled_from([0.0, 1.0, 5.0]),
        run_timeout=st.none() | st.sampled_from([0.0, 1.0, 5.0]),
        retries=st.sampled_from([0, 0, 1, 2]),
    )
    def submit(self, timeout: float | None, run_timeout: float | None, retries: int) -> None:
        id_ = TaskId(self.new_id())
        id_ = TaskId(-id_ if id_ % 5 == 0 else id_)  # ids of several threads need not rise
        deadline = None if timeout is None else self.world.now + timeout
        self.world.tasks[id_] = Task(id_, deadline, run_timeout, retries)
        self.tell(submitted(id_, timeout, run_timeout, retries))

    @rule(count=st.integers(1, 5))
    def submit_plain_tasks(self, count: int) -> None:
        for _ in range(count):
            self.submit(None, None, 0)

    @precondition(lambda self: self.world.tasks)
    @rule(data=st.data(), running=st.booleans(), was_open=st.booleans())
    def cancel(self, data: st.DataObject, *, running: bool, was_open: bool) -> None:
        tasks = (self.world.open() if was_open else []) or list(self.world.tasks.values())
        task = data.draw(st.sampled_from(tasks))
        was_waiting = task in self.world.waiting()
        was_open = task in self.world.open()
        task.cancelled |= running or was_waiting
        self.tell(CancelRequested(task.id, running))
        if running or was_waiting:
            assert task.id in self.world.ended, "a cancelled task lives on"
        elif was_open:
            assert task.id not in self.world.ended, "cancelled though it ran"

    @rule(count=st.integers(0, 6))
    def request_daemons(self, count: int) -> None:
        self.world.expects_daemons |= not self.world.closing
        self.tell(DaemonsRequested(count))

    @precondition(lambda self: self.world.max_daemons < 6)
    @rule(count=st.integers(1, 2))
    def add_daemons(self, count: int) -> None:
        if not self.world.closing:
            self.world.max_daemons += count
            self.world.expects_daemons = True
        if not (self.world.policy.launches or self.world.is_closed):
            self.world.broken = False  # others were asked for
        self.tell(DaemonsAdded(count))

    @precondition(lambda self: len(self.world.broadcasts) < 2)
    @rule()
    def request_everywhere(self) -> None:
        world, id_ = self.world, BroadcastId(self.new_id())
        if not world.cancelling:
            world.expects_daemons |= not world.closing
            world.broadcasts.append(id_)
            for daemon in world.having("starting", "ready"):
                daemon.due.append(id_)
        self.tell(EverywhereRequested(id_))
        targets = {d.id for d in world.daemons.values() if id_ in d.due}
        assert set(self.dispatcher.targets_of(id_)) == targets

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.world.now += seconds
        self.expire()

    @precondition(lambda self: self.dispatcher.next_deadline() is not None)
    @rule()
    def wait_until_something_has_to_happen(self) -> None:
        deadline = self.dispatcher.next_deadline()
        assert deadline is not None
        self.world.now = max(self.world.now, deadline)
        assert self.expire(), "woken for nothing"

    def expire(self) -> list[Command]:
        if min(self.ends_of_patience(), default=math.inf) <= self.world.now:
            self.world.broken = True
        commands = self.dispatcher.expire(self.world.now)
        self.world.is_waiting = True
        self.world.carry_out(commands)
        self.world.is_waiting = False
        return commands

    @precondition(lambda self: self.may_end)
    @rule(cancel_queued=st.booleans(), cancel_running=st.booleans())
    def shut_down(self, *, cancel_queued: bool, cancel_running: bool) -> None:
        self.world.closing = True
        self.world.cancelling |= cancel_queued
        if not cancel_running:
            front = self.world.waiting()[: len(self.world.having("starting"))]
            self.world.spared.update(task.id for task in front)
        for task in self.world.open() if cancel_running else ():
            task.cancelled |= self.world.holder(task) is not None
        self.tell(ShutdownRequested(cancel_queued, cancel_running))

    @precondition(lambda self: self.may_end)
    @rule()
    def kill(self) -> None:
        self.world.closing = self.world.cancelling = True
        self.tell(KillRequested())
        assert not self.world.having("starting", "ready", "dismissed"), "one was spared"

    # The daemons

    @precondition(lambda self: len(self.world.daemons) < 6 and not self.world.is_closed)
    @rule()
    def join(self) -> None:
        self.world.join(self.dispatcher.adopt_daemon(self.world.now), launched=False)
        self.tell(DaemonReady(NOBODY))  # at the end of a shutdown, any event sends it away

    @precondition(lambda self: self.world.having("starting"))
    @rule(all_of_them=st.booleans())
    def become_ready(self, *, all_of_them: bool) -> None:
        for daemon in self.world.having("starting")[: None if all_of_them else 1]:
            if daemon.state == "starting":  # still
                daemon.state, daemon.since = "ready", self.world.now
                self.world.broken &= self.world.policy.launches  # it has come all the same
                self.tell(DaemonReady(daemon.id))

    @precondition(lambda self: any(d.holds for d in self.world.daemons.values()))
    @rule(data=st.data(), leaving=st.sampled_from([False, False, False, True]))
    def answer(self, data: st.DataObject, *, leaving: bool) -> None:
        daemon = self.pick(data, lambda d: d.holds is not None)
        daemon.asked_to_leave |= leaving
        self.tell(result_arrived(daemon.id, self.world.answer(daemon), leaving))

    @precondition(lambda self: any(d.runs is not None for d in self.world.daemons.values()))
    @rule(all_of_them=st.booleans())
    def answer_everywhere(self, *, all_of_them: bool) -> None:
        busy = [d for d in self.world.daemons.values() if d.runs is not None]
        for daemon in busy[: None if all_of_them else 1]:
            self.world.answer_broadcast(daemon)
            self.tell(BroadcastAnswered(daemon.id, daemon.due.popleft()))

    @precondition(lambda self: any(d.due for d in self.world.daemons.values()))
    @rule(data=st.data(), running=st.booleans())
    def cancel_a_share(self, data: st.DataObject, *, running: bool) -> None:
        daemon = self.pick(data, lambda d: bool(d.due))
        share = data.draw(st.sampled_from(list(daemon.due)))
        is_kept = daemon.runs == share and (not running or daemon.state == "killed")
        before = list(daemon.due)
        self.tell(BroadcastCancelRequested(daemon.id, share, running))
        if is_kept:
            assert list(daemon.due) == before
        else:
            assert share not in daemon.due or daemon.stopped_at is not None

    @rule()
    def do_their_part(self) -> None:
        """Start and answer everywhere, all of them, so that tasks can run."""
        while self.world.having("starting"):
            self.become_ready(all_of_them=True)
        while any(daemon.runs is not None for daemon in self.world.daemons.values()):
            self.answer_everywhere(all_of_them=True)

    @rule(count=st.integers(1, 5))
    def work(self, count: int) -> None:
        """Do one task after the other."""
        self.do_their_part()
        for _ in range(count):
            for daemon in [d for d in self.world.daemons.values() if d.holds is not None][:1]:
                self.tell(result_arrived(daemon.id, self.world.answer(daemon)))

    @precondition(lambda self: self.world.having("ready"))
    @rule(data=st.data(), begun=st.booleans())
    def lose_one_that_is_ready(self, data: st.DataObject, *, begun: bool) -> None:
        self.do_their_part()
        if self.world.having("ready"):
            self.lose_it(self.pick(data, lambda d: d.state == "ready"), begun=begun)

    @precondition(lambda self: self.world.daemons)
    @rule(data=st.data(), begun=st.booleans())
    def lose(self, data: st.DataObject, *, begun: bool) -> None:
        self.lose_it(self.pick(data, lambda d: True), begun=begun)

    def lose_it(self, daemon: Daemon, *, begun: bool) -> None:
        self.world.lose(daemon, begun=begun)
        started = (daemon.holds.id,) if self.world.begun and daemon.holds else ()
        self.tell(DaemonLost(daemon.id, started))

    @precondition(lambda self: len(self.world.daemons) > 1)
    @rule(data=st.data())
    def ask_to_leave(self, data: st.DataObject) -> None:
        daemon = self.pick(data, lambda d: True)
        daemon.asked_to_leave = True
        self.tell(LeaveRequested(daemon.id))

    @rule()
    def restart(self) -> None:
        if not self.world.closing:
            for daemon in self.world.having("starting", "ready"):
                daemon.asked_to_leave = True
        self.tell(RestartRequested())

    @precondition(lambda self: self.may_end and self.world.having("starting"))
    @rule()
    def fail_to_initialize(self) -> None:
        daemon = self.world.having("starting")[0]
        if self.world.policy.launches:
            self.world.broken = True
        elif len(self.world.having("starting", "ready")) > 1:
            self.world.let_leave(daemon)
        else:
            return  # whether others are on their way is a story
        self.tell(InitializerFailed(daemon.id))

    @precondition(lambda self: not self.world.policy.launches and self.may_end)
    @rule()
    def fail_to_launch(self) -> None:
        self.world.broken |= not self.world.daemons
        self.tell(LaunchFailed())

    @precondition(lambda self: not self.world.policy.launches and self.may_end)
    @rule()
    def stop_listening(self) -> None:
        self.world.is_closed = True
        self.tell(ListeningEnded())

    @rule(kind=st.integers(0, 7))
    def say_something_void(self, kind: int) -> None:
        """Tell of what is long over, or of somebody else."""
        some = next(iter(self.world.daemons.values()), None)
        daemon = NOBODY if some is None else some.id
        held = NOTHING if some is None or some.holds is None else some.holds.id
        events: list[Event] = [
            result_arrived(NOBODY, held),
            result_arrived(daemon, NOTHING),
            BroadcastAnswered(NOBODY, BroadcastId(1)),
            BroadcastAnswered(daemon, BroadcastId(NOTHING)),
            DaemonLost(NOBODY, (held,)),
            DaemonReady(NOBODY),
            LeaveRequested(NOBODY),
            CancelRequested(NOTHING),
        ]
        assert self.dispatcher.handle(events[kind], self.world.now) == []

    # The promises

    @invariant()
    def the_dispatcher_agrees_with_itself(self) -> None:
        self.dispatcher.check_invariants()

    @invariant()
    def the_books_are_right(self) -> None:
        world, view = self.world, self.dispatcher.view()
        assert len(world.tasks) == view.awaiting + view.executing + view.completed
        assert view.awaiting == len(world.waiting())
        assert view.completed == len(world.ended)
        assert view.daemons.keys() == world.daemons.keys()
        assert self.dispatcher.ready_count == len(world.having("ready"))
        assert self.dispatcher.is_broken == world.broken

    @invariant()
    def nothing_waits_beside_a_free_daemon(self) -> None:
        world = self.world
        free = [daemon for daemon in world.daemons.values() if daemon.is_free]
        assert not [d for d in free if d.due or d.asked_to_leave]
        if not world.policy.direct:
            assert not (free and world.waiting())
        if world.broken or (world.is_closed and not world.daemons):
            assert not world.waiting(), "a task waits for what cannot come"
        if world.cancelling:
            assert {task.id for task in world.waiting()} <= world.spared
            assert len(world.waiting()) <= len(world.having("starting", "ready"))

    @invariant()
    def it_wakes_exactly_when_something_has_to_happen(self) -> None:
        expected = min([*self.world.deadlines(), *self.ends_of_patience()], default=None)
        assert self.dispatcher.next_deadline() == expected

    def ends_of_patience(self) -> Iterable[float]:
        """When it gives up waiting for anybody to come; whether it waits at all is a story."""
        alarms = self.dispatcher._alarms.pending()
        kinds = (AlarmKind.VAIN, AlarmKind.STRANDED)
        return [alarm.when for alarm in alarms if alarm.kind in kinds]

    def teardown(self) -> None:
        """Let everything come to its end: nothing may be left."""
        if self.has_failed:
            return  # what a failed step left behind would only hide the failure
        self.world.closing = True
        self.tell(ShutdownRequested())
        for _ in range(10_000):
            if self.dispatcher.is_finished:
                break
            self.take_a_step_towards_the_end()
        assert self.dispatcher.is_finished, "stuck"
        assert self.world.ended.keys() == self.world.tasks.keys(), "a task never ended"
        assert self.dispatcher.next_deadline() is None

    def take_a_step_towards_the_end(self) -> None:
        world = self.world
        if not world.daemons:
            self.join()
        busy = [daemon for daemon in world.daemons.values() if not daemon.is_free]
        assert busy, "stuck"
        daemon = busy[0]
        if daemon.holds is not None:
            self.tell(result_arrived(daemon.id, world.answer(daemon)))
        elif daemon.runs is not None:
            world.answer_broadcast(daemon)
            self.tell(BroadcastAnswered(daemon.id, daemon.due.popleft()))
        elif daemon.state == "starting":
            daemon.state, daemon.since = "ready", world.now
            self.tell(DaemonReady(daemon.id))
        else:
            assert daemon.state in ("dismissed", "killed")
            world.lose(daemon, begun=False)
            self.tell(DaemonLost(daemon.id))
        self.dispatcher.check_invariants()


TestDispatcher = pytest.mark.once(
    pytest.mark.slow(pytest.mark.timeout(300)(DispatcherMachine.TestCase))
)
TestDispatcher.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


@pytest.mark.chaos
@pytest.mark.once
def test_the_dispatcher_keeps_its_promises_at_length(budget: Budget) -> None:
    # Without its database: what earlier rounds have tried is not to be tried again.
    at_length = settings(max_examples=25, stateful_step_count=100, deadline=None, database=None)
    for _ in budget.rounds(200):
        run_state_machine_as_test(DispatcherMachine, settings=at_length)
