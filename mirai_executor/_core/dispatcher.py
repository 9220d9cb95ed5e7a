"""Decides which daemon runs which task, and how every task ends.

No sockets, no threads, no clock: hand it an event and the time, then carry out the commands that
it returns, in order. ::

    TaskSubmitted ------.                                  .--> LaunchDaemon, SendTasks
    CancelRequested ----|                                  |--> SendBroadcast
    DaemonReady, -Lost -+--> Dispatcher.handle(event, now) +--> InterruptTask, KillDaemon
    ResultsArrived -----|                                  |--> DismissDaemon
    ... ----------------'                                  +--> ResolveTasks, FailTask
    (time passes) ---------> Dispatcher.expire(now) -------'

A task's end and a daemon's release are two facts: a task that was cancelled has ended, yet the
daemon goes on holding it until it answers, and gets no other task before that.

The books are kept beside it: ``_tasks`` (which wait, and what has to happen when) and ``_fleet``
(how far each daemon has come). ``_moves`` keeps them in step, and ``_matching`` brings tasks and
daemons together once all that has happened is known.
"""

import collections
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, ClassVar

from . import messages as m
from ._fleet import BroadcastRecord, FleetTable
from ._matching import Ending, Frames, Matching
from ._moves import Moves
from ._tasks import AlarmKind, Alarms, Task, TaskState, TaskTable

_STORY = 1000  # events and commands that are told
Note = tuple[float, Collection[object], Sequence[object]]


class Dispatcher:
    """The state machine. Not thread-safe: one thread owns it.

    Args:
        policy: How it treats its daemons.
    """

    def __init__(self, policy: m.Policy) -> None:
        self._policy = policy
        self._tasks = TaskTable()
        self._fleet = FleetTable(policy)
        self._alarms = Alarms(self._tasks, self._fleet)
        self._ending = Ending()
        frames = Frames(policy, self._tasks, self._fleet)
        self._moves = Moves(policy, self._tasks, self._fleet, self._alarms, frames)
        self._matching = Matching(
            policy, self._tasks, self._fleet, self._alarms, frames, self._moves, self._ending
        )
        its = self._matching
        self._schedule = its.schedule if policy.launches else its.schedule_elsewhere
        # Tells when expire() next has something to do; None for never.
        self.next_deadline: Callable[[], float | None] = self._alarms.next_deadline
        # Tells whether so many daemons have come since they were requested.
        self.has_come: Callable[[int], bool] = self._fleet.has_come
        # For story(): when something happened, what that was, and what it has led to.
        self._notes: collections.deque[Note] = collections.deque()
        self._noted = 0  # events and commands in it

    # What the shell asks

    def handle(self, event: m.Event, now: float) -> list[m.Command]:
        """Take one event in, and return what to do about it, in order.

        Events about tasks and daemons that are gone, or were never there, change nothing.

        Args:
            event: What has happened.
            now: The present moment, in seconds on a clock that never goes back.

        Returns:
            What the shell has to carry out, in this order.
        """
        return self.handle_all((event,), now)

    def handle_all(self, events: Collection[m.Event], now: float) -> list[m.Command]:
        """Take in what has happened at once; all events come in here.

        What waits is looked at only when all is known, so that frames can be filled.
        """
        commands: list[m.Command] = []
        self._notes.append((now, events, commands))  # first: it may be what cannot be handled
        for event in events:
            commands += self._HANDLERS[type(event)](self, event, now)
        commands += self._schedule(now)
        self._count(len(events) + len(commands))
        return commands

    def expire(self, now: float) -> list[m.Command]:
        """Return what has to be done because time has passed, in order."""
        commands: list[m.Command] = []
        has_rung = False
        while (alarm := self._alarms.pop_due(now)) is not None:
            done = self._moves.ring(alarm, now)
            self._note(now, (alarm,), done)
            commands += done
            has_rung = True
        if has_rung:
            scheduled = self._schedule(now)
            self._note(now, (), scheduled)
            commands += scheduled
        return commands

    def _note(self, now: float, events: Collection[object], commands: Sequence[object]) -> None:
        self._notes.append((now, events, commands))
        self._count(len(events) + len(commands))

    def _count(self, lines: int) -> None:
        """Count what was noted last, and forget what the story is too long for."""
        self._noted += lines
        while self._noted > _STORY and len(self._notes) > 1:
            _, events, commands = self._notes.popleft()
            self._noted -= len(events) + len(commands)

    @property
    def is_finished(self) -> bool:
        """Whether a shutdown has come to its end: no task is open and no daemon is left."""
        return self._ending.closing and not self._tasks.open and not self._fleet.daemons

    @property
    def is_closing(self) -> bool:
        """Whether daemons are let go because nothing is left to do, and nothing will be."""
        return self._ending.closing and not self._tasks.open

    @property
    def is_ending(self) -> bool:
        """Whether no task is accepted any more."""
        return self._ending.closing

    @property
    def is_broken(self) -> bool:
        """Whether the dispatcher has given up on starting daemons."""
        return self._fleet.broken

    @property
    def ready_count(self) -> int:
        """How many daemons are connected and may be given tasks."""
        return self._fleet.ready_count

    def falls_short_of(self, count: int) -> bool:
        """Tell whether the system has no room for so many daemons, as far as is known."""
        return self._fleet.lacks_room and self._fleet.usable_count < count

    def why_leaves(self, daemon: m.DaemonId) -> m.Departure | None:
        """Return why a daemon that still exists was let go."""
        return self._fleet.daemons[daemon].leaves_for

    def targets_of(self, broadcast: m.BroadcastId) -> tuple[m.DaemonId, ...]:
        """Return the daemons, those still starting included, that have yet to answer it."""
        return tuple(id_ for id_, d in self._fleet.daemons.items() if broadcast in d.due)

    def is_stopping(self, daemon: m.DaemonId, broadcast: m.BroadcastId) -> bool:
        """Tell whether a daemon was to stop this, and is still at it."""
        it = self._fleet.daemons.get(daemon)
        return it is not None and it.stopping and it.due[0] == broadcast

    def view(self) -> m.DispatcherView:
        """Return a frozen picture of the present state."""
        tasks = self._tasks
        return m.DispatcherView(
            awaiting=len(tasks.open) - tasks.executing,
            executing=tasks.executing,
            completed=tasks.submitted - len(tasks.open),
            cumulative=self._fleet.ever_ready,
            daemons={id_: daemon.view() for id_, daemon in self._fleet.daemons.items()},
            is_short=self._fleet.shortage is not None,
            waiting_since=None if self._fleet.wait is None else self._fleet.wait.since,
            lost_early=self._fleet.lost_early,
            parting=self._fleet.parting_count,
        )

    def adopt_daemon(self, now: float) -> m.DaemonId:
        """Return an id for a daemon that has come by itself, and is not ready yet.

        Report :class:`DaemonReady` later, or :class:`DaemonLost`.
        """
        id_ = self._matching.expect_daemon(now, launched=False)
        self._note(now, (m.DaemonAdopted(id_),), [])
        return id_

    def story(self) -> str:
        """Return the last events and commands, one a line; from any thread."""
        from ._story import told  # hardly ever

        return told(self._notes, _STORY)

    def check_invariants(self) -> None:
        """Raise AssertionError if the state is one that must never be."""
        from ._invariants import THIS_IS_A_BUG, check_invariants  # for tests

        pending, ending = self._alarms.pending(), self._ending
        try:
            check_invariants(self._policy, self._tasks, self._fleet, pending, ending)
        except AssertionError as error:
            error.add_note(f"{THIS_IS_A_BUG}\n{self.story()}")
            raise

    # Events

    def _task_submitted(self, event: m.TaskSubmitted, now: float) -> Iterable[m.Command]:
        id_, limits, kind = event
        self._tasks.submitted += 1
        if self._fleet.broken or self._ending.cancelling:
            failure = m.Failure.BROKEN if self._fleet.broken else m.Failure.CANCELLED
            return [m.FailTask(id_, failure)]
        if limits.concurrency > 1:
            kind = None  # what it takes depends on those beside it
        self._tasks.add(id_, Task(limits, limits.retries, kind))
        if limits.timeout is not None:
            # From submission, as in mirai: a promise about when the caller hears back.
            self._alarms.set(now + limits.timeout, AlarmKind.TIMEOUT, id_)
        return ()

    def _cancel_requested(self, event: m.CancelRequested, now: float) -> Iterable[m.Command]:
        task = self._tasks.open.get(event.task)
        if task is None or (task.state is TaskState.HELD and not event.running):
            return ()
        return self._moves.fail(event.task, m.Failure.CANCELLED, now)

    def _results_arrived(self, event: m.ResultsArrived, now: float) -> Iterable[m.Command]:
        daemon = self._fleet.daemons.get(event.daemon)
        if daemon is None:
            return ()
        ids, commands = self._moves.end(daemon, event.results)
        if not ids:
            return ()
        self._fleet.forget_failed_starts()
        if event.leaving:
            commands += self._moves.ask_to_leave(daemon, m.Departure.SPOILT)
        if not daemon.held:
            commands += self._moves.release(daemon, now)
        return commands

    def _tasks_returned(self, event: m.TasksReturned, now: float) -> Iterable[m.Command]:
        daemon = self._fleet.daemons.get(event.daemon)
        if daemon is None or not daemon.recalling:
            return ()
        commands = self._moves.accept_returned(
            daemon, event.tasks, cancelling=self._ending.cancelling
        )
        commands += self._moves.give_up() if self._fleet.broken else ()
        return [*commands, *self._moves.release(daemon, now)]

    def _broadcast_answered(self, event: m.BroadcastAnswered, now: float) -> Iterable[m.Command]:
        daemon = self._fleet.daemons.get(event.daemon)
        if daemon is None or not daemon.broadcasting or daemon.due[0] != event.broadcast:
            return ()
        daemon.due.popleft()
        self._fleet.broadcasts[event.broadcast].is_done |= not daemon.stopping
        daemon.broadcasting = daemon.stopping = False
        forgotten = self._moves.forget_broadcasts([event.broadcast])
        return [*forgotten, *self._moves.release(daemon, now)]

    def _broadcast_cancel_requested(
        self, event: m.BroadcastCancelRequested, now: float
    ) -> Iterable[m.Command]:
        daemon = self._fleet.daemons.get(event.daemon)
        if daemon is None or event.broadcast not in daemon.due:
            return ()
        if daemon.broadcasting and daemon.due[0] == event.broadcast and not event.running:
            return ()
        return self._moves.stop_broadcast(daemon, event.broadcast, m.Failure.CANCELLED, now)

    def _daemons_requested(self, event: m.DaemonsRequested, now: float) -> Iterable[m.Command]:
        if not self._ending.closing:
            self._fleet.want(event.count, now)
        return ()

    def _daemons_added(self, event: m.DaemonsAdded, now: float) -> Iterable[m.Command]:
        if not self._ending.closing:
            self._fleet.max_daemons += event.count
            self._fleet.want(self._fleet.usable_count + event.count, now)
        if not (self._policy.launches or self._ending.listening_has_ended):
            self._fleet.broken = False  # they are on their way
            self._fleet.missing += event.count
        return ()

    def _daemons_missed(self, event: m.DaemonsMissed, now: float) -> Iterable[m.Command]:
        self._fleet.missing -= event.count
        self._matching.await_no_longer_than_needed(now)
        return ()

    def _daemon_ready(self, event: m.DaemonReady, now: float) -> Iterable[m.Command]:
        daemon = self._fleet.daemons.get(event.daemon)
        if daemon is None or daemon.state is not m.DaemonState.STARTING:
            return ()
        self._fleet.welcome(daemon, event.max_tasks, event.idle_time)
        if not self._policy.launches:
            self._fleet.broken = False  # it has come though those who were asked had failed
        return [*self._moves.tell_of_shortage(), *self._moves.release(daemon, now)]

    def _round_trip_measured(self, event: m.RoundTripMeasured, _: float) -> Iterable[m.Command]:
        if (daemon := self._fleet.daemons.get(event.daemon)) is not None:
            daemon.round_trip = event.seconds
        return ()

    def _leave_requested(self, event: m.LeaveRequested, now: float) -> Iterable[m.Command]:
        if (daemon := self._fleet.daemons.get(event.daemon)) is None:
            return ()
        commands = self._moves.ask_to_leave(daemon, m.Departure.ASKED)
        return [*commands, *self._moves.release(daemon, now)]

    def _daemon_lost(self, event: m.DaemonLost, now: float) -> Iterable[m.Command]:
        daemon = self._fleet.remove(event.daemon)
        if daemon is None:
            return ()
        commands = self._moves.lose(event, daemon, cancelling=self._ending.cancelling)
        in_vain = daemon.failed_to_start and not event.started
        if in_vain and self._fleet.count_failed_start(now):
            # Where they come by themselves, nothing is started in vain, and others may work.
            self._fleet.broken |= self._policy.launches or not self._fleet.daemons
        self._matching.await_no_longer_than_needed(now)
        return [*commands, *(self._moves.give_up() if self._fleet.broken else ())]

    def _launch_refused(self, event: m.LaunchRefused, now: float) -> Iterable[m.Command]:
        lost = m.DaemonLost(event.daemon)
        if len(self._fleet.daemons) < 2:  # there are none that could go on
            return self._daemon_lost(lost, now)
        return self._moves.run_short(lost, now, cancelling=self._ending.cancelling)

    def _initializer_failed(self, event: m.InitializerFailed, now: float) -> Iterable[m.Command]:
        daemon = self._fleet.daemons.get(event.daemon)
        if self._policy.launches or daemon is None:  # the others are no different
            return self._moves.give_up()
        return self._moves.do_without(daemon, now)

    def _launch_failed(self, event: m.LaunchFailed, now: float) -> Iterable[m.Command]:
        if self._fleet.daemons:
            return ()
        return self._moves.give_up() if event.for_good else self._moves.fail_waiting()

    def _listening_ended(self, event: m.ListeningEnded, now: float) -> Iterable[m.Command]:
        self._ending.listening_has_ended = True
        return ()

    def _surplus_found(self, event: m.SurplusFound, now: float) -> Iterable[m.Command]:
        return self._moves.dismiss_idle(event.count, now)

    def _restart_requested(self, event: m.RestartRequested, now: float) -> Iterable[m.Command]:
        return () if self._ending.closing else self._moves.replace_all(now)

    def _everywhere_requested(
        self, event: m.EverywhereRequested, now: float
    ) -> Iterable[m.Command]:
        if self._ending.cancelling:
            return ()
        for daemon in self._fleet.usable():
            daemon.due.append(event.broadcast)
        broadcast = BroadcastRecord(event.sets, event.run_timeout)
        replaced = self._fleet.note_broadcast(event.broadcast, broadcast)
        if not self._ending.closing:
            self._fleet.want(self._fleet.max_daemons, now)
        commands = self._moves.forget_broadcasts(replaced)
        commands += self._moves.release_idle(now)
        commands += self._matching.launch(now)
        for daemon in self._fleet.usable():
            daemon.awaited = event.broadcast
            if event.timeout is not None:
                late, id_ = now + event.timeout, event.broadcast
                self._alarms.set(late, AlarmKind.SHARE, daemon=daemon.id, period=id_)
        return commands

    def _shutdown_requested(self, event: m.ShutdownRequested, now: float) -> Iterable[m.Command]:
        # The front tasks count as begun if a daemon is on its way for them, as those do that
        # ProcessPoolExecutor has passed on to its workers.
        spared = 0 if event.cancel_running else self._fleet.starting_count
        return self._matching.stop(event, spared, now)

    def _kill_requested(self, event: m.KillRequested, now: float) -> Iterable[m.Command]:
        commands = self._matching.stop(m.ShutdownRequested(cancel_queued=True), 0, now)
        return [*commands, *self._moves.kill_all()]

    # By type, as functools.singledispatchmethod would, at a fifth of its cost.
    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any, float], Iterable[m.Command]]]] = {
        m.TaskSubmitted: _task_submitted,
        m.CancelRequested: _cancel_requested,
        m.ResultsArrived: _results_arrived,
        m.TasksReturned: _tasks_returned,
        m.BroadcastAnswered: _broadcast_answered,
        m.BroadcastCancelRequested: _broadcast_cancel_requested,
        m.DaemonsRequested: _daemons_requested,
        m.DaemonsAdded: _daemons_added,
        m.DaemonsMissed: _daemons_missed,
        m.DaemonReady: _daemon_ready,
        m.LeaveRequested: _leave_requested,
        m.RoundTripMeasured: _round_trip_measured,
        m.RestartRequested: _restart_requested,
        m.DaemonLost: _daemon_lost,
        m.InitializerFailed: _initializer_failed,
        m.LaunchFailed: _launch_failed,
        m.LaunchRefused: _launch_refused,
        m.ListeningEnded: _listening_ended,
        m.SurplusFound: _surplus_found,
        m.EverywhereRequested: _everywhere_requested,
        m.ShutdownRequested: _shutdown_requested,
        m.KillRequested: _kill_requested,
    }
