"""Starts daemons as jobs of a cluster's scheduler: one array of jobs, its script on stdin."""

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirai_executor._arguments import check_count

from ._daemon import (
    Command,
    DaemonCommand,
    PrivateFile,
    Submission,
    checked_count,
    exports,
    guarded,
    lines_of,
    words_of,
)

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
        number: What stands, in an option such as the name of a log file, for the number of a job
            in its array.
        variable: The variable in which a job finds that number.

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
    number: str = ""
    variable: str = ""


SCHEDULERS = {
    # sbatch(1), qsub(1) of Grid Engine, of PBS Professional and of Torque, bsub(1) of LSF
    "slurm": Scheduler(
        *("#SBATCH", "--array=1-{n}", r"\s(-a|--array)\b"),
        number="%a",
        variable="SLURM_ARRAY_TASK_ID",
    ),
    "sge": Scheduler(
        *("#$", "-t 1-{n}", r"\s-t\s", "-S /bin/sh"), number="$TASK_ID", variable="SGE_TASK_ID"
    ),
    "pbs": Scheduler(
        *("#PBS", "-J 1-{n}", r"\s-J\s", "-S /bin/sh"),
        number="^array_index^",
        variable="PBS_ARRAY_INDEX",
    ),
    "torque": Scheduler(
        *("#PBS", "-t 1-{n}", r"\s-t\s", "-S /bin/sh"),
        number="$PBS_ARRAYID",
        variable="PBS_ARRAYID",
    ),
    "lsf": Scheduler(
        "#BSUB",
        '-J "{name}[1-{n}]"',
        r"\s-J\s+\S+\[",
        named=r"\s-J\s+[\"']?(?P<name>[^\s\"'\[]+)[\"']?(?=\s|$)",
        number="%I",
        variable="LSB_JOBINDEX",
    ),
}
# Where the commands of either find their server.
_TORQUE, _PBS = Path("/var/spool/torque/server_name"), Path("/etc/pbs.conf")
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
            *(self._numbered(line, size) for line in self._directives(size)),
            *guarded([self._numbered(line, size) for line in self.prologue]),
            *secret,
            f"exec {shlex.join(daemon.argv(self.python))}",
            "",
        ]
        script = "\n".join(lines).encode()
        return Command(self.command, stdin=script, files=files, secret=daemon.secret)

    def _numbered(self, line: str, size: int) -> str:
        """Say what ``{number}`` is: known here for a single job, and else to its scheduler."""
        scheduler = self.scheduler
        if size == 1:
            return line.replace("{number}", "1")
        is_option = line.startswith(scheduler.prefix)
        return line.replace(
            "{number}", scheduler.number if is_option else f"${{{scheduler.variable}}}"
        )

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
) -> ClusterConfig:
    """Describe how to start daemons as jobs of a cluster's scheduler. Starts nothing yet.

    Args:
        command: ``"sbatch"`` for Slurm, ``"qsub"`` for SGE, Torque or PBS, ``"bsub"`` for LSF.
        options: Lines for the script of the job, such as ``"#SBATCH --mem=10G"``; they may be
            followed by lines of shell. In both, and in ``prologue``, ``{number}`` is the number of
            the job in its array, from 1, as in ``"#SBATCH --output=job-{number}.out"``.
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
    words, lines = words_of(command), lines_of(options)
    return ClusterConfig(
        scheduler if isinstance(scheduler, Scheduler) else _told(scheduler, words[0], lines),
        words,
        lines,
        words_of(python or sys.executable),
        lines_of(prologue),
        None if secret_folder is None else Path(secret_folder).expanduser().absolute(),
        largest_array,
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
    pbs = "torque" if _is_torque(lines) else "pbs"
    for prefix, name in (
        ("#$ ", "sge"),
        ("#PBS ", pbs),
        ("#SBATCH ", "slurm"),
        ("#BSUB ", "lsf"),
    ):
        if any(line.startswith(prefix) for line in lines):
            return name
    return "sge" if "SGE_ROOT" in os.environ else None


def _is_torque(lines: Sequence[str]) -> bool:
    """Tell whether options of PBS are those of Torque, or else this machine belongs to one."""
    if any("select=" in line for line in lines):
        return False
    if any(re.search(r"\bnodes=\S*:ppn=", line) for line in lines):
        return True
    return _TORQUE.exists() and not _PBS.exists()


def _secret_file(folder: Path, lines: Sequence[str]) -> PrivateFile:
    """Name the file by what it holds: one for an executor, however often it launches."""
    text = "\n".join([*lines, ""])
    return PrivateFile(folder / f"mirai-{hashlib.sha256(text.encode()).hexdigest()[:16]}.sh", text)
