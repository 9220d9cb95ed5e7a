"""Decides which tasks travel together, and which to a daemon that is still busy.

A task whose kind has not been proven short travels alone, to a daemon that is free. Short ones
share a frame: those that wait already, as many as fill the time that a frame may hold, and never
more than a fair share of the queue. A second frame may wait behind the first one, so that a
daemon need not wait for its host; it is taken back when that turns out to be a mistake.

What is far away waits longer for its host: there, a frame holds as much work as fits into the way
to the host and back, and longer tasks wait behind others, up to what a lost daemon may cost.
"""

from collections import OrderedDict
from collections.abc import Iterable

from ._durations import Durations
from ._fleet import Daemon, Fleet
from ._tasks import Tasks
from .messages import Policy, TaskId

_RECALL = 400e-6  # seconds: about what it takes to have tasks back and send them elsewhere

_FAR = 10e-3  # seconds of a round trip; one that is shorter changes nothing
_MARGIN = 1.1  # round trips of work in a frame, at least: they are not all alike
_WORTH = 4.0  # round trips: a daemon that waits for one after such a task is busy for 80 %


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
        self, daemon: Daemon, queue: "OrderedDict[TaskId, None]", share: int
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
            daemon = prompt[next(reversed(prompt))]
            if not self._is_soon_over(self.expected(next(iter(queue))), daemon):
                return None
            prompt.popitem()
            if daemon.may_get_ahead and self._room(daemon) and self._is_prompt(daemon):
                return daemon
        return None

    def _is_prompt(self, daemon: Daemon) -> bool:
        """Tell whether all that a daemon holds is expected to be over soon."""
        if self._policy.frame_time <= 0 or None in daemon.held.values():
            return False
        seconds: Iterable[float] = daemon.held.values()  # type: ignore[assignment]  # as just seen
        return max(seconds, default=0.0) <= self._ahead_below(daemon)

    def is_worth_recalling(self, daemon: Daemon) -> bool:
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

    def _is_soon_over(self, seconds: float | None, daemon: Daemon) -> bool:
        return seconds is not None and seconds <= self._ahead_below(daemon)

    def _frame_time(self, daemon: Daemon, first: float) -> float:
        """Return how much work a frame for a daemon may hold, in seconds, its first task's too."""
        seconds = self._policy.frame_time
        if daemon.round_trip <= _FAR or seconds <= 0:
            return seconds
        most = self._policy.far_frame_time
        return max(seconds, min(_MARGIN * daemon.round_trip + first, most))

    def _ahead_below(self, daemon: Daemon) -> float:
        """Return how long tasks may take behind which others wait at a daemon, in seconds."""
        seconds = self._policy.ahead_below
        return seconds if daemon.round_trip <= _FAR else max(seconds, _WORTH * daemon.round_trip)

    def _room(self, daemon: Daemon) -> int:
        limit = daemon.max_tasks
        is_far = daemon.round_trip > _FAR
        size = self._policy.far_frame_size if is_far else self._policy.frame_size
        return size if limit is None else min(size, limit - daemon.tasks_sent)
