"""Makes the moves that events lead to: each keeps the books, and returns what to do about it.

Which move to make, and when, is decided by the dispatcher.
"""

from collections.abc import Collection, Iterable, Mapping

from . import messages as m
from ._fleet import DaemonRecord, FleetTable
from ._matching import Frames
from ._tasks import Alarm, AlarmKind, Alarms, Task, TaskState, TaskTable

# A frame is overdue after that many times the seconds that were expected, and some more: a
# daemon may have to wait for a processor, and its host for the GIL.
_OVERDUE_FACTOR, _SLACK = 4.0, 20e-3


class Moves:
    """What can be done with tasks and daemons, one at a time."""

    def __init__(
        self, policy: m.Policy, tasks: TaskTable, fleet: FleetTable, alarms: Alarms, frames: Frames
    ) -> None:
        self._policy = policy
        self._tasks = tasks
        self._fleet = fleet
        self._alarms = alarms
        self._frames = frames

    # Moves that begin

    def send(
        self, daemon: DaemonRecord, frame: dict[m.TaskId, float | None], now: float
    ) -> m.Command:
        """Hand tasks over to a daemon that is free, or done with what it holds soon.

        Args:
            daemon: Gets them.
            frame: How long each is expected to take; None if it has to travel alone.
            now: The present moment.
        """
        held = daemon.held
        last = next(reversed(frame))
        task = self._tasks.open[last]
        if task.limits.concurrency > 1:  # then it travels alone
            self._fleet.join(daemon, task.limits.concurrency)
        elif held:
            daemon.ahead = len(frame)
        held.update(frame)
        self._tasks.hand_over(frame, daemon.id)
        if (run_timeout := task.limits.run_timeout) is not None:  # likewise
            task.late_at = now + run_timeout
            self._alarms.set(task.late_at, AlarmKind.RUN_TIMEOUT, last, daemon.id)
        daemon.tasks_sent += len(frame)
        if len(held) > 1:
            self._fleet.stacked[daemon.id] = daemon
            patience = _SLACK + _OVERDUE_FACTOR * sum(filter(None, held.values()))
            patience += _OVERDUE_FACTOR * daemon.round_trip
            if daemon.concurrency == 1:  # else none of them waits for another
                self._alarms.set(now + patience, AlarmKind.OVERDUE, last, daemon.id)
        self._fleet.prompt[daemon.id] = daemon  # perhaps: that is found out if more tasks wait
        return m.SendTasks(daemon.id, tuple(frame))

    def end(
        self, daemon: DaemonRecord, results: Mapping[m.TaskId, float | None]
    ) -> tuple[list[m.TaskId], list[m.Command]]:
        """Note that tasks have ended at a daemon, with the seconds that each took there.

        Those that have not run there, as they were cancelled, do not count for its limit.

        Returns:
            Those that it held, and what to do about those that had not ended before.
        """
        ids, ended = [], []
        for id_, seconds in results.items():
            if id_ in daemon.held:
                ids.append(id_)
                if seconds is None:
                    daemon.tasks_sent -= 1
                if (task := self._tasks.open.get(id_)) is not None:
                    self._frames.durations.note(task.kind, seconds)
                    ended.append(id_)
        if ids:
            self.let_go(daemon, ids)
            daemon.tasks_done += len(ids)
        if not ended:
            return ids, []
        self._tasks.forget_held(ended)
        return ids, [m.ResolveTasks(tuple(ended))]

    def let_go(self, daemon: DaemonRecord, ids: Iterable[m.TaskId]) -> None:
        """Note that a daemon no longer holds some tasks."""
        for id_ in ids:
            del daemon.held[id_]
        if daemon.ahead and len(daemon.held) <= daemon.ahead:
            daemon.ahead = 0  # the frame that waited is now the one that runs
            self._fleet.prompt[daemon.id] = daemon
        if len(daemon.held) < 2:
            self._fleet.stacked.pop(daemon.id, None)
        if not daemon.held:
            daemon.delayed = False
            self._fleet.prompt.pop(daemon.id, None)
            if daemon.concurrency > 1:
                self._fleet.part(daemon)
        elif daemon.delayed and daemon.concurrency > 1:
            daemon.review(self._tasks.open)

    def release(self, daemon: DaemonRecord, now: float) -> list[m.Command]:
        """Give a daemon that may have become free the next thing to do."""
        if not daemon.is_free:
            return []
        if daemon.due:
            self._fleet.idle.pop(daemon.id, None)
            daemon.broadcasting = True
            id_ = daemon.due[0]
            if (run_timeout := self._fleet.broadcasts[id_].run_timeout) is not None:
                late = now + run_timeout
                self._alarms.set(late, AlarmKind.SHARE_RUN, daemon=daemon.id, period=id_)
            return [m.SendBroadcast(daemon.id, id_)]
        limit = daemon.max_tasks
        if daemon.asked_to_leave or (limit is not None and daemon.tasks_sent >= limit):
            return self.dismiss(daemon, now, m.Departure.LIMIT)
        if daemon.dealt:
            frame = self._frames.fill(daemon, daemon.dealt, len(daemon.dealt))
            return [self.send(daemon, frame, now)]
        self._go_idle(daemon, now)
        return []

    def release_idle(self, now: float) -> list[m.Command]:
        """Give those that were free something that has come up for them."""
        idle = list(self._fleet.idle.values())
        return [command for daemon in idle for command in self.release(daemon, now)]

    def _go_idle(self, daemon: DaemonRecord, now: float) -> None:
        self._fleet.idle[daemon.id] = daemon
        timeout = daemon.idle_time
        if timeout is not None:
            daemon.idle_period += 1
            self._alarms.set(
                now + timeout, AlarmKind.IDLE, daemon=daemon.id, period=daemon.idle_period
            )

    # Moves that take tasks back

    def recall(self, daemon: DaemonRecord) -> list[m.Command]:
        """Ask a daemon for what it has not begun, if that may be something."""
        if daemon.recalling or len(daemon.held) < 2 or daemon.state is m.DaemonState.KILLED:
            return []
        daemon.recalling = daemon.delayed = True
        return [m.RecallTasks(daemon.id)]

    def recall_overdue(self, daemon: DaemonRecord) -> list[m.Command]:
        """A frame is overdue: what waits behind the task that runs may run elsewhere."""
        running = self._tasks.open.get(next(iter(daemon.held)))
        if running is not None:
            self._frames.durations.distrust(running.kind)
        return self.recall(daemon)

    def accept_returned(
        self, daemon: DaemonRecord, ids: Collection[m.TaskId], *, cancelling: bool
    ) -> list[m.Command]:
        """Put what a daemon has not begun back in the queue, unless it has ended or never runs."""
        daemon.recalling = False
        daemon.ahead = 0
        back: list[m.TaskId] = []
        commands: list[m.Command] = []
        for id_ in ids:
            if id_ not in daemon.held:
                continue
            self.let_go(daemon, (id_,))
            daemon.tasks_sent -= 1
            if id_ not in self._tasks.open:
                continue
            if cancelling:
                self.forget(id_)
                commands.append(m.FailTask(id_, m.Failure.CANCELLED, daemon.id))
            else:
                back.append(id_)
        self._tasks.requeue(back)
        if daemon.concurrency > 1:
            daemon.review(self._tasks.open)
        return commands

    # When time has passed

    def ring(self, alarm: Alarm, now: float) -> list[m.Command]:
        """Do what an alarm is for."""
        match alarm.kind:
            case AlarmKind.TIMEOUT:
                return self.fail(alarm.task, m.Failure.TIMED_OUT, now)
            case AlarmKind.RUN_TIMEOUT:
                return self.fail(alarm.task, m.Failure.RUN_TIMED_OUT, now)
            case AlarmKind.OVERDUE:
                return self.recall_overdue(self._fleet.daemons[alarm.daemon])
            case AlarmKind.IDLE:
                return self.dismiss(self._fleet.daemons[alarm.daemon], now, m.Departure.IDLE)
            case AlarmKind.SHARE | AlarmKind.SHARE_RUN:
                daemon, share = self._fleet.daemons[alarm.daemon], m.BroadcastId(alarm.period)
                in_all = alarm.kind is AlarmKind.SHARE
                failure = m.Failure.TIMED_OUT if in_all else m.Failure.RUN_TIMED_OUT
                return self.stop_broadcast(daemon, share, failure, now)
            case AlarmKind.VAIN | AlarmKind.STRANDED | AlarmKind.ROOM | AlarmKind.WAIT:
                return self._wait_no_more(alarm.kind, now)
            case AlarmKind.GRACE | AlarmKind.START | AlarmKind.LEAVE | AlarmKind.SHARE_GRACE:
                daemon = self._fleet.daemons[alarm.daemon]
                return self.kill(daemon, overdue=alarm.kind is AlarmKind.START)

    def _wait_no_more(self, kind: AlarmKind, now: float) -> list[m.Command]:
        wait = self._fleet.wait
        if kind is AlarmKind.WAIT and wait is not None:
            return [m.ReportWait(len(self._tasks.queue), now - wait.since)]
        # Where there may be room, what is missing is started, as after whatever happens.
        return self.give_up() if kind in (AlarmKind.VAIN, AlarmKind.STRANDED) else []

    # Moves that end tasks

    def fail(self, id_: m.TaskId, failure: m.Failure, now: float) -> list[m.Command]:
        """End a task before its time, and have its daemon stop it."""
        task = self.forget(id_)
        if task.state is not TaskState.HELD:
            return [m.FailTask(id_, failure)]
        failed = m.FailTask(id_, failure, task.daemon)
        daemon = self._fleet.daemons[task.daemon]
        if daemon.state is m.DaemonState.KILLED:
            return [failed]
        # The daemon goes on holding the task until it answers. An interrupt is only a request:
        # a next task sent now might wait behind code that never returns.
        self._alarms.set(now + self._policy.cancel_grace, AlarmKind.GRACE, id_, task.daemon)
        recall = self.recall(daemon)
        daemon.delayed = True
        return [*recall, m.InterruptTask(task.daemon, id_), failed]

    def forget(self, id_: m.TaskId) -> Task:
        """Note that a task has ended."""
        task = self._tasks.forget(id_)
        if task.state is TaskState.DEALT:
            del self._fleet.daemons[task.daemon].dealt[id_]
        return task

    def take_back(
        self, event: m.DaemonLost, daemon: DaemonRecord, *, cancelling: bool
    ) -> list[m.Command]:
        """End the tasks that a lost daemon had begun; the others go back to the front."""
        back = list(daemon.dealt)
        commands: list[m.Command] = []
        for id_ in daemon.held:
            task = self._tasks.open.get(id_)
            if task is None:
                continue
            begun = id_ in event.started
            if cancelling or (begun and not task.retries):
                self.forget(id_)
                failure = m.Failure.DAEMON_LOST if begun else m.Failure.CANCELLED
                commands.append(m.FailTask(id_, failure, daemon.id))
                continue
            task.retries -= begun
            back.append(id_)
        self._tasks.requeue(back)
        return commands

    def lose(
        self, event: m.DaemonLost, daemon: DaemonRecord, *, cancelling: bool
    ) -> list[m.Command]:
        """Let go of a daemon that is gone, and of what it had to do."""
        commands: list[m.Command] = [m.FailBroadcast(daemon.id, b) for b in daemon.due]
        commands += self.forget_broadcasts(daemon.due)
        return [*commands, *self.take_back(event, daemon, cancelling=cancelling)]

    def run_short(self, event: m.DaemonLost, now: float, *, cancelling: bool) -> list[m.Command]:
        """The system had no room for a daemon: go on with the others, and try again later."""
        if (daemon := self._fleet.remove(event.daemon)) is None:
            return []
        commands = self.lose(event, daemon, cancelling=cancelling)
        if (until := self._fleet.note_shortage(daemon.id, now)) is None:
            return commands
        self._alarms.set(until, AlarmKind.ROOM)
        return [*commands, *self.tell_of_shortage()]

    def tell_of_shortage(self) -> list[m.Command]:
        """Say once that there is no room, if there are daemons which go on."""
        shortage = self._fleet.shortage
        if shortage is None or shortage.is_told or not self._fleet.ready_count:
            return []
        shortage.is_told = True
        return [m.ReportShortage()]

    def do_without(self, daemon: DaemonRecord, now: float) -> list[m.Command]:
        """Let a daemon go that cannot work: one of another machine, which may lack something."""
        if daemon.is_usable:  # else it has been told to end already
            daemon.leaves_for = m.Departure.INITIALIZER
            self.let_leave(daemon, now)
        if self._fleet.usable_count:
            return []
        if self._fleet.missing > 0:
            self.await_anybody(now, AlarmKind.VAIN)
            return []
        return self.give_up()

    def await_anybody(self, now: float, kind: AlarmKind) -> None:
        """Give up unless another daemon comes in the time that a start may take."""
        latest = now + self._policy.start_timeout
        self._alarms.set(latest, kind, period=self._fleet.last_id)

    def give_up(self) -> list[m.Command]:
        """Give up on daemons that cannot come: nothing may wait for them."""
        self._fleet.broken = True
        return self.fail_waiting()

    def fail_waiting(self) -> list[m.Command]:
        """Fail what waits for daemons that have not come."""
        waiting = [id_ for id_ in self._tasks.open if self._tasks.is_waiting(id_)]
        for id_ in waiting:
            self.forget(id_)
        return [m.FailTask(id_, m.Failure.BROKEN) for id_ in waiting]

    # Moves that end daemons

    def ask_to_leave(self, daemon: DaemonRecord, why: m.Departure) -> list[m.Command]:
        """Give a daemon no more tasks, and let it go once it is free."""
        daemon.asked_to_leave = True
        daemon.leaves_for = daemon.leaves_for or why
        self._fleet.take_off_rota(daemon)
        self._redeal(daemon)
        return self.recall(daemon)

    def replace_all(self, now: float) -> list[m.Command]:
        """Let every daemon go as soon as it is free, for others to come when they are needed."""
        commands: list[m.Command] = []
        for daemon in self._fleet.usable():
            commands += self.ask_to_leave(daemon, m.Departure.RECALLED)
            commands += self.release(daemon, now)
        return commands

    def dismiss(
        self, daemon: DaemonRecord, now: float, why: m.Departure = m.Departure.RECALLED
    ) -> list[m.Command]:
        """Let a free daemon end by itself."""
        daemon.leaves_for = daemon.leaves_for or why
        self.let_leave(daemon, now)
        return [m.DismissDaemon(daemon.id)]

    def dismiss_idle(self, count: int, now: float) -> list[m.Command]:
        """Let so many free daemons end, the longest idle first."""
        idle = list(self._fleet.idle.values())[:count]
        return [command for daemon in idle for command in self.dismiss(daemon, now)]

    def let_leave(self, daemon: DaemonRecord, now: float) -> None:
        """Note that a daemon has been let go."""
        self._fleet.retire(daemon, m.DaemonState.LEAVING)
        self._redeal(daemon)
        self._alarms.set(now + self._policy.leave_grace, AlarmKind.LEAVE, daemon=daemon.id)

    def kill(self, daemon: DaemonRecord, *, overdue: bool = False) -> list[m.Command]:
        """End a daemon, whatever it does."""
        if daemon.state is m.DaemonState.KILLED:
            return []
        daemon.overdue = overdue
        self._fleet.retire(daemon, m.DaemonState.KILLED)
        self._redeal(daemon)
        return [m.KillDaemon(daemon.id, overdue)]

    def kill_all(self) -> list[m.Command]:
        """End every daemon, whatever they do."""
        daemons = self._fleet.daemons.values()
        return [command for daemon in daemons for command in self.kill(daemon)]

    def _redeal(self, daemon: DaemonRecord) -> None:
        """Direct mode: what was dealt to a daemon that ends goes back to the front."""
        self._tasks.requeue(daemon.dealt)
        daemon.dealt.clear()

    def forget_broadcasts(self, broadcasts: Iterable[m.BroadcastId]) -> list[m.Command]:
        """Let go of those that no daemon will ever run again."""
        return [m.ForgetBroadcast(id_) for id_ in broadcasts if self._fleet.forget_broadcast(id_)]

    def stop_broadcast(
        self, daemon: DaemonRecord, id_: m.BroadcastId, failure: m.Failure, now: float
    ) -> list[m.Command]:
        """End a daemon's share of a broadcast before its time, and have it stop."""
        failed = m.FailBroadcast(daemon.id, id_, failure)
        if not (daemon.broadcasting and daemon.due[0] == id_):
            daemon.due.remove(id_)
            stop: list[m.Command] = []
        elif daemon.stopping or daemon.state is m.DaemonState.KILLED:
            return [failed]
        else:  # as with a task, it counts as held until it is answered
            daemon.stopping = True
            grace = now + self._policy.cancel_grace
            self._alarms.set(grace, AlarmKind.SHARE_GRACE, daemon=daemon.id, period=id_)
            stop = [m.InterruptBroadcast(daemon.id, id_)]
        self._fleet.withdraw(id_)
        return [*stop, failed, *self.forget_broadcasts([id_])]

    def drop_broadcasts(self, daemon: DaemonRecord) -> list[m.Command]:
        """Let go of what a daemon was to run before its next task: there will be none."""
        dropped = list(daemon.due)[daemon.broadcasting :]
        for _ in dropped:
            daemon.due.pop()
        return [m.FailBroadcast(daemon.id, broadcast) for broadcast in dropped]
