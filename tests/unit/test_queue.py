"""The ids that schedulers print, and the commands that take exactly those out of their queues."""

import dataclasses
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from mirai_executor import cluster_config
from mirai_executor.credentials import DaemonCredentials, new_secret
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    Queue,
    QueuedJob,
    _queue,
    cancel_jobs,
    count_present,
    ssh_config,
)
from mirai_executor.launchers._schedulers import SCHEDULERS

DAEMON = DaemonCommand(("tcp://127.0.0.1:1",), DaemonCredentials(new_secret()))


def queue_of(*command: str, **options: object) -> Queue | None:
    [submission] = cluster_config(command, **options).plan(DAEMON, 1)  # type: ignore[arg-type]
    assert isinstance(submission, Command)
    return submission.queue


@pytest.mark.parametrize(
    ("scheduler", "command", "said", "id_"),
    [
        ("slurm", "sbatch", "Submitted batch job 17", "17"),
        ("slurm", "sbatch", "sbatch: short on nodes\nSubmitted batch job 17 on cluster b", "17"),
        ("slurm", "sbatch", "17;cluster", "17"),
        ("slurm", "sbatch", "2026-11-30: 3 nodes are down\n3 more\nSubmitted batch job 17", "17"),
        ("slurm", "sbatch", "3 nodes are down", ""),
        ("sge", "qsub", "17.1-3:1", "17"),
        ("sge", "qsub", '2 slots is the least\nYour job 17 ("a b") has been submitted', "17"),
        ("sge", "qsub", 'Your job 17 ("mirai") has been submitted', "17"),
        ("sge", "qsub", 'Your job-array 17.1-3:1 ("mirai") has been submitted', "17"),
        ("pbs", "qsub", "17[].server", "17[].server"),
        ("torque", "qsub", "17.server.example", "17.server.example"),
        ("lsf", "bsub", "Job <17> is submitted to default queue <normal>.", "17"),
        ("lsf", "bsub", "Thank you", ""),
        ("htcondor", "condor_submit", "17.0 - 17.2", "17"),
        ("htcondor", "condor_submit", "WARNING: old\n17.0 - 17.0", "17"),
        (
            "htcondor",
            "condor_submit",
            "Submitting job(s)..\n2 job(s) submitted to cluster 17.",
            "17",
        ),
        ("flux", "flux", "\u01922NQKbVBkU", "\u01922NQKbVBkU"),
        ("flux", "flux", "flux-batch: a warning\nf2NQKbVBkU", "f2NQKbVBkU"),
        ("oar", "oarsub", "[ADMISSION RULE] Modify\nOAR_JOB_ID=17", "17"),
        ("oar", "oarsub", "OAR_JOB_ID=17\nOAR_JOB_ID=18\nOAR_ARRAY_ID=17", "17"),
    ],
)
def test_the_id_of_a_job_is_what_its_scheduler_has_printed(
    scheduler: str, command: str, said: str, id_: str
) -> None:
    queue = queue_of(command, scheduler=scheduler)
    assert queue is not None
    assert queue.id_in(f"{said}\n") == id_
    by_terminal = queue.job_in(f"{said}\n".replace("\n", "\r\n"))  # that of ssh -tt
    assert (by_terminal.id if by_terminal else "") == id_


@pytest.mark.parametrize(
    ("command", "cancel"),
    [
        (("sbatch",), ("scancel",)),
        (("/opt/slurm/bin/sbatch", "--quiet"), ("/opt/slurm/bin/scancel",)),
        (("ssh", "login", "sbatch"), ("ssh", "login", "scancel")),
    ],
)
def test_jobs_are_cancelled_where_they_were_submitted(
    command: tuple[str, ...], cancel: tuple[str, ...]
) -> None:
    queue = queue_of(*command, scheduler="slurm")
    assert queue is not None
    assert queue.cancel == cancel


@pytest.mark.parametrize(
    ("scheduler", "command", "cancel", "query"),
    [
        ("htcondor", ("/opt/bin/condor_submit",), "/opt/bin/condor_rm", "/opt/bin/condor_q"),
        (
            "flux",
            ("ssh", "login", "flux", "batch"),
            "ssh login flux cancel",
            "ssh login flux jobs",
        ),
        ("oar", ("oarsub",), "oardel --array", "oarstat --full --array"),
    ],
)
def test_others_are_asked_and_cancelled_where_they_were_submitted(
    scheduler: str, command: tuple[str, ...], cancel: str, query: str
) -> None:
    queue = queue_of(*command, scheduler=scheduler)
    assert queue is not None
    assert " ".join(queue.cancel) == cancel
    assert " ".join(queue.query).startswith(query)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_what_asks_and_cancels_arrives_as_written_behind_the_shell_of_an_ssh(
    scheduler: str,
) -> None:
    queue = SCHEDULERS[scheduler].queue
    assert queue is not None
    for words in filter(None, (queue.query, queue.cancel, queue.cancel_waiting)):
        said = subprocess.check_output(
            ["/bin/sh", "-c", " ".join(("printf '%s\\n'", *words))], text=True
        )
        assert said.splitlines() == [*words]


@pytest.mark.parametrize(
    ("scheduler", "command", "here", "gone"),
    [
        (
            "htcondor",
            "condor_submit",
            ["JobStatus = 1", "JobStatus = 4\n\nJobStatus = 2", "JobStatus = 5"],
            ["", "JobStatus = 4", "JobStatus = 3\n\nJobStatus = 4"],
        ),
        ("flux", "flux", ["DEPEND", "PRIORITY", "SCHED", "RUN", "CLEANUP"], ["", "INACTIVE"]),
        (
            "oar",
            "oarsub",
            ["    state = Waiting", "    state = Terminated\n    state = toLaunch"],
            ["", "    state = Terminated\n    state = Error", "    state = toError"],
        ),
    ],
)
def test_a_job_is_there_until_its_scheduler_shows_its_end(
    scheduler: str, command: str, here: list[str], gone: list[str]
) -> None:
    queue = queue_of(command, scheduler=scheduler)
    assert queue is not None
    shows = [
        [bool(re.search(queue.present, it, re.MULTILINE)) for it in said] for said in (here, gone)
    ]
    assert shows == [[True] * len(here), [False] * len(gone)]


def test_a_command_that_nobody_knows_is_no_queue() -> None:
    assert queue_of("our-submit", scheduler="slurm") is None


@pytest.mark.parametrize("on_exit", ["keep", None])
def test_what_becomes_of_jobs_at_the_end_is_one_of_two_words(on_exit: str) -> None:
    with pytest.raises(ValueError, match='on_exit must be "cancel" or "leave"'):
        cluster_config("sbatch", on_exit=on_exit)  # type: ignore[arg-type]  # that is asked


def test_jobs_of_another_cluster_are_cancelled_and_asked_about_there(tmp_path: Path) -> None:
    queue = queue_of("sbatch")
    assert queue is not None
    for name in ("scancel", "squeue"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/} $@" >> "$0.log"; echo PENDING\n')
        (tmp_path / name).chmod(0o755)
    here = queue.beside((f"{tmp_path}/sbatch",), "sbatch")
    assert here is not None
    there = here.job_in("Submitted batch job 17 on cluster b")
    both = [here.job_in("Submitted batch job 17"), there]
    jobs = [job for job in both if job is not None]
    cancel_jobs(jobs)
    assert [count_present(job) for job in jobs] == [1, 1]
    said = (tmp_path / "scancel.log").read_text() + (tmp_path / "squeue.log").read_text()
    asked = "squeue --noheader --array --format=%T --jobs 17"
    assert said.splitlines() == [
        *("scancel 17", "scancel 17 --clusters=b"),
        *(asked, f"{asked} --clusters=b"),
    ]
    assert here.job_in("nothing") is None


def test_exactly_these_jobs_are_cancelled_and_asked_about(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\necho "$@" >> "$0.log"; echo "$2 is PENDING"; exit 1\n')
    tool.chmod(0o755)
    name = os.fspath(tool)
    queue = Queue("", (name, "kill"), (name, "spare"), (name, "show"), "17 is PEND", absent="18")
    seventeen, eighteen = QueuedJob(queue, "17"), QueuedJob(queue, "18")
    cancel_jobs([seventeen, eighteen])
    cancel_jobs([eighteen], waiting=True)
    assert [count_present(seventeen), count_present(eighteen)] == [None, 0]
    lines = (tmp_path / "tool.log").read_text().splitlines()
    assert lines == ["kill 17 18", "spare 18", "show 17", "show 18"]
    assert count_present(QueuedJob(Queue("", ("kill",)), "17")) is None  # nobody can tell
    vague = dataclasses.replace(queue, absent=Queue("", ()).absent)
    assert count_present(QueuedJob(vague, "18")) is None  # whatever a failure says


def test_a_job_is_found_in_lines_that_belong_together(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\nprintf 'job 17\\n  state waits\\n'\n")
    tool.chmod(0o755)
    queue = Queue("", (), query=(os.fspath(tool),), present=r"^job 17\n\s+state waits$")
    assert count_present(QueuedJob(queue, "17")) is None  # of several, some may wait
    ended = dataclasses.replace(queue, present=r"^job 17\n\s+state runs$")
    assert count_present(QueuedJob(ended, "17")) == 0


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    # As ssh does that is to serve later connections, too.
    tool.write_text(
        f"#!/bin/sh\nsleep 100 & echo $! > '{tmp_path}/pid'; echo WAITS; echo lost >&2; exit 1\n"
    )
    tool.chmod(0o755)
    name = os.fspath(tool)
    queue = Queue("", (name,), query=(name,), present="WAITS", absent="lost", tells_apart=True)
    try:
        assert count_present(QueuedJob(queue, "17")) == 1
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exit 0", ""),
        (
            "echo 'scancel: error: Kill job error on job id 17: Invalid job id specified'; exit 1",
            "",
        ),
        ("echo 'denied: job \"17\" does not exist' >&2; exit 1", ""),
        ("echo 'qdel: Unknown Job Id 17.server' >&2; exit 153", ""),
        ("echo 'Job <17>: Job has already finished' >&2; exit 255", ""),
        ('echo "Couldn\'t find/remove all jobs in cluster 17" >&2; exit 1', ""),
        ("echo 'scancel: Invalid state for job 17' >&2; exit 1", ""),
        ("echo 'flux-cancel: job 17 is inactive' >&2; exit 1", ""),
        ("echo 'No matching job' >&2; exit 1", ""),
        ("echo 'sh: 1: scancel: not found' >&2; exit 127", "exit status 127; sh: 1: scancel"),
        ("echo 'sh: 1: scancel: not found' >&2; exit 126", "exit status 126; sh: 1: scancel"),
        ("echo hm >&2; echo 'Unable to contact\tcontroller' >&2; exit 1", "exit status 1; Unable"),
        ("exit 3", "exit status 3"),
        ("sleep 9", "it did not run, or not within 0.2 s"),
        (None, "it did not run"),
    ],
)
def test_jobs_that_may_be_left_in_their_queue_are_told(
    command: str | None,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tool = tmp_path / "tool"
    if command is not None:
        tool.write_text(f"#!/bin/sh\n{command}\n")
        tool.chmod(0o755)
    if "sleep" in (command or ""):
        monkeypatch.setattr(_queue, "_PATIENCE", 0.2)
    queue = Queue("", (os.fspath(tool), "a word"))
    cancel_jobs([QueuedJob(queue, "17"), QueuedJob(queue, "18")])
    told = f"{tool} 'a word' may not have cancelled jobs 17 18: {why}"
    assert [message[: len(told)] for message in caplog.messages] == ([told] if why else [])
    assert "\t" not in caplog.text


@pytest.mark.parametrize(
    ("command", "scheduler", "said", "found"),
    [
        ("sbatch", "slurm", "echo PENDING; echo COMPLETED; echo RUNNING", 2),
        (
            "sbatch",
            "slurm",
            "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
            0,
        ),
        ("sbatch", "slurm", "echo 'Unable to contact slurm controller' >&2; exit 1", None),
        ("qsub", "sge", "echo 'job_number:  17'", None),  # of an array, any number
        ("qsub", "sge", "echo 'Following jobs do not exist: ' >&2; exit 1", 0),
        ("qsub", "sge", "echo 'error: unable to contact qmaster' >&2; exit 1", None),
        ("qsub", "pbs", "echo 'qstat: Unknown Job Id 17' >&2; exit 153", 0),
        ("qsub", "pbs", "echo 'Connection refused' >&2; exit 255", None),
        ("bsub", "lsf", "echo '17 me PEND q a'; echo '17 me RUN q a b x[2]'", 2),
        ("bsub", "lsf", "echo '17 me DONE q a b RUNNER[1]'", 0),
        ("bsub", "lsf", "echo 'Job <17> is not found' >&2; exit 255", 0),
        ("condor_submit", "htcondor", r"printf 'JobStatus = %s\n\n' 1 2 4", 2),
        ("condor_submit", "htcondor", "true", 0),
        ("condor_submit", "htcondor", "echo 'Failed to fetch ads' >&2; exit 1", None),
        ("flux", "flux", "echo RUN", None),
        ("flux", "flux", "echo 'flux-jobs: ERROR: JobID f1 unknown' >&2; exit 1", 0),
        ("flux", "flux", "echo 'flux-jobs: ERROR: broker: No such file' >&2; exit 1", None),
        ("oarsub", "oar", "echo 'Cannot connect to the database' >&2; exit 1", None),
        ("oarsub", "oar", "printf '    state = Waiting\n    state = Error\n'", 1),
    ],
)
def test_a_scheduler_that_cannot_be_asked_has_forgotten_nothing(
    command: str, scheduler: str, said: str, found: int | None, tmp_path: Path
) -> None:
    queue = queue_of(command, scheduler=scheduler)
    assert queue is not None
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\n{said}\n")
    tool.chmod(0o755)
    shown = dataclasses.replace(queue, query=(os.fspath(tool),))
    assert count_present(QueuedJob(shown, "17")) == found


def test_machines_take_turns_where_daemons_are_counted_on_all_of_them() -> None:
    launcher = ssh_config(["a", "b", "c"])
    assert launcher.total(2) == 6

    def machines(count: int, first: int) -> list[str]:
        commands = launcher.spread(DAEMON, count, first)
        return [c.argv[-2] for c in commands if isinstance(c, Command)]

    assert machines(2, 0) == ["a", "b"]
    assert machines(2, 2) == ["a", "c"]
    assert machines(0, 1) == []
    assert launcher.spread(DAEMON, 6, 1) == launcher.plan(DAEMON, 2)


def test_a_machine_gets_as_many_in_turn_as_it_has_daemons_of_its_own() -> None:
    launcher = ssh_config({"large": {"daemons": 3}, "small": {}})
    assert launcher.total(1) == 4

    def shares(count: int, first: int) -> dict[str, int]:
        commands = launcher.spread(DAEMON, count, first)
        logins = {c.argv[-2]: c.stdin.decode() for c in commands if isinstance(c, Command)}
        listed = {it: script.partition("for number in ")[2] for it, script in logins.items()}
        return {it: len(rest.partition(";")[0].split()) for it, rest in listed.items()}

    assert shares(2, 0) == {"large": 2}
    assert shares(2, 2) == {"large": 1, "small": 1}
    assert shares(8, 0) == {"large": 6, "small": 2}
