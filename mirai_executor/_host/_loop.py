"""The one thread that owns the dispatcher, the daemons and the open futures of one executor.

::

    submit, cancel, ...  --> inbox --.
    frames of daemons  --------------+--> event --> dispatcher --> commands --> links, futures
    ends of processes  --------------|
    (time passes)  ------------------'

Whatever happens, on whatever thread, becomes an item of the inbox or a readable descriptor; the
host thread takes them one at a time, asks the dispatcher what follows, and does it. So nothing
here needs a lock, and a KeyboardInterrupt, which strikes the main thread only, finds no step
half done: an append to the inbox happens or it does not.
"""

from __future__ import annotations

import collections
import functools
import logging
import math
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mirai_executor import _wire
from mirai_executor._core import (
    BroadcastAnswered,
    BroadcastId,
    CancelRequested,
    Command,
    DaemonId,
    DaemonsAdded,
    DaemonsRequested,
    DaemonState,
    DismissDaemon,
    Dispatcher,
    EntranceClosed,
    Event,
    EverywhereRequested,
    FailBroadcast,
    FailTask,
    Failure,
    ForgetBroadcast,
    InterruptBroadcast,
    InterruptTask,
    KillDaemon,
    KillRequested,
    LaunchDaemon,
    LaunchFailed,
    Policy,
    RecallTasks,
    ResolveTasks,
    ResultsArrived,
    SendBroadcast,
    SendTasks,
    SurplusFound,
    TaskId,
    TaskSubmitted,
)
from mirai_executor._payload import host as _payload
from mirai_executor._record import Record
from mirai_executor._typing import NamedTuple
from mirai_executor.errors import LaunchError, TaskTimeoutError

from ._elastic import Elastic
from ._entrance import Entrance
from ._fleet import Fleet
from ._local import LocalDaemon
from ._nursery import Nursery
from ._outcomes import Ended, OpenFuture, decode_error, resolve, resolve_all, set_exception
from ._poller import Poller
from ._store import Store
from ._waiting import Answer

if TYPE_CHECKING:
    from mirai_executor._core import Load, Scaler

    from . import Limits
    from ._door import Door

_LOG = logging.getLogger("mirai_executor")
_BATCH = 256  # items of the inbox between two looks at the links


F = TypeVar("F", bound=OpenFuture)


class OpenTask(NamedTuple):
    """A task on its way: its future, and its call while it may still have to be sent.

    All in one: while thousands of them wait, each object more is one more to collect garbage from.
    """

    task: TaskId
    future: OpenFuture
    limits: Limits
    kind: int | None
    blob: bytes
    names: tuple[_payload.NameEntry, ...]
    buffers: tuple[_wire.Buffer, ...] = ()


class DaemonRow(Record):
    """One daemon in :class:`HostView`."""

    pid: int
    host: str
    state: str
    tasks: int


class HostView(Record):
    """What :meth:`Loop.view` saw."""

    awaiting: int
    executing: int
    completed: int
    connections: int
    cumulative: int
    daemons: tuple[DaemonRow, ...]
    refused: int = 0


Item = Event | OpenTask | Callable[[], None]


class Loop:
    """Runs on the host thread, from the first task to the end of a shutdown.

    Args:
        policy: How the dispatcher treats its daemons.
        nursery: Starts them.
        cleanup: Whether daemons clean up after each task.
        initializer: The call that each daemon makes before its first task.
        inbox: Where other threads put items; then they wake the ``poller``, if it is asleep.
        store: Keeps the large buffers of tasks.
        entrance: Where daemons may come in by themselves; None if they may not.
        heartbeat: Seconds between the signs of life of such daemons.

    Attributes:
        poller: Waits for all that concerns it.
        is_broken: Whether no daemon can be started.
    """

    def __init__(
        self,
        policy: Policy,
        nursery: Nursery,
        *,
        cleanup: bool,
        initializer: _payload.Call | None,
        inbox: collections.deque[Item],
        store: Store,
        entrance: Entrance | None = None,
        heartbeat: float = 5.0,
    ) -> None:
        self.is_broken = False
        self._has_ended = False
        self.poller = Poller(inbox)
        self._inbox = inbox
        self._store = store
        self._dispatcher = Dispatcher(policy)
        self._open: dict[TaskId, OpenTask] = {}
        self._broadcasts: dict[BroadcastId, tuple[_payload.Call, Limits]] = {}
        self._broadcast_futures: dict[tuple[DaemonId, BroadcastId], OpenFuture] = {}
        self._awaiting_ready: list[tuple[int, Answer[None]]] = []
        self._outcomes: dict[TaskId, _wire.WireOutcome] = {}  # brought by the events at hand
        # Futures to resolve, which runs callbacks of the user: after every send is out.
        self._ended: collections.deque[Callable[[], None]] = collections.deque()
        terms = _wire.Attend(heartbeat, dispatcher=not policy.direct)
        self._fleet = Fleet(
            nursery, initializer, cleanup, self.poller.selector, self, self._post, store, terms
        )
        self._door: Door | None = None
        self._start_timeout = policy.start_timeout
        self._closes_at: float | None = None  # the door, at the latest
        if entrance is not None:
            from ._door import Door  # certificates and TLS, which local daemons have no use for

            self._door = Door(entrance, self.poller.selector, self._fleet.admit)
        self._elastic: Elastic | None = None  # until somebody calls adapt()
        self._carriers: dict[type[Command], Callable[[Any], None]] = {
            SendTasks: self._send_tasks,
            SendBroadcast: self._send_broadcast,
            ResolveTasks: self._resolve,
            FailTask: self._fail,
            FailBroadcast: self._fail_broadcast,
            ForgetBroadcast: self._forget_broadcast,
            # Their numbers are one sequence: to a daemon, it is a task like others.
            InterruptBroadcast: lambda c: self._fleet.interrupt(c.daemon, TaskId(c.broadcast)),
            RecallTasks: lambda command: self._fleet.recall(command.daemon),
            InterruptTask: lambda command: self._fleet.interrupt(command.daemon, command.task),
            LaunchDaemon: lambda command: self._fleet.launch(command.daemon),
            KillDaemon: lambda c: self._fleet.kill(c.daemon, overdue=c.overdue),
            DismissDaemon: self._dismiss,
        }

    # For other threads

    def launch_error(self) -> LaunchError:
        """Return a fresh error that says why no daemon can be started."""
        return self._fleet.losses.launch_error()

    @property
    def is_idle(self) -> bool:
        """Whether no task is on its way; from any thread."""
        return not self._open

    def _post(self, callback: Callable[[], None]) -> None:
        # Where this thread has failed, the daemons that it is about are gone.
        self._inbox.append(lambda: None if self._has_ended else callback())
        self.poller.wake()

    # The thread

    def run(self) -> None:
        """Turn until a shutdown has come to its end."""
        failure: BaseException | None = None
        try:
            while not self._dispatcher.is_finished or self._inbox or self._ended:
                self._turn()
        except BaseException as error:
            failure = error
            raise
        finally:
            self._end(failure)

    def _turn(self) -> None:
        deadline = self._next_deadline()
        # Last: a thread that is woken here needs the GIL, which is free once this one sleeps.
        if self._ended or self._awaiting_ready:
            self._resolve_ended()
            if self._inbox:  # what callbacks have submitted is sent before this thread sleeps
                self._take_in(min(len(self._inbox), _BATCH))
                deadline = -math.inf if self._ended else self._next_deadline()
            if self._dispatcher.is_finished and not self._inbox:
                return  # there is nothing left to wait for
        if ready := self.poller.wait(len(self._open), deadline):
            _call(ready)
        if self._inbox:
            self._take_in(min(len(self._inbox), _BATCH))
        # At every turn: a full inbox must not put deadlines off.
        if deadline != math.inf and deadline <= time.monotonic():
            # This thread may have waited for the GIL: what has come in the meantime is not late.
            _call(self.poller.look())
            self._expire(time.monotonic())
        if self._closes_at is not None:
            self._close_unless_awaited(self._closes_at <= time.monotonic())

    def _next_deadline(self) -> float:
        """Return when :meth:`_expire` has something to do, if nothing comes before."""
        deadline = self._dispatcher.next_deadline()
        first = min(math.inf if deadline is None else deadline, self._fleet.next_deadline())
        if self._door is not None:
            first = min([first, *self._door.deadlines()])
        if self._elastic is not None:
            first = min(first, self._elastic.look_at)
        return first if self._closes_at is None else min(first, self._closes_at)

    def _expire(self, now: float) -> None:
        """Do what has to be done because time has passed."""
        commands = self._dispatcher.expire(now)
        in_vain = [c for c in commands if type(c) is FailTask and c.failure is Failure.BROKEN]
        if in_vain:
            self._say_what_waited(len(in_vain))
        self._carry_out(commands)
        self._fleet.expire(now)
        if self._door is not None:
            self._door.expire(now)
        if self._elastic is not None:
            self._elastic.expire(now)

    def _say_what_waited(self, count: int) -> None:
        """Report tasks that fail because no daemon has come for them."""
        seconds, losses = self._start_timeout, self._fleet.losses
        if losses.why_none is None:
            losses.why_none = LaunchError(f"no daemon has connected for {seconds:g} s")
        _LOG.warning(
            "%d tasks fail after they have waited for a daemon for the last %g s: %s",
            count,
            seconds,
            losses.why_none,
        )

    def _take_in(self, count: int) -> None:
        """Take so many items in, with submissions that follow each other as one."""
        submitted: list[Event] = []
        for _ in range(count):
            item = self._inbox.popleft()
            if isinstance(item, OpenTask):
                id_, _, limits, kind, _, _, _ = item
                self._open[id_] = item  # in place before the event that names it
                fields = (id_, limits.timeout, limits.run_timeout, limits.retries, kind)
                # At a third of the cost of TaskSubmitted(...).
                submitted.append(tuple.__new__(TaskSubmitted, fields))
                continue
            # What comes next may be a shutdown: tasks before it that can start, have started.
            self._handle_all(submitted)
            submitted = []
            if callable(item):
                item()
                self._resolve_ended()
            else:
                self.handle(item)
        self._handle_all(submitted)

    def _handle_all(self, events: list[Event]) -> None:
        if events:
            self._carry_out(self._dispatcher.handle_all(events, time.monotonic()))

    def handle(self, event: Event) -> None:
        """Have the dispatcher decide about an event, and do it."""
        self._carry_out(self._dispatcher.handle(event, time.monotonic()))

    def adopt_daemon(self) -> DaemonId:
        """Expect a daemon that has come by itself."""
        return self._dispatcher.adopt_daemon(time.monotonic())

    def on_results(self, daemon: DaemonId, outcomes: Sequence[_wire.WireOutcome]) -> None:
        """Take in how tasks have ended at a daemon."""
        by_task: dict[TaskId, _wire.WireOutcome] = {}
        seconds: dict[TaskId, float | None] = {}
        leaving = False
        for outcome in outcomes:
            task: TaskId = outcome.task  # type: ignore[assignment]  # TaskId(...) takes its time
            by_task[task] = outcome
            seconds[task] = outcome.nanoseconds * 1e-9 or None
            leaving = leaving or outcome.leaving
        self._outcomes = by_task
        event = ResultsArrived(daemon, seconds, leaving)
        self._carry_out(self._dispatcher.handle(event, time.monotonic()))
        self._outcomes = {}

    def on_broadcast_answered(self, event: BroadcastAnswered, outcome: _wire.WireOutcome) -> None:
        """Take in what ``everywhere`` led to at a daemon."""
        self._resolve_broadcast(event, outcome)
        self.handle(event)

    def _carry_out(self, commands: Iterable[Command]) -> None:
        self.is_broken = self._dispatcher.is_broken  # before anybody hears why
        for command in commands:
            self._carriers[type(command)](command)
        if self._elastic is not None:
            self._elastic.look_soon()

    def _resolve_ended(self) -> None:
        while self._ended:
            self._ended.popleft()()
        if self._awaiting_ready:
            self._tell_ready()

    # Tasks

    def _send_tasks(self, command: SendTasks) -> None:
        calls = []
        for id_ in command.tasks:
            _, future, _, _, blob, names, buffers = self._open[id_]
            if future.start():
                calls.append((id_, blob, names, buffers))
            else:  # cancelled a moment ago: as good as answered
                self._inbox.append(ResultsArrived(command.daemon, {id_: None}))
        if calls:
            self._fleet.send_tasks(command.daemon, calls)

    def _resolve(self, command: ResolveTasks) -> None:
        ended: Ended = collections.deque()
        pop, outcome_of = self._open.pop, self._outcomes.get
        for id_ in command.tasks:
            task = pop(id_)
            if task.buffers:
                self._let_go(task)
            ended.append((task.future, outcome_of(id_)))
        self._ended.append(functools.partial(resolve_all, ended))

    def _fail(self, command: FailTask) -> None:
        task = self._open.pop(command.task)
        if task.buffers:
            self._let_go(task)
        if command.failure is Failure.CANCELLED:
            self._ended.append(task.future.end_cancelled)
            return
        error = self._error_of(command, task)
        self._ended.append(lambda: set_exception(task.future, error))

    def _let_go(self, task: OpenTask) -> None:
        self._store.let_go(task.buffers)
        self._fleet.rest_later()

    def _error_of(self, command: FailTask, task: OpenTask) -> Exception:
        name, limits = f"task {command.task}", task.limits
        if command.failure is Failure.TIMED_OUT:
            return TaskTimeoutError(
                f"{name} timed out: not finished {limits.timeout} s after submission"
            )
        if command.failure is Failure.RUN_TIMED_OUT:
            return TaskTimeoutError(
                f"{name} timed out: it ran for more than {limits.run_timeout} s"
            )
        if command.failure is Failure.DAEMON_LOST and command.daemon is not None:
            return self._fleet.losses.lost_error(command.daemon, f"while it ran {name}")
        return self._fleet.losses.launch_error()

    # Broadcasts

    def broadcast(
        self,
        id_: BroadcastId,
        call: _payload.Call,
        sets: frozenset[str] | None,
        limits: Limits,
        new_future: Callable[[DaemonId], F],
    ) -> list[F]:
        """Run a call once on every daemon, now and later; return a future for each of now."""
        self._broadcasts[id_] = call, limits
        event = EverywhereRequested(id_, sets, limits.timeout, limits.run_timeout)
        commands = self._dispatcher.handle(event, time.monotonic())
        futures = []
        for daemon in self._dispatcher.targets_of(id_):
            future = new_future(daemon)
            self._broadcast_futures[daemon, id_] = future
            futures.append(future)
        self._carry_out(commands)
        return futures

    def _send_broadcast(self, command: SendBroadcast) -> None:
        future = self._broadcast_futures.get((command.daemon, command.broadcast))
        if future is not None and not future.start():  # cancelled a moment ago
            self._inbox.append(BroadcastAnswered(command.daemon, command.broadcast))
            return
        call, _ = self._broadcasts[command.broadcast]
        self._fleet.send_broadcast(command.daemon, command.broadcast, call)

    def _resolve_broadcast(self, event: BroadcastAnswered, outcome: _wire.WireOutcome) -> None:
        future = self._broadcast_futures.pop((event.daemon, event.broadcast), None)
        if future is not None:
            self._ended.append(lambda: resolve(future, outcome))
        elif outcome.status is not _wire.Status.VALUE and not self._dispatcher.is_stopping(
            event.daemon, event.broadcast
        ):
            error = decode_error(outcome.payload)
            _LOG.warning("everywhere() failed on a daemon that joined later", exc_info=error)

    def _fail_broadcast(self, command: FailBroadcast) -> None:
        future = self._broadcast_futures.pop((command.daemon, command.broadcast), None)
        if command.failure in (Failure.TIMED_OUT, Failure.RUN_TIMED_OUT):
            self._time_out_broadcast(command, future)
            return
        if future is None:
            return
        if command.failure is Failure.CANCELLED:
            self._ended.append(future.end_cancelled)
            return
        if not self._fleet.losses.is_lost(command.daemon):  # it was dropped by a shutdown
            self._ended.append(future.end_cancelled)
            return
        error = self._fleet.losses.lost_error(
            command.daemon, "before it had finished everywhere()"
        )
        self._ended.append(lambda: set_exception(future, error))

    def _time_out_broadcast(self, command: FailBroadcast, future: OpenFuture | None) -> None:
        _, limits = self._broadcasts[command.broadcast]
        why = f"not finished {limits.timeout} s after it was called"
        if command.failure is Failure.RUN_TIMED_OUT:
            why = f"it ran for more than {limits.run_timeout} s"
        error = TaskTimeoutError(f"everywhere() timed out on a daemon: {why}")
        if future is not None:
            self._ended.append(lambda: set_exception(future, error))
        else:
            _LOG.warning("%s, which had joined later", error)

    def _forget_broadcast(self, command: ForgetBroadcast) -> None:
        del self._broadcasts[command.broadcast]

    # Questions

    def when_ready(self, count: int, answer: Answer[None]) -> None:
        """Start so many daemons, and answer once they are ready, or none can be."""
        # In one step: a daemon whose end is noticed in between would have counted as ready for
        # the request, and be missing ever after.
        self._awaiting_ready.append((count, answer))
        self.handle(DaemonsRequested(count))

    def _tell_ready(self) -> None:
        ready = self._dispatcher.ready_count
        for entry in list(self._awaiting_ready):
            count, answer = entry
            if self._dispatcher.is_broken:
                answer.set_exception(self.launch_error())
            elif ready >= count:
                answer.set_result(None)
            else:
                continue
            self._awaiting_ready.remove(entry)

    def view(self) -> HostView:
        """Return a frozen picture."""
        view = self._dispatcher.view()
        rows = []
        for id_, pid, host in self._fleet.rows():
            daemon = view.daemons[id_]
            busy = daemon.busy and daemon.state is DaemonState.READY
            state = "busy" if busy else daemon.state.value
            rows.append(DaemonRow(pid, host, state, daemon.tasks_done))
        return HostView(
            awaiting=view.awaiting,
            executing=view.executing,
            completed=view.completed,
            connections=self._dispatcher.ready_count,
            cumulative=view.cumulative,
            daemons=tuple(rows),
            refused=0 if self._door is None else self._door.refused,
        )

    def local_daemons(self) -> tuple[LocalDaemon, ...]:
        """Return the daemons of this machine that live, and have been heard of."""
        return tuple(self._fleet.local_daemons())

    @property
    def ready_count(self) -> int:
        """How many daemons are connected; from any thread."""
        return self._dispatcher.ready_count

    # Daemons elsewhere

    def expect_daemons(
        self, count: int, processes: Iterable[subprocess.Popen[bytes]], *, stay: bool
    ) -> None:
        """Take in that daemons were asked for; see to the commands for it, until they end."""
        self.handle(DaemonsAdded(count))
        self._fleet.keep_commands(processes, stay=stay)

    def fail_launch(self, error: LaunchError) -> None:
        """Take in that daemons were asked for and will not come."""
        self._fleet.losses.why_none = error
        self.handle(LaunchFailed())

    def adapt(self, scaler: Scaler, launch: Callable[[int], None]) -> None:
        """From now on, ask for daemons as there is work for them.

        Args:
            scaler: Decides how many.
            launch: Asks for so many, on another thread.
        """
        if self._elastic is None:
            self._elastic = Elastic(self._load, lambda n: self.handle(SurplusFound(n)))
        self._elastic.begin(scaler, launch)

    def refuse(self, scaler: Scaler, count: int, error: LaunchError) -> None:
        """Take in that daemons that a scaler asked for will not come."""
        scaler.refuse(count, time.monotonic())
        _LOG.warning("%d requested daemons will not start: %s", count, error)
        self._fleet.losses.why_none = error
        if scaler.is_refused:
            self.handle(LaunchFailed(for_good=False))
        if self._elastic is not None:
            self._elastic.look_soon()

    def _load(self) -> Load:
        from mirai_executor._core import Load  # where daemons come by themselves

        view = self._dispatcher.view()
        return Load(
            demand=view.awaiting + view.executing,
            connected=self._dispatcher.ready_count,
            cumulative=view.cumulative,
            completed=view.completed,
        )

    def close_entrance(self) -> None:
        """Let no daemon in any more but those on their way; what none can take any more, ends."""
        if self._door is not None:
            self._closes_at = time.monotonic() + self._start_timeout
            self._close_unless_awaited(False)

    def _close_unless_awaited(self, is_late: bool) -> None:
        if self._fleet.awaits_daemons and not is_late:
            return
        self._closes_at = None
        self._close_door()

    def _close_door(self) -> None:
        if self._door is None:
            return
        self._door.close()
        self._door = None
        why = "no daemon is connected, and none can connect any more"
        self._fleet.losses.why_none = LaunchError(why)
        self.handle(EntranceClosed())

    # Ends

    def cancel_until(self, last: TaskId) -> None:
        """Stop all tasks up to this one, queued or running."""
        for id_ in [id_ for id_ in self._open if id_ <= last]:
            self.handle(CancelRequested(id_, running=True))

    def _dismiss(self, command: DismissDaemon) -> None:
        closing = self._dispatcher.is_closing
        self._fleet.dismiss(command.daemon, closing=closing)
        if closing and self._door is not None:
            # Who stays, looks for the next host at once. Soon, as this may be a callback of a
            # listener's.
            self._post(self._close_door)

    def terminate(self, signum: int) -> None:
        """End every daemon by a signal, and those that live on by SIGKILL a little later."""
        self._fleet.use_signal(signum)
        self.handle(KillRequested())
        self._fleet.use_signal(signal.SIGKILL)

    def _end(self, failure: BaseException | None) -> None:
        """Leave nothing behind, and nobody waiting."""
        self._has_ended = True
        if self._door is not None:
            self._door.close()
        self._fleet.close()
        open_futures = [task.future for task in self._open.values()]
        for future in (*open_futures, *self._broadcast_futures.values()):
            set_exception(future, _end_error(failure))
        for _, answer in self._awaiting_ready:
            answer.set_exception(_end_error(failure))
        self._open.clear()
        self.poller.close()
        # Nothing refers to itself any more: an error that was decoded here holds the frames of
        # this thread, and goes with the last reference to it, not with the next garbage.
        self._carriers.clear()
        self._awaiting_ready.clear()
        self._elastic = self._door = None

    def forget(self) -> None:
        """In a forked child: keep no daemon from noticing the end of its host."""
        self._fleet.forget()


def _call(ready: list[Callable[[], None]]) -> None:
    # No name holds what was called: an error that is decoded in here holds this frame, for as long
    # as a user keeps it, and would keep the waker's descriptors open.
    while ready:
        ready.pop(0)()


def _end_error(failure: BaseException | None) -> Exception:
    error = RuntimeError("the executor was shut down before this was done")
    error.__cause__ = failure
    return error
