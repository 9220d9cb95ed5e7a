"""Knows the jobs that were handed to a queue by their ids, and takes them out again."""

import logging
import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Self

from mirai_executor import _nameless
from mirai_executor._texts import printable

_LOG = logging.getLogger("mirai_executor")
_PATIENCE = 10.0  # seconds for a scheduler to answer
_LAST_LINE = 500  # characters
# How they say that a job has ended.
_GONE = re.compile(
    r"invalid job id|already|do(es)? not exist|unknown job|has finished|not found|couldn't find"
    r"|invalid state for job|is inactive|no matching job",
    re.IGNORECASE,
)
_NOT_RUN = (126, 127)  # the exit statuses of a shell whose command cannot be run, or is not there


@dataclass(frozen=True)
class Queue:
    """How the jobs of a queue are known, and cancelled.

    Args:
        job: A pattern that finds the id of a job in what its submission has printed: its group.
        cancel: The words of the command that cancels jobs; their ids follow.
        cancel_waiting: Likewise, but it spares those of an array that run; empty if there is none.
        query: The words of the command that shows a job; its id follows. Empty if there is none.
        present: A pattern that is found in what this prints if the job waits or runs; in a line
            for each job of an array, if it tells them apart.
        absent: A pattern that is found in what this prints if it fails because there is no such
            job; the default fits nothing, so that whatever fails has forgotten no job.
        tells_apart: Whether it tells the jobs of an array apart.
        of_cluster: An option of all of these, for a job of another cluster, whose name is in the
            second group of the pattern.
        leaves: Whether jobs that wait when the executor ends are left in the queue.

    Example:
        >>> from mirai_executor.launchers import Queue
        >>> Queue(r"job (\\d+)", ("ours-cancel",)).id_in("Submitted batch job 17")
        '17'
    """

    job: str
    cancel: tuple[str, ...]
    cancel_waiting: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    present: str = ""
    leaves: bool = False
    absent: str = "(?!)"
    tells_apart: bool = False
    of_cluster: str = ""

    def id_in(self, output: str) -> str:
        """Return the id of the job that a submission has told of; empty if it has not."""
        found = self._found_in(output)
        return found[1] if found else ""

    def job_in(self, output: str) -> "QueuedJob | None":
        """Return the job that a submission has told of; None if it has not."""
        found = self._found_in(output)
        if found is None or not found[1]:
            return None
        cluster = found[2] if self.of_cluster else None
        return QueuedJob(self, found[1], (self.of_cluster.format(cluster),) if cluster else ())

    def _found_in(self, output: str) -> "re.Match[str] | None":
        # The terminal of ssh -tt ends lines by one more character.
        return re.search(self.job, output.replace("\r\n", "\n"), re.MULTILINE)

    def beside(self, command: Sequence[str], submit: str) -> Self | None:
        """Return it with commands that run as the one that submits, as over SSH or at a path.

        Args:
            command: What submits.
            submit: The name of the program for that.
        """
        for number, word in enumerate(command):
            if Path(word).name == submit:
                before, path = tuple(command[:number]), Path(word)
                return replace(
                    self,
                    cancel=_beside(before, path, self.cancel),
                    cancel_waiting=_beside(before, path, self.cancel_waiting),
                    query=_beside(before, path, self.query),
                )
        return None


def _beside(before: tuple[str, ...], submit: Path, words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        return ()
    program = str(submit.with_name(words[0])) if len(submit.parts) > 1 else words[0]
    return (*before, program, *words[1:])


@dataclass(frozen=True)
class QueuedJob:
    """A job in a queue.

    Args:
        queue: Which one.
        id: Its id there.
        more: Words that follow the id.
    """

    queue: Queue
    id: str
    more: tuple[str, ...] = ()


def cancel_jobs(jobs: Sequence[QueuedJob], *, waiting: bool = False) -> None:
    """Cancel these jobs, and no others; those that have ended are no error.

    Args:
        jobs: Which ones.
        waiting: Whether to spare those that run.
    """
    ids: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for job in jobs:
        words = job.queue.cancel_waiting if waiting else job.queue.cancel
        ids.setdefault((words, job.more), []).append(job.id)
    for (words, more), those in ids.items():
        if words and (why := _failure(_run((*words, *those, *more)))):
            _LOG.warning(
                "%s may not have cancelled jobs %s: %s", shlex.join(words), " ".join(those), why
            )


def _failure(ended: "subprocess.CompletedProcess[str] | None") -> str:
    """Return why a command may have cancelled nothing; empty if nothing was left to cancel."""
    if ended is None:
        return f"it did not run, or not within {_PATIENCE:g} s"
    said = f"{ended.stdout}\n{ended.stderr}".strip()
    if not ended.returncode or (ended.returncode not in _NOT_RUN and _GONE.search(said)):
        return ""
    last = said.splitlines()[-1] if said else ""
    return printable(f"exit status {ended.returncode}; {last}", _LAST_LINE)


def count_present(job: QueuedJob) -> int | None:
    """Return how many jobs of an array wait or run; None if nobody can tell, or only that some do.

    Whoever cannot be asked has forgotten nothing: other jobs would be too many.
    """
    queue = job.queue
    ended = _run((*queue.query, job.id, *job.more)) if queue.query else None
    if ended is None:
        return None
    if ended.returncode and not re.search(queue.absent, ended.stdout + ended.stderr, re.I):
        return None
    if not queue.tells_apart:
        return None if re.search(queue.present, ended.stdout, re.MULTILINE) else 0
    return sum(bool(re.search(queue.present, line)) for line in ended.stdout.splitlines())


def _run(words: Sequence[str]) -> "subprocess.CompletedProcess[str] | None":
    """Run a command; return None if it cannot be run, or takes too long."""
    try:
        # Files, not pipes: what it leaves running, as ssh may, can hold its streams open for long.
        with _memory() as out, _memory() as err:
            code = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=_PATIENCE,
                check=False,
                start_new_session=True,  # a terminal's Ctrl-C is the host's business alone
            ).returncode
            return subprocess.CompletedProcess(words, code, _text(out), _text(err))
    except (OSError, subprocess.TimeoutExpired):
        return None


def _memory() -> IO[str]:
    return os.fdopen(_nameless.create("mirai-queue"), "w+", errors="replace")


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
