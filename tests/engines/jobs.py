"""Notes the jobs that an engine accepts, and which of them have ended."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mirai_executor.launchers import DaemonCommand, Job, JobRequest, Launcher, Submission

__all__ = ["Noting"]


class Noting:
    """A launcher that does what another one does."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._changed = threading.Condition()
        self.jobs: list[Job] = []
        self.ended: list[Job] = []

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        requests = self._launcher.plan(daemon, count)
        return [
            replace(request, submit=partial(self._submit, request))
            for request in requests
            if isinstance(request, JobRequest)
        ]

    def _submit(self, request: JobRequest, *arguments: Any) -> Sequence[Job]:
        jobs = request.submit(*arguments)
        assert isinstance(jobs, Sequence)
        with self._changed:
            self.jobs += jobs
            self._changed.notify_all()
        for job in jobs:
            job.add_done_callback(partial(self._end, job))
        return jobs

    def _end(self, job: Job) -> None:
        with self._changed:
            self.ended.append(job)
            self._changed.notify_all()

    def wait(self, seconds: float, *, jobs: int, ended: int) -> None:
        """Wait until so many have been accepted, and so many of them have ended."""
        with self._changed:
            is_so = self._changed.wait_for(
                lambda: (len(self.jobs), len(self.ended)) == (jobs, ended), seconds
            )
            assert is_so, (self.jobs, self.ended)
