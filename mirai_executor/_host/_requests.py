"""Remembers which daemons were asked for elsewhere, which have come, and what was said.

::

    asked for ──► on their way ──► arrived
                       └── their command has ended, or their job is not in its queue ──► missed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirai_executor._typing import Mutable, Record
from mirai_executor.launchers import cancel_jobs, count_present

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mirai_executor.errors import LaunchError
    from mirai_executor.launchers import Job, QueuedJob

_SAID = 3  # answers that are remembered: the last ones


class Request(Record):
    """Daemons that were asked for together.

    Args:
        name: What they say when they come.
        count: How many.
        said: What was printed or answered, by whom.
        jobs: Those in queues that are to run them, as far as their ids are known.
        commands: How many commands, or jobs of engines, run as long as they do.
        is_kept: Whether others take their places when they are lost.
        is_scaled: Whether who decides how many are needed has asked for them.
        missed: How many more were asked for in vain, and why.
        at_engines: Jobs that engines run when they have room; they tell when they never will.
        files: What lies elsewhere for these daemons to read as they start.
    """

    name: str
    count: int
    said: Sequence[str] = ()
    jobs: Sequence[QueuedJob] = ()
    commands: int = 0
    is_kept: bool = False
    is_scaled: bool = False
    missed: int = 0
    failures: Sequence[LaunchError] = ()
    at_engines: Sequence[Job] = ()
    files: Sequence[Path] = ()

    @property
    def jobs_are_known(self) -> bool:
        """Whether no daemon comes once its jobs have been cancelled."""
        return bool(self.jobs) or 0 < len(self.at_engines) == self.commands


class Superfluous(Record):
    """What would bring daemons that nobody needs.

    Args:
        whole: Jobs in queues that have brought nobody.
        waiting: Likewise, but only that part of them is superfluous which waits.
        at_engines: Jobs of engines.
        count: For how many daemons.
    """

    whole: Sequence[QueuedJob] = ()
    waiting: Sequence[QueuedJob] = ()
    at_engines: Sequence[Job] = ()
    count: int = 0


class Awaited(Record):
    """Daemons that are awaited, and the jobs in queues that are to run them.

    Args:
        name: That of their request.
        due: How many of them are no longer expected by whoever decides.
        left: How many have yet to come.
        here: How many of the same jobs are there.
        jobs: Those jobs.
        count: How many daemons they are in all.
    """

    name: str
    due: int
    left: int
    here: int
    jobs: Sequence[QueuedJob]
    count: int


# The name of a request, for how many of its daemons there is no job, and how many of them were
# to come, and here, when that was asked.
Gone = tuple[str, int, tuple[int, int]]


class _Open(Mutable):
    """A request of which not all have come."""

    request: Request
    left: int  # to come
    commands: int  # that still run
    here: int = 0  # have come, and not been lost
    forgotten: int = 0  # will not come, as their jobs are gone


class Requests:
    """Those of one executor. For the host thread only, but for what says otherwise.

    Args:
        release: Is given the files of a request that nobody reads any more.
    """

    def __init__(self, release: Callable[[Sequence[Path]], object] = lambda _: None) -> None:
        self._release = release
        self._said: list[str] = []
        self._failures: list[str] = []  # the last ones, until a request is successful
        self._open: dict[str, _Open] = {}
        self._early: dict[str, int] = {}  # have come before their request was known

    @property
    def said(self) -> str:
        """What was said the last time, by whom; empty if nothing was."""
        return "; ".join(self._failures or self._said)

    @property
    def failures(self) -> tuple[str, ...]:
        """Why daemons were asked for in vain the last time, or some of them; empty if all came."""
        return tuple(self._failures)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of which some daemons have yet to come."""
        return tuple(self._open)

    @property
    def left(self) -> int:
        """How many daemons were asked for and have not come."""
        return sum(known.left for known in self._open.values())

    def add(self, request: Request) -> None:
        """Note that daemons were asked for."""
        self._failures = [str(error) for error in request.failures][-_SAID:]
        self._said = [*self._said, *request.said][-_SAID:]
        early = [
            name for name in self._early if name == request.name or _group(name) == request.name
        ]
        here = sum(map(self._early.pop, early))
        known = _Open(request, max(0, request.count - here), request.commands, here)
        self._open[request.name] = known
        self._end_if_over(known)

    def _end_if_over(self, known: _Open) -> None:
        """Forget a request once nobody is to come for it any more."""
        request = known.request
        if known.left:
            return
        is_replaced = self.is_replaced(request.name)
        del self._open[request.name]
        # What is not replaced may come again: its scheduler may run a job a second time.
        if request.files and (is_replaced or not known.here):
            self._release(request.files)

    def note_failure(self, error: Exception) -> None:
        """Note that daemons were asked for in vain."""
        self._failures = [str(error)]

    def note_arrival(self, name: str) -> None:
        """Note that a daemon has come: one by its own name, or one of a request."""
        own = name if name in self._open else _group(name)
        if (known := self._open.get(own)) is None:
            self._early[name] = self._early.get(name, 0) + 1
            return
        known.left -= 1
        known.here += 1
        self._end_if_over(known)

    def note_loss(self, name: str) -> None:
        """Note that a daemon has gone that had come in this name."""
        known = self._open.get(name) or self._open.get(_group(name))
        if known is not None and known.here:
            known.here -= 1

    def note_end(self, name: str) -> int:
        """Note that a command has ended; return how many daemons will not come for that."""
        if (known := self._open.get(name)) is None:
            return 0
        known.commands -= 1
        # The others may be those that bring what is missing.
        share = -(-known.request.count // known.request.commands)
        missed = max(0, known.left - known.commands * share)
        known.left -= missed
        self._end_if_over(known)
        return missed

    # Jobs in a queue

    def unexpected(self, expected: int) -> tuple[list[Awaited], int]:
        """Return who is to come, the first ones, beyond those that who decides still expects.

        Returns:
            Those whose jobs are in queues, which may have forgotten them, and how many others
            engines have yet to run.
        """
        known = [it for it in self._open.values() if it.request.jobs or it.request.at_engines]
        excess = sum(it.left for it in known) - expected
        in_queues: list[Awaited] = []
        at_engines = 0
        for it in known:
            due = max(0, min(it.left, excess))
            excess -= due
            if not it.request.jobs:
                at_engines += due
            elif due:
                request = it.request
                in_queues.append(
                    Awaited(request.name, due, it.left, it.here, request.jobs, request.count)
                )
        return in_queues, at_engines

    def is_replaced(self, name: str) -> bool:
        """Tell whether others are asked for in the place of those that do not come."""
        known = self._open.get(name)
        return known is not None and (known.request.is_kept or known.request.is_scaled)

    def forget(
        self, name: str, count: int | None = None, seen: tuple[int, int] | None = None
    ) -> int:
        """Expect so many less of these, or none any more; return how many those were.

        Args:
            name: That of the request.
            count: How many; None for all.
            seen: How many had yet to come, and were here, when that was found out. If that is not
                so any more, it has to be found out again.
        """
        known = self._open.get(name)
        if known is None or seen not in (None, (known.left, known.here)):
            return 0
        gone = known.left if count is None else min(count, known.left)
        known.left -= gone
        known.forgotten += gone
        self._end_if_over(known)
        return gone

    def superfluous(self, count: int) -> Superfluous:
        """Take out jobs that would bring no more than so many daemons that nobody needs."""
        whole: list[QueuedJob] = []
        waiting: list[QueuedJob] = []
        at_engines: list[Job] = []
        found = 0
        for name, known in reversed(list(self._open.items())):
            request, left = known.request, known.left
            if left > count - found or not request.jobs_are_known:
                continue
            untouched = left + known.forgotten == request.count
            if not untouched and not (
                request.jobs and all(job.queue.cancel_waiting for job in request.jobs)
            ):
                continue  # some of its daemons are here
            (whole if untouched else waiting).extend(request.jobs)
            at_engines += request.at_engines
            found += self.forget(name)
        return Superfluous(whole, waiting, at_engines, found)

    def cancel_rest(self) -> None:
        """Cancel what still waits, as nobody will need it, unless it is to be left."""
        queued = [job for known in self._open.values() for job in known.request.jobs]
        self._open.clear()
        cancel_jobs([job for job in queued if not job.queue.leaves])


def _group(name: str) -> str:
    """Return the request to which a daemon belongs that has a name of its own."""
    return name.partition(".")[0]


def still_coming(awaited: Sequence[Awaited]) -> tuple[int, list[Gone]]:
    """Ask schedulers about jobs that have been awaited for long; on a thread that may wait.

    Returns:
        How many of the daemons that are due have jobs that wait or run; and for how many daemons
        of which requests there are none.
    """
    coming = 0
    gone: list[Gone] = []
    for one in awaited:
        found = min(one.left, _still_coming(one))
        coming += min(one.due, found)
        if found < one.left:
            gone.append((one.name, one.left - found, (one.left, one.here)))
    return coming, gone


def _still_coming(one: Awaited) -> int:
    """Return for how many daemons there are jobs that have not brought them yet."""
    found = 0
    for job in one.jobs:
        present = count_present(job)
        if present is None:  # some at least, or nobody can tell
            if len(one.jobs) < one.count:
                return one.left
            present = 1
        found += present
    return max(0, found - one.here)
