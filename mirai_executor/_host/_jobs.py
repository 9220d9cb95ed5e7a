"""Looks after daemons that an engine runs as jobs, until they end or the host does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from mirai_executor._waiting import Deadline, Reactor
from mirai_executor.launchers import Job, cancel_at_engines

OnEnd = Callable[[str | None], None]

_LET_GO = 1.0  # seconds for jobs to end by themselves, once their daemons have been let go


class Jobs:
    """Those of one executor. For the host thread only.

    Args:
        reactor: Calls what concerns the host thread.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._numbers = itertools.count()
        self._jobs: dict[int, tuple[Job, OnEnd]] = {}  # those that have not ended
        self._staying: set[int] = set()  # of them, when this host ends

    def __bool__(self) -> bool:
        """Whether there is one whose daemons may still come, or come again."""
        return bool(self._jobs)

    def keep(self, job: Job, on_end: OnEnd, *, stay: bool) -> None:
        """Wait for its end, or for that of the host.

        Args:
            job: Which one.
            on_end: Is called when it has ended, with what it says of a failure, or None.
            stay: Whether it is left alone when this host ends.
        """
        number = next(self._numbers)
        self._jobs[number] = (job, on_end)
        if stay:
            self._staying.add(number)
        # The engine calls on a thread of its own.
        job.add_done_callback(lambda: self._reactor.put(lambda: self._end(number)))

    def _end(self, number: int) -> None:
        if (kept := self._jobs.pop(number, None)) is not None:
            job, on_end = kept
            on_end(job.failed())

    def close(self) -> None:
        """Wait for them to end, which they do as their daemons leave; or cancel them.

        Those that are to stay are left alone.
        """
        jobs = [job for number, (job, _) in self._jobs.items() if number not in self._staying]
        self._jobs.clear()
        deadline = Deadline(_LET_GO)
        cancel_at_engines([job for job in jobs if not _ends(job, deadline)])


def _ends(job: Job, deadline: Deadline) -> bool:
    ended = threading.Event()
    job.add_done_callback(ended.set)
    return ended.wait(deadline.left)
