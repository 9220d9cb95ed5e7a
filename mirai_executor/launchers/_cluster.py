"""Starts daemons as jobs of a cluster's scheduler: one array of jobs, its script on stdin."""

import hashlib
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mirai_executor._arguments import check_count

from ._daemon import SEAT, Command, DaemonCommand, PrivateFile, Submission, checked_count, exports
from ._forms import command_line, description
from ._queue import Queue
from ._schedulers import Scheduler, scheduler_for
from ._script import SH, asks_for_number, filled, guarded, lines_of, run_by, shell_words, words_of
from ._seats import JOBS, seat_of

_SECRET_FOLDER = "~/.mirai-executor"  # noqa: S105 - home folders are what nodes usually share


class _Job:
    """A job or an array of jobs, and what their placeholders stand for.

    Args:
        scheduler: Replaces those of an array.
        numbers: The number of the job, or those of the array.
    """

    def __init__(self, scheduler: Scheduler, numbers: Sequence[int]) -> None:
        self.size = len(numbers)
        one = str(numbers[0])
        self._in_options = one if self.size == 1 else scheduler.number
        self._in_script = one if self.size == 1 else f"${{{scheduler.variable}}}"
        self._name = f"mirai-{secrets.token_hex(4)}"

    def fill(
        self, lines: Iterable[str], is_option: Callable[[str], bool] = lambda _: False
    ) -> list[str]:
        """Return lines with the number, and a name that no other job has."""
        found = []
        for line in lines:
            number = self._in_options if is_option(line) else self._in_script
            found.append(filled(line, {"name": f"{self._name}-{number}", "number": number}))
        return found


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
        numbers: Sequence[int] = range(1, checked_count(count) + 1)
        if count <= self.largest_array and any(
            map(asks_for_number, (*self.options, *self.prologue))
        ):
            numbers, _ = daemon.take(JOBS, count)
        if not self._has_arrays or tuple(numbers) != tuple(range(1, count + 1)):
            return [self._submission(daemon, (number,)) for number in numbers]
        whole, rest = divmod(count, self.largest_array)
        sizes = [self.largest_array] * whole + ([rest] if rest else [])
        return [self._submission(daemon, numbers[:size]) for size in sizes]

    @property
    def _counts(self) -> bool:
        """Whether the number of a job matters."""
        return any(map(asks_for_number, (*self.options, *self.prologue)))

    @property
    def _has_arrays(self) -> bool:
        """Whether its scheduler has arrays, and says in options which job of one it is."""
        asks = any(map(asks_for_number, filter(self._is_option, self.options)))
        return bool(self.scheduler.array) and not (asks and not self.scheduler.number)

    def _submission(self, daemon: DaemonCommand, numbers: Sequence[int]) -> Command:
        job = _Job(self.scheduler, numbers)
        if self.scheduler.form != "script":
            return self._submission_of_file(daemon, job)
        folder = self.secret_folder
        files = () if folder is None else (_secret_file(folder, daemon),)
        lines = [
            "#!/bin/sh",
            *job.fill(self._directives(job.size, daemon), self._is_option),
            *self._start(
                job,
                exports(daemon, files[0].path if files else None),
                daemon,
            ),
            "",
        ]
        script = "\n".join(lines).encode()
        return Command(
            self.command, stdin=script, files=files, secret=daemon.secret, queue=self._queue()
        )

    def _start(self, job: "_Job", environment: Sequence[str], daemon: DaemonCommand) -> list[str]:
        """Return the last lines of a script: they start the daemon."""
        prologue, seat = job.fill(self.prologue), []
        if self._counts:
            seat = job.fill([f"export {SEAT}={seat_of(JOBS, '{number}')}"])
        start = f"exec {shlex.join(daemon.argv(self.python))}"
        return run_by(self.shell, [*guarded(prologue), *environment, *seat, start])

    def _queue(self) -> Queue | None:
        queue = self.scheduler.queue
        found = None if queue is None else queue.beside(self.command, self.scheduler.submit)
        return None if found is None else replace(found, leaves=self.leaves)

    def _submission_of_file(self, daemon: DaemonCommand, job: "_Job") -> Command:
        assert self.secret_folder is not None  # noqa: S101 - cluster_config() has seen to that
        scheduler, lines = self.scheduler, self._options_for(job.size)
        ours = job.fill(filter(self._is_option, lines), self._is_option)
        script = job.fill(line for line in lines if not self._is_option(line))
        if scheduler.form == "description" and job.size > 1 and self._counts:
            script.append(f'export {scheduler.variable}="$1"')
        script += self._start(job, exports(daemon), daemon)
        text = "\n".join([*script, ""])
        file = _file(self.secret_folder, text, text)
        command, stdin = self.command, b""
        if scheduler.form == "description":
            # A description on standard input has the whole job be printed otherwise.
            ours = [*self._once(job.size, daemon), *ours]
            command, stdin = (*command, "-terse", "-"), description(file.path, ours, job.size)
        else:
            array = scheduler.array.format(n=job.size) if job.size > 1 else ""
            command = (*command, *command_line(file.path, scheduler.prefix, ours, array))
        return Command(
            command, stdin=stdin, files=(file,), secret=daemon.secret, queue=self._queue()
        )

    def _directives(self, size: int, daemon: DaemonCommand) -> list[str]:
        """Return the lines of options: those that we need first, as schedulers may stop early.

        What the user says of the same is said later, and counts.
        """
        scheduler, lines = self.scheduler, self._options_for(size)
        ours = [scheduler.shell] if scheduler.shell else []
        ours += self._once(size, daemon)
        if size > 1:
            name, lines = self._without_name(lines)
            ours.append(scheduler.array.format(n=size, name=name))
        return [*(f"{scheduler.prefix} {option}" for option in ours), *lines]

    def _once(self, size: int, daemon: DaemonCommand) -> list[str]:
        """Return what keeps the scheduler from running a job again if another is requested."""
        scheduler, options = self.scheduler, [*filter(self._is_option, self.options)]
        said = (*options, " ".join(self.command))
        if scheduler.says_once and any(re.search(scheduler.says_once, it) for it in said):
            return []
        asks = any(re.search(scheduler.asks_for_array, it) for it in options)
        option = scheduler.once[size > 1 or asks]
        return [option] if option and daemon.is_replaced else []

    def _options_for(self, size: int) -> list[str]:
        """Return the user's lines, which must not ask for an array if we do."""
        pattern = self.scheduler.asks_for_array
        asks = any(self._is_option(line) and re.search(pattern, line) for line in self.options)
        if asks and (size > 1 or self.scheduler.form == "description"):
            raise ValueError(
                "options= asks for an array of jobs, which is how several daemons are "
                "started; leave it out, or launch one daemon at a time"
            )
        return list(self.options)

    def _is_option(self, line: str) -> bool:
        return line.startswith(self.scheduler.prefix)

    def _without_name(self, lines: list[str]) -> tuple[str, list[str]]:
        """Take the user's name of the job out of the lines, where the array repeats it."""
        name, pattern, kept = "mirai", self.scheduler.named, []
        for line in lines:
            found = re.search(pattern, line) if pattern and self._is_option(line) else None
            if found is not None:
                name, line = found["name"], re.sub(pattern, "", line)
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
            followed by lines of shell. For HTCondor, lines of a submit description, such as
            ``"request_memory = 10G"``. In all of these, and in ``prologue``, ``{number}`` is the
            number of the job in its array, from 1, as in ``"#SBATCH --output=job-{number}.out"``;
            one that comes for a lost one gets its number. ``{name}`` is a name that no other job
            has, such as ``mirai-5f1d8c2e-1``.
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
            secret is written to a file there that only you can read. It is removed when the
            executor ends, or this process; before, if its jobs are cancelled, or once all their
            daemons have come, provided that others are requested in the place of those that are
            lost. None writes the secret into the script, of which schedulers keep copies.
            HTCondor and OAR take the whole script from there.
        largest_array: How many jobs an array may have (in Slurm, ``MaxArraySize`` minus one).
        on_exit: What becomes of jobs of which not all daemons have come when the executor ends.
            ``"cancel"`` takes exactly these out of the queue, by their ids, once all daemons have
            left; an array goes as a whole. ``"leave"`` leaves them: when they start, they find
            nobody, and end after ``retry`` seconds, or at once, as the file with the secret is
            gone (HTCondor holds them, and then removes those that were to be replaced). They serve
            a next executor at the same address if that has the same ``MIRAI_EXECUTOR_SECRET``, and
            ``secret_folder`` is None. Either holds for the end alone: what ``adapt()`` does not
            need any more, it cancels. Of a command that is none of the above, no ids are known,
            and its jobs are left; so are all jobs if this process is killed.

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
        scheduler = scheduler_for(scheduler, words[0], lines)
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
        None if secret_folder is None else _folder(secret_folder, scheduler.form),
        largest_array,
        on_exit == "leave",
        shell_words(shell),
    )


def _folder(path: str | Path, form: str) -> Path:
    try:
        found = Path(path).expanduser().absolute()
    except RuntimeError as error:  # this user has no home
        raise ValueError(
            f"cannot find {path}: {error}; pass secret_folder= a folder that the nodes share"
        ) from error
    # A line break ends the line of a script or description, and HTCondor lists files by commas.
    if not str(found).isprintable() or (form == "description" and "," in str(found)):
        raise ValueError(
            f"secret_folder must have no control characters, and for HTCondor no commas, in its "
            f"path: {str(found)!r}"
        )
    return found


def _secret_file(folder: Path, daemon: DaemonCommand) -> PrivateFile:
    return _file(folder, "\n".join([daemon.secret, *daemon.urls]), f"{daemon.secret}\n")


def _file(folder: Path, known: str, text: str) -> PrivateFile:
    """Name the file after what makes it differ: each launch has a token of its own."""
    name = f"mirai-{hashlib.sha256(known.encode()).hexdigest()[:16]}"
    is_ours = folder == Path(_SECRET_FOLDER).expanduser()
    return PrivateFile(folder / name, text, makes_folder=is_ours)
