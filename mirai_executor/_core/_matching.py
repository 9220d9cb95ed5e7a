"""Brings tasks and daemons together: who gets what next, and whether more daemons are needed.

:class:`Frames` decides which tasks travel together, and which to a daemon that is still busy. A
task whose kind has not been proven short travels alone, to a daemon that is free. Short ones
share a frame: those that wait already, as many as fill the time that a frame may hold, and never
more than a fair share of the queue. A second frame may wait behind the first one, so that a
daemon need not wait for its host; it is taken back when that turns out to be a mistake.

What is far away waits longer for its host: there, a frame holds as much work as fits into the way
to the host and back, and longer tasks wait behind others, up to what a lost daemon may cost.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mirai_executor._typing import Mutable

from ._fleet import DaemonRecord, FleetTable, Wait
from ._tasks import AlarmKind, Alarms, TaskTable
from .messages import (
    Command,
    DaemonId,
    DaemonState,
    Failure,
    LaunchDaemon,
    Policy,
    ShutdownRequested,
    TaskId,
)

if TYPE_CHECKING:
    from ._moves import Moves

_PROOF = 3  # tasks of a kind that must have ended before its next ones are expected to be alike
_MEMORY = 1024  # kinds; the one that was not heard of for longest is forgotten
_WEIGHT = 0.2  # of the last task in the average
_FALL = 0.5  # of the average: so far it falls at once where a task is shorter still
_STIR = 32  # tasks after which a kind counts as heard of


class _Average(Mutable):
    count: int  # tasks that have ended
    seconds: float  # on average


class Durations:
    """What is known about each kind of task.

    An average that follows the last tasks (exponentially weighted), but jumps up at once: to take
    a short task for a long one costs a little time, the reverse holds others up. After one task of
    a second among those of a millisecond, ten of these are needed to believe in them again.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Average] = OrderedDict()

    def expected(self, kind: int | None) -> float | None:
        """Return how many seconds a task will take; None if there is no telling."""
        if kind is None:
            return None
        known = self._known.get(kind)
        return known.seconds if known is not None and known.count >= _PROOF else None

    def note(self, kind: int | None, seconds: float | None) -> None:
        """Learn from a task that has ended."""
        if kind is None or seconds is None:
            return
        known = self._known.get(kind)
        if known is None:
            self._known[kind] = _Average(1, seconds)
            if len(self._known) > _MEMORY:
                self._known.popitem(last=False)
            return
        known.count += 1
        if seconds > known.seconds:
            known.seconds = seconds
        elif seconds < _FALL * known.seconds:
            known.seconds *= _FALL
        else:
            known.seconds += _WEIGHT * (seconds - known.seconds)
        if known.count % _STIR == 0:
            self._known.move_to_end(kind)

    def distrust(self, kind: int | None) -> None:
        """Forget what was known: a task of this kind takes much longer."""
        if kind is not None:
            self._known.pop(kind, None)


_RECALL = 400e-6  # seconds: about what it takes to have tasks back and send them elsewhere

_FAR = 10e-3  # seconds of a round trip; one that is shorter changes nothing
_MARGIN = 1.1  # round trips of work in a frame, at least: they are not all alike
_WORTH = 4.0  # round trips: a daemon that waits for one after such a task is busy for 80 %


class Frames:
    """Fills frames from a queue, first in, first out."""

    def __init__(self, policy: Policy, tasks: TaskTable, fleet: FleetTable) -> None:
        self._policy = policy
        self._tasks = tasks
        self._fleet = fleet
        self.durations = Durations()

    def share(self) -> int:
        """Return how many of the tasks that wait are a daemon's fair share."""
        return -(-len(self._tasks.queue) // max(1, self._fleet.ready_count))

    def fill(
        self, daemon: DaemonRecord, queue: OrderedDict[TaskId, None], share: int
    ) -> dict[TaskId, float | None]:
        """Take the next frame for a daemon out of a queue that is not empty.

        Returns:
            Its tasks, in order, with how long each is expected to take.
        """
        id_, _ = queue.popitem(last=False)
        seconds = self.expected(id_)
        frame = {id_: seconds}
        if share == 1 or seconds is None:
            return frame
        room = min(share, self._room(daemon))
        left = self._frame_time(daemon, seconds)
        open_tasks, kind = self._tasks.open, self._tasks.open[id_].kind
        while (left := left - seconds) > 0 and len(frame) < room and queue:
            task = open_tasks[id_ := next(iter(queue))]
            if task.kind != kind or task.limits.run_timeout is not None:  # else as the one before
                seconds, kind = self.expected(id_), task.kind
            if seconds is None or seconds > left:
                break
            del queue[id_]
            frame[id_] = seconds
        return frame

    def expected(self, id_: TaskId) -> float | None:
        """Return how long a task is expected to take; None if it has to travel alone."""
        task = self._tasks.open[id_]
        # The time to run counts from sending: nothing may stand before such a task.
        return None if task.limits.run_timeout is not None else self.durations.expected(task.kind)

    def next_ahead(self) -> DaemonRecord | None:
        """Return a busy daemon that should get its next frame already, if there is one."""
        queue, prompt = self._tasks.queue, self._fleet.prompt
        while prompt and queue and len(queue) >= self._fleet.ready_count:
            daemon = prompt[next(reversed(prompt))]
            if not self._is_soon_over(self.expected(next(iter(queue))), daemon):
                return None
            prompt.popitem()
            if daemon.may_get_ahead and self._room(daemon) and self._is_prompt(daemon):
                return daemon
        return None

    def _is_prompt(self, daemon: DaemonRecord) -> bool:
        """Tell whether all that a daemon holds is expected to be over soon."""
        if self._policy.frame_time <= 0 or None in daemon.held.values():
            return False
        seconds: Iterable[float] = daemon.held.values()  # type: ignore[assignment]  # as just seen
        return max(seconds, default=0.0) <= self._ahead_below(daemon)

    def is_worth_recalling(self, daemon: DaemonRecord) -> bool:
        """Tell whether what waits at a daemon would gain from another one that is idle.

        Args:
            daemon: Holds more than one task.
        """
        if daemon.delayed:  # then it has been asked already, or one of its tasks has to stop
            return False
        seconds = list(filter(None, daemon.held.values()))
        # Of the tasks of one frame, whose results come together, many may be over by now.
        gain = sum(seconds) if daemon.ahead else max(seconds, default=0.0)
        # From afar, they are back after a round trip, and may begin elsewhere half of one later.
        return gain > _RECALL + (1.5 * daemon.round_trip if daemon.round_trip > _FAR else 0.0)

    def _is_soon_over(self, seconds: float | None, daemon: DaemonRecord) -> bool:
        return seconds is not None and seconds <= self._ahead_below(daemon)

    def _frame_time(self, daemon: DaemonRecord, first: float) -> float:
        """Return how much work a frame for a daemon may hold, in seconds, its first task's too."""
        seconds = self._policy.frame_time
        if daemon.round_trip <= _FAR or seconds <= 0:
            return seconds
        most = self._policy.far_frame_time
        return max(seconds, min(_MARGIN * daemon.round_trip + first, most))

    def _ahead_below(self, daemon: DaemonRecord) -> float:
        """Return how long tasks may take behind which others wait at a daemon, in seconds."""
        seconds = self._policy.ahead_below
        return seconds if daemon.round_trip <= _FAR else max(seconds, _WORTH * daemon.round_trip)

    def _room(self, daemon: DaemonRecord) -> int:
        limit = daemon.max_tasks
        is_far = daemon.round_trip > _FAR
        size = self._policy.far_frame_size if is_far else self._policy.frame_size
        return size if limit is None else min(size, limit - daemon.tasks_sent)


def companions_of_next(fleet: FleetTable, tasks: TaskTable) -> DaemonRecord | None:
    """Return the daemon whose tasks the next one of the queue may join, if there is one.

    A daemon may run several tasks at once where all of them ask for that, and for the same number
    at most. Whatever else it is to run waits until the last of them has ended. Only the next task
    is looked at: else coroutines that come all the time would keep every daemon from a task that
    needs one for itself.
    """
    if not tasks.queue:
        return None
    concurrency = tasks.open[next(iter(tasks.queue))].limits.concurrency
    return min(
        (d for d in fleet.shared.values() if d.concurrency == concurrency and _has_room(d)),
        key=lambda daemon: len(daemon.held),
        default=None,
    )


def _has_room(daemon: DaemonRecord) -> bool:
    if daemon.recalling or daemon.delayed or daemon.due or daemon.asked_to_leave:
        return False
    is_done = daemon.max_tasks is not None and daemon.tasks_sent >= daemon.max_tasks
    has_place = len(daemon.held) < daemon.concurrency and not is_done
    return has_place and daemon.state is DaemonState.READY


class Ending(Mutable):
    """How far a dispatcher is on its way to its end."""

    closing: bool = False  # once no task is open, the daemons go
    cancelling: bool = False  # what has not begun will not begin
    hurried: bool = False  # nor does it wait for whoever takes long to come
    listening_has_ended: bool = False  # none comes any more but those that are launched


class Matching:
    """Looks at what waits and at who is idle, after everything that has happened."""

    def __init__(
        self,
        policy: Policy,
        tasks: TaskTable,
        fleet: FleetTable,
        alarms: Alarms,
        frames: Frames,
        moves: Moves,
        ending: Ending,
    ) -> None:
        self._policy = policy
        self._tasks = tasks
        self._fleet = fleet
        self._alarms = alarms
        self._frames = frames
        self._moves = moves
        self._ending = ending

    def schedule(self, now: float) -> list[Command]:
        """Give idle daemons work, start those that are missing, and close when all is done."""
        commands: list[Command] = []
        queue, idle = self._tasks.queue, self._fleet.idle
        if queue and (self._ending.cancelling or self._ending.listening_has_ended):
            commands += self._drop_what_will_not_begin(now)
        if self._policy.direct:
            commands += self.launch(now)
            commands += self._deal(now)
        elif queue or self._fleet.wanted:
            # Most tasks come one at a time: then there is nothing to share.
            share = self._frames.share() if len(queue) > 1 else 1
            while queue and idle:
                _, daemon = idle.popitem()
                frame = self._frames.fill(daemon, queue, share)
                commands.append(self._moves.send(daemon, frame, now))
            if queue or self._fleet.wanted:
                commands += self._employ_more(now)
        if idle and self._fleet.stacked and not self._policy.direct:
            commands += self._take_from_the_busy()
        if self._ending.closing and not self._tasks.open:
            commands += self._close(now)
        return commands

    def schedule_elsewhere(self, now: float) -> list[Command]:
        """Do the same, and note since when tasks wait for a daemon, which may never connect."""
        commands, fleet = self.schedule(now), self._fleet
        if not self._tasks.queue or fleet.ready_count:
            fleet.wait = None
        elif fleet.wait is None:
            fleet.wait = Wait(now, now + self._policy.warn_after)
            self._alarms.set(fleet.wait.warn_at, AlarmKind.WAIT)
        return commands

    def _employ_more(self, now: float) -> Iterable[Command]:
        """Start the daemons that are missing, and send to those that are busy, too."""
        yield from self.launch(now)
        queue, fleet = self._tasks.queue, self._fleet
        while queue:
            most = 1
            daemon = companions_of_next(fleet, self._tasks) if fleet.shared else None
            if daemon is None:
                if (daemon := self._frames.next_ahead()) is None:
                    return
                most = self._frames.share()
            yield self._moves.send(daemon, self._frames.fill(daemon, queue, most), now)

    def _take_from_the_busy(self) -> Iterable[Command]:
        """Have idle daemons do what waits at busy ones."""
        for daemon in list(self._fleet.stacked.values()):
            if self._frames.is_worth_recalling(daemon):
                yield from self._moves.recall(daemon)

    def _deal(self, now: float) -> Iterable[Command]:
        """Direct mode: bind every queued task to a daemon, round robin."""
        queue, rota = self._tasks.queue, self._fleet.rota
        while queue and rota:
            daemon = rota[0]
            rota.rotate(-1)
            task, _ = queue.popitem(last=False)
            if daemon.id in self._fleet.idle:
                del self._fleet.idle[daemon.id]
                yield self._moves.send(daemon, {task: self._frames.expected(task)}, now)
            else:
                self._tasks.deal(task, daemon.id)
                daemon.dealt[task] = None

    def launch(self, now: float) -> Iterable[Command]:
        """Start daemons side by side, but never more than the work needs."""
        if not self._policy.launches or self._fleet.broken or self._ending.cancelling:
            return
        least = self._fleet.max_daemons if self._policy.direct and self._tasks.open else 0
        while self._fleet.lacks_one(len(self._tasks.queue), least) and self._fleet.may_launch(now):
            yield LaunchDaemon(self.expect_daemon(now, launched=True))

    def expect_daemon(self, now: float, *, launched: bool) -> DaemonId:
        """Return the id of a daemon that is on its way, and has to be ready in time."""
        id_ = self._fleet.add(launched=launched).id
        self._alarms.set(now + self._policy.start_timeout, AlarmKind.START, daemon=id_)
        return id_

    def _drop_what_will_not_begin(self, now: float) -> list[Command]:
        if self._ending.cancelling:
            return list(self._cancel_rest(now))
        can_come = self._policy.launches or self._fleet.daemons
        return [] if can_come else self._moves.give_up()

    def _cancel_rest(self, now: float) -> Iterable[Command]:
        """Cancel what was spared for a daemon that has not come."""
        for id_ in list(self._tasks.queue)[self._fleet.usable_count :]:
            yield from self._moves.fail(id_, Failure.CANCELLED, now)

    def _close(self, now: float) -> Iterable[Command]:
        for daemon in list(self._fleet.idle.values()):
            yield from self._moves.dismiss(daemon, now)
        if self._fleet.starting_count:
            for daemon in self._fleet.usable():
                if daemon.state is DaemonState.STARTING and daemon.awaited not in daemon.due:
                    yield from self._moves.kill(daemon)

    def await_no_longer_than_needed(self, now: float) -> None:
        """See to it that a shutdown does not wait for ever for daemons that nobody starts."""
        if not self._ending.closing or self._policy.launches or self._fleet.usable_count:
            return
        if self._tasks.queue and (self._ending.hurried or self._fleet.missing <= 0):
            self._moves.await_anybody(now, AlarmKind.STRANDED)

    def stop(self, event: ShutdownRequested, spared: int, now: float) -> list[Command]:
        """Take no more tasks, and end with those that are open.

        Args:
            event: Says which of them are cancelled.
            spared: How many of those that wait count as begun.
            now: The present moment.
        """
        self._ending.closing = True
        self._ending.cancelling |= event.cancel_queued
        self._ending.hurried |= event.hurried
        self._fleet.want_no_more()
        commands: list[Command] = []
        taken = set(itertools.islice(self._tasks.queue, spared))
        for id_ in list(self._tasks.open):
            waiting = self._tasks.is_waiting(id_) and id_ not in taken
            if event.cancel_queued if waiting else event.cancel_running:
                commands += self._moves.fail(id_, Failure.CANCELLED, now)
        for daemon in self._fleet.daemons.values():
            if event.cancel_queued and not taken:
                commands += self._moves.drop_broadcasts(daemon)
            if event.cancel_running and daemon.broadcasting:
                commands += self._moves.kill(daemon)
        self.await_no_longer_than_needed(now)
        return commands
