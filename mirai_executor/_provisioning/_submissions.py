"""Reads what launchers have planned, and what has become of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirai_executor.launchers import Command, HttpRequest, JobRequest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mirai_executor.launchers import Job, Launched, Submission

    Started = subprocess.Popen[bytes] | Job

_LONGEST = 200  # characters of an answer that messages repeat


def files_of(submissions: Iterable[Submission]) -> set[Path]:
    """Return where the files are that have been written for some submissions."""
    commands = (it for it in submissions if isinstance(it, Command))
    return {file.path for command in commands for file in command.files}


def apart(
    submissions: Sequence[Submission], launched: Sequence[Launched]
) -> tuple[list[tuple[str, Job]], list[Started]]:
    """Return the jobs that are one daemon each, by its name, and what else has been started."""
    alone: list[tuple[str, Job]] = []
    others: list[Started] = []
    for submission, one in zip(submissions, launched, strict=True):
        daemons = submission.daemons if isinstance(submission, JobRequest) else ()
        if len(daemons) == len(one.jobs):
            alone += zip((daemon.request for daemon in daemons), one.jobs, strict=True)
        else:
            others += one.jobs
        if one.process is not None:
            others.append(one.process)
    return alone, others


def told(submission: Submission, launched: Launched) -> str:
    """Return what was said to a submission, by whom; empty if nothing was."""
    lines = launched.output.strip().splitlines()
    if not lines:
        return ""
    match submission:
        case Command():
            who = submission.argv[0]
        case HttpRequest():
            who = submission.method
        case _:
            who = submission.name
    return f"{who} said: {lines[-1].strip()[:_LONGEST]}"
