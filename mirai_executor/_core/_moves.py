"""Makes the moves that events lead to: each keeps the books, and returns what to do about it.

Which move to make, and when, is decided by the dispatcher.
"""

from ._alarms import AlarmKind, Alarms
from ._fleet import Daemon, Fleet
from ._tasks import Task, Tasks
from .messages import (
    Command,
    DaemonLost,
    DaemonState,
    DismissDaemon,
    FailBroadcast,
    FailTask,
    Failure,
    InterruptTask,
    KillDaemon,
    Policy,
    SendBroadcast,
    SendTasks,
    TaskId,
)


class Moves:
    """What can be done with tasks and daemons, one at a time."""

    def __init__(self, policy: Policy, tasks: Tasks, fleet: Fleet, alarms: Alarms) -> None:
        self._policy = policy
        self._tasks = tasks
        self._fleet = fleet
        self._alarms = alarms

    # Moves that begin

    def send(self, daemon: Daemon, id_: TaskId, now: float) -> Command:
        """Hand a task over to a free daemon."""
        task = self._tasks.hand_over(id_, daemon.id)
        daemon.held[id_] = None
        daemon.tasks_sent += 1
        if task.run_timeout is not None:
            self._alarms.set(now + task.run_timeout, AlarmKind.RUN_TIMEOUT, id_, daemon.id)
        return SendTasks(daemon.id, (id_,))

    def release(self, daemon: Daemon, now: float) -> list[Command]:
        """Give a daemon that may have become free the next thing to do."""
        if not daemon.is_free:
            return []
        if daemon.due:
            self._fleet.idle.pop(daemon.id, None)
            daemon.broadcasting = True
            return [SendBroadcast(daemon.id, daemon.due[0])]
        limit = self._policy.max_tasks
        if daemon.asked_to_leave or (limit is not None and daemon.tasks_sent >= limit):
            return self.dismiss(daemon, now)
        if daemon.dealt:
            task, _ = daemon.dealt.popitem(last=False)
            return [self.send(daemon, task, now)]
        self._rest(daemon, now)
        return []

    def _rest(self, daemon: Daemon, now: float) -> None:
        self._fleet.idle[daemon.id] = daemon
        timeout = self._policy.idle_timeout
        if timeout is not None:
            daemon.idle_period += 1
            self._alarms.set(
                now + timeout, AlarmKind.IDLE, daemon=daemon.id, period=daemon.idle_period
            )

    # Moves that end tasks

    def fail(self, id_: TaskId, failure: Failure, now: float) -> list[Command]:
        """End a task before its time, and have its daemon stop it."""
        task = self.forget(id_)
        if task.daemon is None:
            return [FailTask(id_, failure)]
        failed = FailTask(id_, failure, task.daemon)
        if self._fleet.daemons[task.daemon].state is DaemonState.KILLED:
            return [failed]
        # The daemon goes on holding the task until it answers. An interrupt is only a request:
        # a next task sent now might wait behind code that never returns.
        self._alarms.set(now + self._policy.cancel_grace, AlarmKind.GRACE, id_, task.daemon)
        return [InterruptTask(task.daemon, id_), failed]

    def forget(self, id_: TaskId) -> Task:
        """Note that a task has ended."""
        task = self._tasks.forget(id_)
        if task.daemon is None and task.dealt_to is not None:
            del self._fleet.daemons[task.dealt_to].dealt[id_]
        return task

    def take_back(self, event: DaemonLost, daemon: Daemon, *, cancelling: bool) -> list[Command]:
        """End the tasks that a lost daemon had begun; the others go back to the front."""
        back = list(daemon.dealt)
        commands: list[Command] = []
        for id_ in daemon.held:
            task = self._tasks.open.get(id_)
            if task is None:
                continue
            begun = id_ in event.started
            if cancelling or (begun and not task.retries):
                self.forget(id_)
                failure = Failure.DAEMON_LOST if begun else Failure.CANCELLED
                commands.append(FailTask(id_, failure, daemon.id))
                continue
            task.retries -= begun
            self._tasks.take_back(id_)
            back.append(id_)
        self._tasks.requeue(back)
        return commands

    def give_up(self) -> list[Command]:
        """Give up on daemons that cannot come: nothing may wait for them."""
        self._fleet.broken = True
        waiting = [id_ for id_ in self._tasks.open if self._tasks.is_waiting(id_)]
        for id_ in waiting:
            self.forget(id_)
        return [FailTask(id_, Failure.BROKEN) for id_ in waiting]

    # Moves that end daemons

    def ask_to_leave(self, daemon: Daemon) -> None:
        """Give a daemon no more tasks, and let it go once it is free."""
        daemon.asked_to_leave = True
        self._fleet.take_off_rota(daemon)
        self._redeal(daemon)

    def dismiss(self, daemon: Daemon, now: float) -> list[Command]:
        """Let a free daemon end by itself."""
        self._fleet.retire(daemon, DaemonState.LEAVING)
        self._redeal(daemon)
        self._alarms.set(now + self._policy.leave_grace, AlarmKind.LEAVE, daemon=daemon.id)
        return [DismissDaemon(daemon.id)]

    def kill(self, daemon: Daemon) -> list[Command]:
        """End a daemon, whatever it does."""
        if daemon.state is DaemonState.KILLED:
            return []
        self._fleet.retire(daemon, DaemonState.KILLED)
        self._redeal(daemon)
        return [KillDaemon(daemon.id)]

    def _redeal(self, daemon: Daemon) -> None:
        """Direct mode: what was dealt to a daemon that ends goes back to the front."""
        self._tasks.requeue(daemon.dealt)
        daemon.dealt.clear()

    def drop_broadcasts(self, daemon: Daemon) -> list[Command]:
        """Let go of what a daemon was to run before its next task: there will be none."""
        dropped = list(daemon.due)[daemon.broadcasting :]
        for _ in dropped:
            daemon.due.pop()
        return [FailBroadcast(daemon.id, broadcast) for broadcast in dropped]
