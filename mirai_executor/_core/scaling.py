"""Decides how many daemons to ask a launcher for, and how many to let go, as the work changes.

::

    demand: tasks that wait or run          wanted = demand, between minimum and maximum
    connected, and asked for but not come   asked for = wanted - both, in one go
    surplus for ``idle_time``               let go of = the least surplus in that time; of those
                                            asked for, what comes on top of it is cancelled

A daemon that has gone counts as long as its keeper is about to come with another one: who asked
for that, too, would have two in the place of one.

Asking a scheduler takes patience: daemons may queue for hours, and a scheduler that refuses
must not be asked again at once. So what was asked for counts as coming for ``patience``, and after
a refusal, or after daemons that came to nothing, the pause before the next request doubles.

Pure, as all of this room: time is an argument.
"""

from __future__ import annotations

import math
from collections import deque

from mirai_executor._typing import Record

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0  # seconds between two requests after a refusal
_BACK_AGAIN = 5.0  # seconds for a keeper to come with another daemon: it tries for two
_PATIENCE = 8.0  # the pause after four refusals in a row: what waits has waited for 7 seconds


class ScalePolicy(Record):
    """How many daemons there may be.

    Args:
        minimum: So many are kept, whether there is work or not.
        maximum: There are never more.
        idle_time: Seconds for which a daemon is not needed before it is let go.
        patience: Seconds that a daemon may take to come before another one is asked for.
    """

    minimum: int
    maximum: int
    idle_time: float = 60.0
    patience: float = 600.0

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.maximum or self.maximum < 1:
            raise ValueError(
                "the numbers of daemons must satisfy 0 <= minimum <= maximum, with maximum >= 1, "
                f"not minimum={self.minimum!r}, maximum={self.maximum!r}"
            )
        if self.idle_time <= 0 or self.patience <= 0:
            raise ValueError(
                "idle_time and patience must be positive numbers of seconds, "
                f"not {self.idle_time!r} and {self.patience!r}"
            )


class Load(Record):
    """What there is to do, and who is there to do it.

    Args:
        demand: Tasks that wait or run.
        connected: Daemons that are there.
        cumulative: Daemons that have ever come.
        completed: Tasks that have ended.
        lost_early: Daemons that have come, and were never ready.
        is_closing: Whether there is nothing to do but what is there now.
    """

    demand: int
    connected: int
    cumulative: int
    completed: int
    lost_early: int = 0
    is_closing: bool = False


class Change(Record):
    """What to do about it."""

    launch: int = 0
    dismiss: int = 0
    cancel: int = 0  # of those that were asked for


class Scaler:
    """Remembers what was asked for. Not thread-safe."""

    def __init__(self, policy: ScalePolicy) -> None:
        self._policy = policy
        self._asked: deque[tuple[float, int]] = deque()  # until when they may come, and how many
        self._returning: deque[float] = deque()  # until when their keepers may bring others
        self._seen = Load(0, 0, 0, 0)
        self._pause = 0.0  # after the last request came to nothing
        self._not_before = -math.inf
        self._have_come = False  # some, after that
        self._fruitless = 0  # daemons that have come since a task ended
        self._least_surplus: tuple[float, int] | None = None  # since when there is one
        self._least_excess: tuple[float, int] | None = None  # of those that are to come; likewise
        self.failures = 0  # requests that came to nothing, ever

    @property
    def coming(self) -> int:
        """How many were asked for and have not come."""
        return sum(count for _, count in self._asked)

    @property
    def returning(self) -> int:
        """How many have gone whose keepers are about to come with others."""
        return len(self._returning)

    def decide(self, load: Load, now: float) -> Change:
        """Return what has to change. Who launches, reports a failure by :meth:`refuse`."""
        self._take_in(load, now)
        policy = self._policy
        minimum = 0 if load.is_closing else policy.minimum
        wanted = min(max(load.demand, minimum), policy.maximum)
        missing = wanted - load.connected - self.coming - self.returning
        if missing > 0:
            self._least_surplus = self._least_excess = None
            return self._ask(missing, now)
        excess = min(self.coming, -missing)
        return Change(
            dismiss=self._let_go(load.connected - wanted, now),
            cancel=self._call_off(excess, now),
        )

    def grow(self, count: int, now: float) -> None:
        """Have so many more, which have been asked for already."""
        old = self._policy
        minimum = old.minimum + count if old.minimum else 0
        self._policy = old.changed(minimum=minimum, maximum=old.maximum + count)
        self.expect(count, now)

    def expect(self, count: int, now: float) -> None:
        """Note that so many are on their way, whoever has asked for them."""
        self._asked.append((now + self._policy.patience, count))

    def expect_back(self, now: float) -> None:
        """Note that a daemon has gone, and that its keeper is about to come with another."""
        self._returning.append(now + _BACK_AGAIN)

    def note_back(self, now: float) -> None:
        """Note that a keeper has come with another daemon, which is not ready yet."""
        if self._returning:
            self._returning.popleft()
            self.expect(1, now)

    def forget(self, count: int) -> None:
        """Note that so many that were asked for have been cancelled."""
        left = count
        while left and self._asked:
            until, asked = self._asked.pop()
            if asked > left:
                self._asked.append((until, asked - left))
            left -= min(asked, left)

    def note_queued(self) -> None:
        """Note that what has not come in time waits in a queue still: nothing has failed."""
        self._pause = 0.0

    @property
    def is_refused(self) -> bool:
        """Whether it is a long time that no request has led to anything."""
        return self._pause >= _PATIENCE

    def refuse(self, count: int, now: float) -> None:
        """Note that ``count`` daemons that were asked for will not come."""
        self.forget(count)
        self._wait(now)

    def next_look(self, load: Load, now: float) -> float | None:
        """Return when time alone may change what :meth:`decide` says; None for never."""
        moments = [*self._returning, *(until for until, _ in self._asked)]
        if self._not_before > now:
            moments.append(self._not_before)
        if self._least_surplus is not None:
            moments.append(self._least_surplus[0] + self._policy.idle_time)
        if self._least_excess is not None:
            moments.append(self._least_excess[0] + self._policy.idle_time)
        return min(moments, default=None)

    def _take_in(self, load: Load, now: float) -> None:
        came = load.cumulative - self._seen.cumulative
        self._have_come |= came > 0
        if load.completed > self._seen.completed:
            self._fruitless = 0
            # What others do says nothing of a machine from which none comes.
            self._pause = 0.0 if self._have_come else self._pause
        elif came:
            self._fruitless += came
            if self._fruitless > self._policy.maximum:
                # More have come than there may be, and done nothing: they end as they begin.
                self._fruitless = 0
                self._wait(now)
        if lost := load.lost_early - self._seen.lost_early:
            self._wait(now)
        gone = came + lost
        while gone and self._asked:
            until, asked = self._asked.popleft()
            if asked > gone:
                self._asked.appendleft((until, asked - gone))
            gone -= min(asked, gone)
        self._seen = load
        self._expect_no_more(now)

    def _expect_no_more(self, now: float) -> None:
        """Take note of those that have not come in time."""
        while self._asked and self._asked[0][0] <= now:
            self._asked.popleft()
            self._wait(now)
        while self._returning and self._returning[0] <= now:
            self._returning.popleft()

    def _ask(self, missing: int, now: float) -> Change:
        if now < self._not_before:
            return Change()
        self._asked.append((now + self._policy.patience, missing))
        return Change(launch=missing)

    def _wait(self, now: float) -> None:
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._not_before = now + self._pause
        self._have_come = False
        self.failures += 1

    def _let_go(self, surplus: int, now: float) -> int:
        self._least_surplus, count = self._least(self._least_surplus, surplus, now)
        return count

    def _call_off(self, excess: int, now: float) -> int:
        self._least_excess, count = self._least(self._least_excess, excess, now)
        return count

    def _least(
        self, known: tuple[float, int] | None, surplus: int, now: float
    ) -> tuple[tuple[float, int] | None, int]:
        """Return since when there has been how much too much, and how much is to go now."""
        if surplus <= 0:
            return None, 0
        since, least = known or (now, surplus)
        least = min(least, surplus)
        if now - since < self._policy.idle_time:
            return (since, least), 0
        return None, least
