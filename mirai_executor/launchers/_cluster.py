"""Starts daemons as jobs of a cluster's scheduler: one array of jobs, its script on stdin."""

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mirai_executor._arguments import check_count

from ._daemon import (
    Command,
    DaemonCommand,
    PrivateFile,
    Submission,
    checked_count,
    exports,
    lines_of,
    words_of,
)
from ._queue import Queue

__all__ = ["ClusterConfig", "Scheduler", "cluster_config"]


@dataclass(frozen=True)
class Scheduler:
    """How a scheduler reads the script of a job.

    Args:
        prefix: What its lines of options begin with.
        array: Its option for an array of ``{n}`` jobs; ``{name}`` is the name of the job.
        asks_for_array: A pattern that finds an array among the user's lines of options.
        shell: A line that makes it run the script with ``/bin/sh``, if the first line does not.
        named: A pattern for the name of the job, if the array is part of that option. What it
            matches is removed from the user's lines, and its group is the name.
        submit: The program that hands jobs over; ``queue`` is used with a command that runs it.
        queue: How its jobs are known and cancelled; None if they are left alone.

    Example:
        >>> from mirai_executor.launchers import Scheduler
        >>> ours = Scheduler("#OURS", "--jobs {n}", r"\\s--jobs\\b")
        >>> cluster_config("ours-submit", scheduler=ours).scheduler.array
        '--jobs {n}'
    """

    prefix: str
    array: str
    asks_for_array: str
    shell: str = ""
    named: str = ""
    submit: str = ""
    queue: Queue | None = None


# What each command prints of a job that it takes on, and shows of one that waits or runs. Those of
# arrays of which some have run are cancelled as a whole, except where those that wait can be told.
_SLURM = Queue(
    r"^(?:Submitted batch job )?(\d+)\b",
    ("scancel",),
    ("scancel", "--state=PENDING"),
    ("squeue", "--noheader", "--format=%T", "--jobs"),
    r"PENDING|RUNNING|CONFIGURING|COMPLETING|SUSPENDED|REQUEUE|STOPPED|RESIZING|SIGNALING",
)
_GRID_ENGINE = Queue(
    r"^(?:Your job(?:-array)? )?(\d+)\b",
    ("qdel",),
    query=("qstat", "-j"),
    present=r"job_number:",
)
_PBS = Queue(
    r"^(\d+(?:\[\])?(?:\.\S+)?)$", ("qdel",), query=("qstat",), present=r"\s[BHQRSTUW]\s+\S+\s*$"
)
_LSF = Queue(
    r"^Job <(\d+)>", ("bkill",), query=("bjobs", "-noheader"), present=r"PEND|RUN|SUSP|WAIT|PROV"
)

SCHEDULERS = {
    # sbatch(1), qsub(1) of Grid Engine, of PBS Professional and of Torque, bsub(1) of LSF
    "slurm": Scheduler(
        "#SBATCH", "--array=1-{n}", r"\s(-a|--array)\b", submit="sbatch", queue=_SLURM
    ),
    "sge": Scheduler("#$", "-t 1-{n}", r"\s-t\s", "-S /bin/sh", submit="qsub", queue=_GRID_ENGINE),
    "pbs": Scheduler("#PBS", "-J 1-{n}", r"\s-J\s", "-S /bin/sh", submit="qsub", queue=_PBS),
    "torque": Scheduler("#PBS", "-t 1-{n}", r"\s-t\s", "-S /bin/sh", submit="qsub", queue=_PBS),
    "lsf": Scheduler(
        "#BSUB",
        '-J "{name}[1-{n}]"',
        r"\s-J\s+\S+\[",
        named=r"\s-J\s+[\"']?(?P<name>[^\s\"'\[]+)[\"']?(?=\s|$)",
        submit="bsub",
        queue=_LSF,
    ),
}
_OF_COMMAND = {"sbatch": "slurm", "bsub": "lsf"}


@dataclass(frozen=True)
class ClusterConfig:
    """How to start daemons with a scheduler; made by :func:`cluster_config`."""

    scheduler: Scheduler
    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable,)
    prologue: tuple[str, ...] = ()
    secret_folder: Path | None = None
    largest_array: int = 1000
    leaves: bool = False

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one submission for all daemons, or as few as the largest array allows.

        Raises:
            ValueError: The options ask for an array of their own.
        """
        whole, rest = divmod(checked_count(count), self.largest_array)
        sizes = [self.largest_array] * whole + ([rest] if rest else [])
        return [self._submission(daemon, size) for size in sizes]

    def _submission(self, daemon: DaemonCommand, size: int) -> Command:
        files: tuple[PrivateFile, ...] = ()
        secret = exports(daemon)
        if self.secret_folder is not None:
            file = _secret_file(self.secret_folder, secret)
            files, secret = (file,), [f". {shlex.quote(str(file.path))}"]
        lines = [
            "#!/bin/sh",
            *self._directives(size),
            *self.prologue,
            *secret,
            f"exec {shlex.join(daemon.argv(self.python))}",
            "",
        ]
        script = "\n".join(lines).encode()
        return Command(
            self.command, stdin=script, files=files, secret=daemon.secret, queue=self._queue()
        )

    def _queue(self) -> Queue | None:
        queue = self.scheduler.queue
        found = None if queue is None else queue.beside(self.command, self.scheduler.submit)
        return None if found is None else replace(found, leaves=self.leaves)

    def _directives(self, size: int) -> list[str]:
        """Return the lines of options: those that we need first, as schedulers may stop early."""
        scheduler, lines = self.scheduler, list(self.options)
        ours = [scheduler.shell] if scheduler.shell else []
        if size > 1:
            if any(self._is_option(line, scheduler.asks_for_array) for line in lines):
                raise ValueError(
                    "options= asks for an array of jobs, which is how several daemons are "
                    "started; leave it out, or launch one daemon at a time"
                )
            name, lines = self._without_name(lines)
            ours.append(scheduler.array.format(n=size, name=name))
        return [*(f"{scheduler.prefix} {option}" for option in ours), *lines]

    def _is_option(self, line: str, pattern: str) -> bool:
        return line.startswith(self.scheduler.prefix) and bool(re.search(pattern, line))

    def _without_name(self, lines: list[str]) -> tuple[str, list[str]]:
        """Take the user's name of the job out of the lines, where the array repeats it."""
        name, pattern, kept = "mirai", self.scheduler.named, []
        for line in lines:
            if pattern and self._is_option(line, pattern):
                name = re.search(pattern, line)["name"]  # type: ignore[index] # it is there: _is_option
                line = re.sub(pattern, "", line)
            if line != self.scheduler.prefix:
                kept.append(line)
        return name, kept


def cluster_config(
    command: str | Sequence[str] = "sbatch",
    options: str | Sequence[str] = "",
    *,
    python: str | Sequence[str] | None = None,
    prologue: str | Sequence[str] = (),
    scheduler: str | Scheduler | None = None,
    secret_folder: str | Path | None = None,
    largest_array: int = 1000,
    on_exit: Literal["cancel", "leave"] = "cancel",
) -> ClusterConfig:
    """Describe how to start daemons as jobs of a cluster's scheduler. Starts nothing yet.

    Args:
        command: ``"sbatch"`` for Slurm, ``"qsub"`` for SGE, Torque or PBS, ``"bsub"`` for LSF.
        options: Lines for the script of the job, such as ``"#SBATCH --mem=10G"``; they may be
            followed by lines of shell.
        python: The Python interpreter on the nodes, or the words of a command that runs it; by
            default, the path of the current one.
        prologue: Lines of shell that prepare the environment, such as ``"module load python"``.
        scheduler: ``"slurm"``, ``"sge"``, ``"pbs"`` (Professional), ``"torque"`` or ``"lsf"``, if
            it cannot be determined from the command and the options; or a ``Scheduler`` of your
            own.
        secret_folder: A folder shared by the nodes. The executor's secret is then written to a
            file there that only you can read, instead of into the script, of which schedulers keep
            copies.
        largest_array: How many jobs an array may have (in Slurm, ``MaxArraySize`` minus one).
        on_exit: What becomes of jobs that still wait in the queue when the executor ends:
            ``"cancel"`` cancels exactly these, and ``"leave"`` leaves them.

    Returns:
        A launcher for ``remote=``, as plain, immutable data that can be printed and used again.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The scheduler cannot be determined, or an argument contains invalid characters.

    Example:
        >>> launcher = cluster_config("sbatch", "#SBATCH --mem=10G")
        >>> launcher.scheduler.prefix, launcher.options
        ('#SBATCH', ('#SBATCH --mem=10G',))
    """
    check_count("largest_array", largest_array, 1)
    if on_exit not in ("cancel", "leave"):
        raise ValueError(f'on_exit must be "cancel" or "leave", not {on_exit!r}')
    words, lines = words_of(command), lines_of(options)
    return ClusterConfig(
        scheduler if isinstance(scheduler, Scheduler) else _told(scheduler, words[0], lines),
        words,
        lines,
        words_of(python or sys.executable),
        lines_of(prologue),
        None if secret_folder is None else Path(secret_folder).expanduser().absolute(),
        largest_array,
        on_exit == "leave",
    )


def _told(name: str | None, command: str, lines: Sequence[str]) -> Scheduler:
    name = name or _OF_COMMAND.get(Path(command).name) or _of_lines(lines)
    if name not in SCHEDULERS:
        raise ValueError(
            f"cannot determine the scheduler from {name or command!r}; "
            f"pass scheduler= one of {', '.join(SCHEDULERS)}"
        )
    return SCHEDULERS[name]


def _of_lines(lines: Sequence[str]) -> str | None:
    """Tell by the options; or by the variable that Grid Engine needs in the environment."""
    for prefix, name in (
        ("#$ ", "sge"),
        ("#PBS ", "pbs"),
        ("#SBATCH ", "slurm"),
        ("#BSUB ", "lsf"),
    ):
        if any(line.startswith(prefix) for line in lines):
            return name
    return "sge" if "SGE_ROOT" in os.environ else None


def _secret_file(folder: Path, lines: Sequence[str]) -> PrivateFile:
    """Name the file by what it holds: one for an executor, however often it launches."""
    text = "\n".join([*lines, ""])
    return PrivateFile(folder / f"mirai-{hashlib.sha256(text.encode()).hexdigest()[:16]}.sh", text)
