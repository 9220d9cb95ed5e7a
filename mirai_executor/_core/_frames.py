"""Decides which tasks travel together, and which to a daemon that is still busy.

A task whose kind has not been proven short travels alone, to a daemon that is free. Short ones
share a frame: those that wait already, as many as fill the time that a frame may hold, and never
more than a fair share of the queue. A second frame may wait behind the first one, so that a
daemon need not wait for its host; it is taken back when that turns out to be a mistake.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from mirai_executor._record import Mutable

from ._fleet import Daemon, Fleet
from ._tasks import Tasks
from .messages import Policy, TaskId

_PROOF = (
    3  # tasks of a kind that must have ended before its next ones are expected to be like them
)
_MEMORY = 1024  # kinds; the one that was not heard of for longest is forgotten
_WEIGHT = 0.2  # of the last task in the average
_FALL = 0.5  # of the average: so far it falls at once where a task is shorter still
_STIR = 32  # tasks after which a kind counts as heard of


class _Known(Mutable):
    count: int  # tasks that have ended
    seconds: float  # on average


class Durations:
    """What is known about each kind of task.

    An average that follows the last tasks (exponentially weighted), but jumps up at once: to take
    a short task for a long one costs a little time, the reverse holds others up. After one task of
    a second among those of a millisecond, ten of these are needed to believe in them again.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, _Known] = OrderedDict()

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
            self._known[kind] = _Known(1, seconds)
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


class Frames:
    """Fills frames from a queue, first in, first out."""

    def __init__(self, policy: Policy, tasks: Tasks, fleet: Fleet) -> None:
        self._policy = policy
        self._tasks = tasks
        self._fleet = fleet
        self.durations = Durations()

    def share(self) -> int:
        """Return how many of the tasks that wait are a daemon's fair share."""
        return -(-len(self._tasks.queue) // max(1, self._fleet.ready_count))

    def fill(
        self, daemon: Daemon, queue: OrderedDict[TaskId, None], share: int
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
        left = self._policy.frame_time
        open_tasks, kind = self._tasks.open, self._tasks.open[id_].kind
        while (left := left - seconds) > 0 and len(frame) < room and queue:
            task = open_tasks[id_ := next(iter(queue))]
            if task.kind != kind or task.run_timeout is not None:  # else as the one before
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
        return None if task.run_timeout is not None else self.durations.expected(task.kind)

    def next_ahead(self) -> Daemon | None:
        """Return a busy daemon that should get its next frame already, if there is one."""
        queue, prompt = self._tasks.queue, self._fleet.prompt
        while prompt and queue and len(queue) >= self._fleet.ready_count:
            if not self._is_soon_over(self.expected(next(iter(queue)))):
                return None
            _, daemon = prompt.popitem()
            if daemon.may_get_ahead and self._room(daemon) and self._is_prompt(daemon):
                return daemon
        return None

    def _is_prompt(self, daemon: Daemon) -> bool:
        """Tell whether all that a daemon holds is expected to be over soon."""
        if self._policy.frame_time <= 0 or None in daemon.held.values():
            return False
        seconds: Iterable[float] = daemon.held.values()  # type: ignore[assignment]  # as just seen
        return max(seconds, default=0.0) <= self._policy.ahead_below

    def is_worth_recalling(self, daemon: Daemon) -> bool:
        """Tell whether what waits at a daemon would gain from another one that is idle.

        Args:
            daemon: Holds more than one task.
        """
        if daemon.delayed:  # then it has been asked already, or one of its tasks has to stop
            return False
        seconds = list(filter(None, daemon.held.values()))
        # Of the tasks of one frame, whose results come together, many may be over by now.
        return (sum(seconds) if daemon.ahead else max(seconds, default=0.0)) > _RECALL

    def _is_soon_over(self, seconds: float | None) -> bool:
        return seconds is not None and seconds <= self._policy.ahead_below

    def _room(self, daemon: Daemon) -> int:
        limit = daemon.max_tasks
        size = self._policy.frame_size
        return size if limit is None else min(size, limit - daemon.tasks_sent)
