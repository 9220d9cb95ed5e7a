"""Brings tasks and daemons together: who gets what next, and whether more daemons are needed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from mirai_executor._record import Mutable

from ._alarms import AlarmKind, Alarms
from ._fleet import Wait
from .messages import (
    Command,
    DaemonId,
    DaemonState,
    Failure,
    LaunchDaemon,
    Policy,
    ShutdownRequested,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._fleet import Fleet
    from ._frames import Frames
    from ._moves import Moves
    from ._tasks import Tasks


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
        tasks: Tasks,
        fleet: Fleet,
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

    def settle(self, now: float) -> list[Command]:
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

    def settle_elsewhere(self, now: float) -> list[Command]:
        """Do the same, and note since when tasks wait for a daemon, which may never connect."""
        commands, fleet = self.settle(now), self._fleet
        if not self._tasks.queue or fleet.ready_count:
            fleet.wait = None
        elif fleet.wait is None:
            fleet.wait = Wait(now, now + self._policy.warn_after)
            self._alarms.set(fleet.wait.warn_at, AlarmKind.WAIT)
        return commands

    def _employ_more(self, now: float) -> Iterable[Command]:
        """Start the daemons that are missing, and send ahead to those that are busy."""
        yield from self.launch(now)
        queue = self._tasks.queue
        while queue and (daemon := self._frames.next_ahead()) is not None:
            frame = self._frames.fill(daemon, queue, self._frames.share())
            yield self._moves.send(daemon, frame, now)

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
                self._tasks.open[task].dealt_to = daemon.id
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
            self._moves.await_anybody(now)

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
