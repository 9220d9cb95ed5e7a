"""Knows what is different from one scheduler to the next: their words, ids and commands."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ._queue import Queue


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
            in its array; if it is empty, jobs whose options ask for it are submitted one by one.
        variable: The variable in which a job finds that number. In the form of a description, it
            is made of the first argument of the script.
        submit: The program that hands jobs over; ``queue`` is used with a command that runs it.
        queue: How its jobs are known and cancelled; None if they are left alone.
        once: Its options that keep it from running a job again whose machine has failed, for one
            job and for an array of them; empty where there is none, or where it does not.
        says_once: A pattern that finds, in the user's options or command, what ``once`` cannot
            stand beside; empty if the user's word, said later, counts.

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
    once: tuple[str, str] = ("", "")
    says_once: str = ""


# What each command prints of a job that it takes on, in a line of its own: sites have theirs say
# more, and some other number would be that of another job. And what each shows of one that waits
# or runs. Arrays of which some have run are cancelled as a whole, except where those that wait can
# be told.
_SLURM = Queue(
    r"^(?:Submitted batch job )?(\d+)(?:(?: on cluster |;)(\S+))?$",
    ("scancel",),
    ("scancel", "--state=PENDING"),
    ("squeue", "--noheader", "--array", "--format=%T", "--jobs"),
    r"PENDING|RUNNING|CONFIGURING|COMPLETING|SUSPENDED|REQUEUE|STOPPED|RESIZING|SIGNALING",
    absent=r"invalid job id",
    tells_apart=True,
    of_cluster="--clusters={}",
)
_GRID_ENGINE = Queue(
    r'^(?:Your job(?:-array)? )?(\d+)(?:\.\d+-\d+:\d+)?(?: \(".*"\) has been submitted)?$',
    ("qdel",),
    query=("qstat", "-j"),
    present=r"job_number:",
    absent=r"do(es)? not exist",
)
_PBS = Queue(
    r"^(\d+(?:\[\])?(?:\.\S+)?)$",
    ("qdel",),
    query=("qstat",),
    present=r"\s[BHQRSTUW]\s+\S+\s*$",
    absent=r"unknown job|has finished",
)
_LSF = Queue(
    r"^Job <(\d+)>",
    ("bkill",),
    query=("bjobs", "-noheader"),
    present=r"\s(PEND|PROV|[PUS]SUSP|RUN|WAIT)\s",
    absent=r"is not found",
    tells_apart=True,
)

# The range of jobs that condor_submit(1) prints with -terse, or else the sentence without it, and
# the numbers of JobStatus (HTCondor's manual, job ClassAd attributes): 4 has completed, 3 was
# removed. What -attributes is given ends before the id, unlike that of -af, and has nothing that
# the shell behind an ssh would take for its own, unlike the line break that -format needs.
_HTCONDOR = Queue(
    r"^(?:\d+ job\(s\) submitted to cluster )?(\d+)(?:\.\d+ - \d+\.\d+|\.)$",
    ("condor_rm",),
    query=("condor_q", "-long", "-attributes", "JobStatus"),
    present=r"^JobStatus = [12567]$",
    absent=r"(?!)",  # it does not fail for that
    tells_apart=True,
)
# It has no option for that: it removes what waits (1) although it has been started, and what it
# holds (5) since the script of the job is gone, which is so at the next start.
_ONCE = (
    "periodic_remove = (JobStatus == 1 && NumJobStarts > 0)"
    " || (JobStatus == 5 && HoldReasonCode == 13)"
)
# flux-batch(1) prints an id in F58 (RFC 19 of Flux), which begins with an "f" where the locale has
# no other; flux-jobs(1) has the states, of which INACTIVE is left out here.
_FLUX = Queue(
    r"^([\u0192f][1-9A-HJ-NP-Za-km-z]+)$",
    ("flux", "cancel"),
    query=("flux", "jobs", "-n", "-o", "{state}"),
    present=r"DEPEND|PRIORITY|SCHED|RUN|CLEANUP",
    absent=r"unknown",
)
# oarsub(1) prints OAR_JOB_ID for each job; the array has the id of the first one, and so does a
# single job (OAR::IO of oar-user 2.5). oarstat(1) shows the states, of which those at the end are
# left out here.
_OAR = Queue(
    r"^OAR_JOB_ID=(\d+)$",
    ("oardel", "--array"),
    query=("oarstat", "--full", "--array"),
    present=r"^\s*state = (Waiting|Hold|to(Launch|AckReservation)|Launching|Running|Finishing"
    r"|Suspended|Resuming)\b",
    absent=r"(?!)",  # if it fails, nobody can tell
    tells_apart=True,
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
        once=("--no-requeue", "--no-requeue"),
    ),
    "sge": Scheduler(
        *("#$", "-t 1-{n}", r"\s-t\s", "-S /bin/sh"),
        number="$TASK_ID",
        variable="SGE_TASK_ID",
        submit="qsub",
        queue=_GRID_ENGINE,
        once=("-r n", "-r n"),
    ),
    "pbs": Scheduler(
        *("#PBS", "-J 1-{n}", r"\s-J\s", "-S /bin/sh"),
        number="^array_index^",
        variable="PBS_ARRAY_INDEX",
        submit="qsub",
        queue=_PBS,
        once=("-r n", ""),  # which takes no array that must not be run again
    ),
    "torque": Scheduler(
        *("#PBS", "-t 1-{n}", r"\s-t\s", "-S /bin/sh"),
        number="$PBS_ARRAYID",
        variable="PBS_ARRAYID",
        submit="qsub",
        queue=_PBS,
        once=("-r n", "-r n"),
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
        once=("-rn", "-rn"),
        says_once=r"\s-rn?(\s|$)",
    ),
    "htcondor": Scheduler(
        *("", "queue {n}", r"^queue\b"),
        form="description",
        number="$INT(MiraiNumber)",  # see description() for what that is
        variable="MIRAI_NUMBER",
        submit="condor_submit",
        queue=_HTCONDOR,
        once=(_ONCE, _ONCE),
    ),
    "flux": Scheduler("#flux:", "", r"(?!)", submit="flux", queue=_FLUX),
    "oar": Scheduler(
        *("#OAR", "--array {n}", r"\s--array\b"),
        form="words",
        variable="OAR_ARRAY_INDEX",
        submit="oarsub",
        queue=_OAR,
    ),
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


def scheduler_for(name: str | None, command: str, lines: Sequence[str]) -> Scheduler:
    """Return the scheduler of this name, or else the one that the command or the options tell.

    Raises:
        ValueError: There is none, or nothing tells.
    """
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
