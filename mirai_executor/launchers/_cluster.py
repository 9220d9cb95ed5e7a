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

from ._daemon import Command, DaemonCommand, PrivateFile, Submission, checked_count, exports
from ._forms import command_line, description
from ._queue import Queue
from ._script import SH, guarded, lines_of, run_by, shell_words, words_of


@dataclass(frozen=True)
class Scheduler:
    """How a scheduler reads the script of a job.

    Args:
        prefix: What its lines of options begin with.
        array: Its option for an array of ``{n}`` jobs; ``{name}`` is the name of the job. If it
            is empty, each daemon is submitted by itself.
        asks_for_array: A pattern that finds an array among the user's lines of options.
        shell: A line that makes it run the script with ``/bin/sh``, if the first line does not.
        named: A pattern for the name of the job, if the array is part of that option. What it
            matches is removed from the user's lines, and its group is the name.
        form: ``"script"`` on standard input, as most schedulers take it; or for a script in a
            file, a submit ``"description"`` of HTCondor or the ``"words"`` of OAR's command line.
        number: What stands, in an option such as the name of a log file, for the number of a job
            in its array.
        variable: The variable in which a job finds that number.
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
    form: str = "script"
    number: str = ""
    variable: str = ""
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
    # sbatch(1), qsub(1) of Grid Engine, of PBS Professional and of Torque, bsub(1) of LSF,
    # condor_submit(1), flux-batch(1), oarsub(1)
    "slurm": Scheduler(
        *("#SBATCH", "--array=1-{n}", r"\s(-a|--array)\b"),
        number="%a",
        variable="SLURM_ARRAY_TASK_ID",
        submit="sbatch",
        queue=_SLURM,
    ),
    "sge": Scheduler(
        *("#$", "-t 1-{n}", r"\s-t\s", "-S /bin/sh"),
        number="$TASK_ID",
        variable="SGE_TASK_ID",
        submit="qsub",
        queue=_GRID_ENGINE,
    ),
    "pbs": Scheduler(
        *("#PBS", "-J 1-{n}", r"\s-J\s", "-S /bin/sh"),
        number="^array_index^",
        variable="PBS_ARRAY_INDEX",
        submit="qsub",
        queue=_PBS,
    ),
    "torque": Scheduler(
        *("#PBS", "-t 1-{n}", r"\s-t\s", "-S /bin/sh"),
        number="$PBS_ARRAYID",
        variable="PBS_ARRAYID",
        submit="qsub",
        queue=_PBS,
    ),
    "lsf": Scheduler(
        "#BSUB",
        '-J "{name}[1-{n}]"',
        r"\s-J\s+\S+\[",
        named=r"\s-J\s+[\"']?(?P<name>[^\s\"'\[]+)[\"']?(?=\s|$)",
        number="%I",
        variable="LSB_JOBINDEX",
        submit="bsub",
        queue=_LSF,
    ),
    "htcondor": Scheduler("", "queue {n}", r"^queue\b", form="description"),
    "flux": Scheduler("#flux:", "", r"(?!)"),
    "oar": Scheduler("#OAR", "--array {n}", r"\s--array\b", form="words"),
}
# Where the commands of either find their server.
_TORQUE_SERVER, _PBS_CONF = Path("/var/spool/torque/server_name"), Path("/etc/pbs.conf")
_OF_COMMAND = {
    "sbatch": "slurm",
    "bsub": "lsf",
    "condor_submit": "htcondor",
    "flux": "flux",
    "oarsub": "oar",
}
_SECRET_FOLDER = "~/.mirai-executor"  # noqa: S105 - home folders are what nodes usually share


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
    shell: tuple[str, ...] = SH

    def plan(self, daemon: DaemonCommand, count: int) -> list[Submission]:
        """Return one submission for all daemons, or as few as the largest array allows.

        Raises:
            ValueError: The options ask for an array of their own.
        """
        largest = self.largest_array if self.scheduler.array else 1
        whole, rest = divmod(checked_count(count), largest)
        sizes = [largest] * whole + ([rest] if rest else [])
        return [self._submission(daemon, size) for size in sizes]

    def _submission(self, daemon: DaemonCommand, size: int) -> Command:
        if self.scheduler.form != "script":
            return self._submission_of_file(daemon, size)
        folder = self.secret_folder
        files = () if folder is None else (_secret_file(folder, daemon),)
        lines = [
            "#!/bin/sh",
            *(self._numbered(line, size) for line in self._directives(size)),
            *self._start(
                [self._numbered(line, size) for line in self.prologue],
                exports(daemon, files[0].path if files else None),
                daemon,
            ),
            "",
        ]
        script = "\n".join(lines).encode()
        return Command(
            self.command, stdin=script, files=files, secret=daemon.secret, queue=self._queue()
        )

    def _start(
        self, prologue: Sequence[str], environment: Sequence[str], daemon: DaemonCommand
    ) -> list[str]:
        """Return the last lines of a script: they start the daemon."""
        start = f"exec {shlex.join(daemon.argv(self.python))}"
        return run_by(self.shell, [*guarded(prologue), *environment, start])

    def _queue(self) -> Queue | None:
        queue = self.scheduler.queue
        found = None if queue is None else queue.beside(self.command, self.scheduler.submit)
        return None if found is None else replace(found, leaves=self.leaves)

    def _submission_of_file(self, daemon: DaemonCommand, size: int) -> Command:
        assert self.secret_folder is not None  # noqa: S101 - cluster_config() has seen to that
        scheduler, lines = self.scheduler, self._options_for(size)
        ours = [line for line in lines if line.startswith(scheduler.prefix)]
        script = [line for line in lines if line not in ours]
        script += self._start(self.prologue, exports(daemon), daemon)
        text = "\n".join([*script, ""])
        file = _file(self.secret_folder, text, text)
        command, stdin = self.command, b""
        if scheduler.form == "description":
            command, stdin = (*command, "-"), description(file.path, ours, size)
        else:
            array = scheduler.array.format(n=size) if size > 1 else ""
            command = (*command, *command_line(file.path, scheduler.prefix, ours, array))
        return Command(command, stdin=stdin, files=(file,), secret=daemon.secret)

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
        scheduler, lines = self.scheduler, self._options_for(size)
        ours = [scheduler.shell] if scheduler.shell else []
        if size > 1:
            name, lines = self._without_name(lines)
            ours.append(scheduler.array.format(n=size, name=name))
        return [*(f"{scheduler.prefix} {option}" for option in ours), *lines]

    def _options_for(self, size: int) -> list[str]:
        """Return the user's lines, which must not ask for an array if we do."""
        pattern = self.scheduler.asks_for_array
        asks = any(self._is_option(line, pattern) for line in self.options)
        if asks and (size > 1 or self.scheduler.form == "description"):
            raise ValueError(
                "options= asks for an array of jobs, which is how several daemons are "
                "started; leave it out, or launch one daemon at a time"
            )
        return list(self.options)

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
    shell: str | Sequence[str] = SH,
    scheduler: str | Scheduler | None = None,
    secret_folder: str | Path | None = _SECRET_FOLDER,
    largest_array: int = 1000,
    on_exit: Literal["cancel", "leave"] = "cancel",
) -> ClusterConfig:
    """Describe how to start daemons as jobs of a cluster's scheduler. Starts nothing yet.

    Args:
        command: ``"sbatch"`` for Slurm, ``"qsub"`` for SGE, Torque or PBS, ``"bsub"`` for LSF,
            ``"condor_submit"`` for HTCondor, ``["flux", "batch"]`` for Flux, ``"oarsub"`` for OAR.
        options: Lines for the script of the job, such as ``"#SBATCH --mem=10G"``; they may be
            followed by lines of shell. In both, and in ``prologue``, ``{number}`` is the number of
            the job in its array, from 1, as in ``"#SBATCH --output=job-{number}.out"``. For
            HTCondor, lines of a submit description, such as ``"request_memory = 10G"``.
        python: The Python interpreter on the nodes, or the words of a command that runs it; by
            default, the path of the current one.
        prologue: Lines of shell that prepare the environment, such as ``"module load python"``. A
            line that fails ends the job.
        shell: What runs them and starts the daemon, such as ``"bash -l"``, where ``module`` is
            known to login shells only. What ``options`` has beyond options is for ``/bin/sh``.
        scheduler: ``"slurm"``, ``"sge"``, ``"pbs"`` (Professional), ``"torque"``, ``"lsf"``,
            ``"htcondor"``, ``"flux"`` or ``"oar"``, if it cannot be determined from the command
            and the options; or a ``Scheduler`` of your own.
        secret_folder: A folder shared by the nodes, to which nobody else can write. The executor's
            secret is written to a file there that only you can read, and that goes with the
            executor. None writes it into the script, of which schedulers keep copies. HTCondor and
            OAR take the whole script from there.
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
    if not isinstance(scheduler, Scheduler):
        scheduler = _told(scheduler, words[0], lines)
    if scheduler.form != "script" and secret_folder is None:
        raise ValueError(
            f"{words[0]} takes the script of a job as a file, which holds the executor's secret: "
            "pass secret_folder= a folder of yours, which for OAR the nodes share"
        )
    return ClusterConfig(
        scheduler,
        words,
        lines,
        words_of(python or sys.executable),
        lines_of(prologue),
        None if secret_folder is None else _folder(secret_folder),
        largest_array,
        on_exit == "leave",
        shell_words(shell),
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
        ("#flux: ", "flux"),
        ("#OAR ", "oar"),
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
    return _TORQUE_SERVER.exists() and not _PBS_CONF.exists()


def _folder(path: str | Path) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # this user has no home
        raise ValueError(
            f"cannot find {path}: {error}; pass secret_folder= a folder that the nodes share"
        ) from error


def _secret_file(folder: Path, daemon: DaemonCommand) -> PrivateFile:
    return _file(folder, "\n".join([daemon.secret, *daemon.urls]), f"{daemon.secret}\n")


def _file(folder: Path, known: str, text: str) -> PrivateFile:
    """Name the file after what makes it differ: one, however often an executor launches."""
    name = f"mirai-{hashlib.sha256(known.encode()).hexdigest()[:16]}"
    is_ours = folder == Path(_SECRET_FOLDER).expanduser()
    return PrivateFile(folder / name, text, makes_folder=is_ours)
