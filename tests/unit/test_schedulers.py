"""Launchers of schedulers as data: the script that each of them is handed, and how."""

import dataclasses
from pathlib import Path

import pytest

from mirai_executor import (
    cluster_config,
)
from mirai_executor.launchers import (
    Command,
    Scheduler,
    _schedulers,
)
from unit.plans import (
    DAEMON,
    EXPORTS,
    PYTHON,
    RUN,
    SECRET,
    TLS,
    only,
    script,
)

GOLDEN = {
    "slurm": (
        cluster_config("sbatch", "#SBATCH --mem=10G\n  #SBATCH -p short", python=PYTHON),
        "#SBATCH --array=1-3\n#SBATCH --mem=10G\n#SBATCH -p short\n",
    ),
    "sge": (
        cluster_config("qsub", "#$ -N mirai\n#$ -l mem_free=10G", python=PYTHON),
        "#$ -S /bin/sh\n#$ -t 1-3\n#$ -N mirai\n#$ -l mem_free=10G\n",
    ),
    "pbs": (
        cluster_config("qsub", ["#PBS -N mirai", "#PBS -l mem=10gb"], python=PYTHON),
        "#PBS -S /bin/sh\n#PBS -J 1-3\n#PBS -N mirai\n#PBS -l mem=10gb\n",
    ),
    "torque": (
        cluster_config("qsub", "#PBS -N mirai", python=PYTHON, scheduler="torque"),
        "#PBS -S /bin/sh\n#PBS -t 1-3\n#PBS -N mirai\n",
    ),
    "lsf": (
        cluster_config("bsub", "#BSUB -M 10000", python=PYTHON),
        '#BSUB -J "mirai[1-3]"\n#BSUB -M 10000\n',
    ),
    "lsf, named": (
        cluster_config("/lsf/bsub", "#BSUB -J mine\n#BSUB -q a -J 'his' -n 1", python=PYTHON),
        '#BSUB -J "his[1-3]"\n#BSUB -q a -n 1\n',
    ),
    "modules": (
        cluster_config(
            "sbatch",
            "#SBATCH --mem=1G\ncd /scratch",
            python=PYTHON,
            prologue=["module load python", "ulimit -n 4096"],
        ),
        "#SBATCH --array=1-3\n#SBATCH --mem=1G\ncd /scratch\n"
        "{\nmodule load python || exit\nulimit -n 4096 || exit\n} </dev/null\n",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_scheduler_gets_one_array_of_jobs(name: str) -> None:
    launcher, directives = GOLDEN[name]
    launcher = dataclasses.replace(launcher, secret_folder=None)
    assert script(launcher.plan(DAEMON, 3)) == f"#!/bin/sh\n{directives}{EXPORTS}exec {RUN}\n"


# The lines that keep a scheduler from running a job again, by how many jobs there are.
ONCE = {
    "slurm": ("#SBATCH --no-requeue\n", "#SBATCH --no-requeue\n#SBATCH --array=1-2\n"),
    "sge": ("#$ -S /bin/sh\n#$ -r n\n", "#$ -S /bin/sh\n#$ -r n\n#$ -t 1-2\n"),
    "pbs": ("#PBS -S /bin/sh\n#PBS -r n\n", "#PBS -S /bin/sh\n#PBS -J 1-2\n"),
    "torque": ("#PBS -S /bin/sh\n#PBS -r n\n", "#PBS -S /bin/sh\n#PBS -r n\n#PBS -t 1-2\n"),
    "lsf": ("#BSUB -rn\n", '#BSUB -rn\n#BSUB -J "mirai[1-2]"\n'),
    "flux": ("", ""),
}


@pytest.mark.parametrize("scheduler", ONCE)
def test_a_job_is_not_run_again_if_another_one_is_asked_for_in_its_place(scheduler: str) -> None:
    mine = f"{_schedulers.SCHEDULERS[scheduler].prefix} mine"
    launcher = cluster_config(
        "submit", mine, scheduler=scheduler, python=PYTHON, secret_folder=None
    )
    replaced = dataclasses.replace(DAEMON, is_replaced=True)
    for count, lines in enumerate(ONCE[scheduler], 1):
        # What the user says is said later.
        expected = f"#!/bin/sh\n{lines}{mine}\n{EXPORTS}exec {RUN}\n"
        assert script(launcher.plan(replaced, count)[:1]) == expected
        (option,) = {*_schedulers.SCHEDULERS[scheduler].once[count > 1 :][:1]}
        assert not option or option not in script(launcher.plan(DAEMON, count)[:1])


@pytest.mark.parametrize(
    ("command", "scheduler", "line", "ours"),
    [
        ("qsub", "pbs", "#PBS -J 1-4", False),  # which takes no array that must not be run again
        ("qsub", "torque", "#PBS -t 1-4", True),
        ("bsub", "lsf", "#BSUB -q short -r", False),  # of which it takes no two
        ("bsub", "lsf", "#BSUB -rn -q short", False),
        ("bsub -r", "lsf", "#BSUB -q short", False),
        ("bsub", "lsf", "#BSUB -R rn -q short-r", True),
        ("bsub", "lsf", "echo -r", True),
    ],
)
def test_no_job_is_refused_as_it_is_not_to_be_run_again(
    command: str, scheduler: str, line: str, *, ours: bool
) -> None:
    launcher = cluster_config(command.split(), line, scheduler=scheduler, secret_folder=None)
    found = _schedulers.SCHEDULERS[scheduler]
    replaced = dataclasses.replace(DAEMON, is_replaced=True)
    once = f"{found.prefix} {found.once[0]}"
    lines = script(launcher.plan(replaced, 1)).replace(line, "").splitlines()
    assert (once in lines) is ours


def test_htcondor_removes_a_job_that_would_run_again_if_another_one_is_asked_for() -> None:
    mine = "periodic_remove = False"
    launcher = cluster_config("condor_submit", mine, secret_folder="/home/me")
    for count in (1, 2):
        said = only(
            launcher.plan(dataclasses.replace(DAEMON, is_replaced=True), count)
        ).stdin.decode()
        assert said.index("periodic_remove = (JobStatus == 1") < said.index(mine)
        assert said.count("periodic_remove") == 2
        assert only(launcher.plan(DAEMON, count)).stdin.decode().count("periodic_remove") == 1


def test_a_single_daemon_is_no_array() -> None:
    launcher = cluster_config("bsub", '#BSUB -J "mine"', python=PYTHON, secret_folder=None)
    assert script(launcher.plan(DAEMON, 1)) == (
        f'#!/bin/sh\n#BSUB -J "mine"\n{EXPORTS}exec {RUN}\n'
    )


def test_the_script_carries_a_certificate_and_a_name() -> None:
    text = script(cluster_config().plan(TLS, 1))
    assert "\nMIRAI_EXECUTOR_SERVER_NAME=mirai-0123\nexport MIRAI_EXECUTOR_SECRET " in text
    assert text.endswith(" tls+tcp://10.0.0.1:5555 'tls+tcp://[2001:db8::1]:5555'\n")


def test_more_daemons_than_an_array_may_have_take_more_than_one() -> None:
    plan = cluster_config(largest_array=10).plan(DAEMON, 21)
    texts = [one.stdin.decode().splitlines()[1] for one in plan if isinstance(one, Command)]
    assert texts[:2] == ["#SBATCH --array=1-10"] * 2
    assert not texts[2].startswith("#SBATCH")
    with pytest.raises(ValueError, match=">= 1"):
        cluster_config(largest_array=0)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("sbatch", "#SBATCH --array=1-100"),
        ("sbatch", "#SBATCH -p x -a 1-100"),
        ("qsub", "#$ -t 1-100"),
        ("qsub", "#PBS -J 1-100"),
        ("bsub", '#BSUB -J "mine[1-100]"'),
        ("oarsub", "#OAR --array 100"),
    ],
)
def test_an_array_of_the_user_is_for_one_launch(command: str, line: str) -> None:
    folder = "/home/me" if command == "oarsub" else None
    launcher = cluster_config(command, line, secret_folder=folder)
    (alone,) = launcher.plan(DAEMON, 1)
    assert isinstance(alone, Command)
    assert line in f"{alone.stdin.decode()} #OAR {' '.join(alone.argv[1:3])}"
    with pytest.raises(ValueError, match="one daemon at a time"):
        launcher.plan(DAEMON, 2)


def test_qsub_belongs_to_more_than_one_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SGE_ROOT", raising=False)
    with pytest.raises(ValueError, match="pass scheduler= one of slurm, sge, pbs, torque, lsf"):
        cluster_config("qsub")
    with pytest.raises(ValueError, match="from 'cobalt'"):
        cluster_config("sbatch", scheduler="cobalt")
    monkeypatch.setenv("SGE_ROOT", "/sge")
    assert cluster_config("qsub") == cluster_config("qsub", scheduler="sge")


def test_torque_gets_arrays_of_torque(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_torque, of_pbs = "#PBS -l nodes=1:ppn=4", "#PBS -l select=1:ncpus=4"
    neither = "#PBS -N mirai"
    for name in ("_TORQUE_SERVER", "_PBS_CONF"):
        monkeypatch.setattr(_schedulers, name, tmp_path / name)
    for options, array in ((of_torque, "-t"), (of_pbs, "-J"), (neither, "-J")):
        assert f"#PBS {array} 1-3\n" in script(cluster_config("qsub", options).plan(DAEMON, 3))
    (tmp_path / "_TORQUE_SERVER").touch()
    for options, array in ((neither, "-t"), (of_pbs, "-J")):
        assert f"#PBS {array} 1-3\n" in script(cluster_config("qsub", options).plan(DAEMON, 3))
    (tmp_path / "_PBS_CONF").touch()
    assert "#PBS -J 1-3\n" in script(cluster_config("qsub", neither).plan(DAEMON, 3))


def test_a_new_scheduler_is_a_few_fields() -> None:
    mine = Scheduler("#MINE", "--many {n}", r"--many")
    launcher = cluster_config(["submit", "-"], "#MINE --big", scheduler=mine, python=PYTHON)
    assert only(launcher.plan(DAEMON, 2)).argv == ("submit", "-")
    assert script(launcher.plan(DAEMON, 2)).startswith("#!/bin/sh\n#MINE --many 2\n#MINE --big\n")


@pytest.mark.parametrize("folder", ["it's", None])
def test_the_secret_goes_to_a_file_that_the_nodes_share(
    folder: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    launcher = cluster_config(secret_folder=tmp_path / folder) if folder else cluster_config()
    command = only(launcher.plan(DAEMON, 2))
    (file,) = command.files
    assert SECRET.text in file.text
    assert SECRET.text not in command.stdin.decode()
    assert SECRET.text not in repr(command)
    assert file.path.parent == tmp_path / (folder or ".mirai-executor")
    assert launcher.plan(DAEMON, 5) != []
    assert only(launcher.plan(DAEMON, 5)).files == command.files  # one file, however often
    other = dataclasses.replace(DAEMON, urls=("tcp://10.0.0.1:5556",))
    assert only(launcher.plan(other, 2)).files != command.files  # one of its own for each executor


def test_who_has_no_home_has_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def expanduser(_: Path) -> Path:
        raise RuntimeError("could not determine home directory")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    with pytest.raises(ValueError, match="pass secret_folder="):
        cluster_config()
    assert cluster_config(secret_folder=None).secret_folder is None


def test_htcondor_gets_a_description_and_the_script_as_a_file_that_travels() -> None:
    launcher = cluster_config(
        "condor_submit",
        'request_memory = 10G\nrequirements = (Arch == "X86_64")',
        python=PYTHON,
        prologue="module load python",
        secret_folder="/home/me/my jobs",
    )
    command = only(launcher.plan(DAEMON, 3))
    (file,) = command.files
    assert command.argv == ("condor_submit", "-terse", "-")
    assert (
        command.stdin.decode()
        == f"""\
universe = vanilla
executable = /bin/sh
transfer_executable = false
should_transfer_files = YES
transfer_input_files = {file.path}
MiraiNumber = $(Process) + 1
arguments = {file.path.name} $INT(MiraiNumber)
request_memory = 10G
requirements = (Arch == "X86_64")
queue 3
"""
    )
    assert file.path.parent == Path("/home/me/my jobs")
    assert file.text == f"{{\nmodule load python || exit\n}} </dev/null\n{EXPORTS}exec {RUN}\n"


def test_flux_has_no_arrays_and_gets_each_daemon_by_itself() -> None:
    launcher = cluster_config(
        ["flux", "batch"], "#flux: -n1 -c4", python=PYTHON, secret_folder=None
    )
    plan = launcher.plan(DAEMON, 3)
    assert len(plan) == 3
    assert only(plan[:1]).argv == ("flux", "batch")
    assert script(plan[:1]) == f"#!/bin/sh\n#flux: -n1 -c4\n{EXPORTS}exec {RUN}\n"


def test_oar_gets_its_options_as_words_and_a_command_that_runs_the_file() -> None:
    options = "#OAR -l nodes=1/core=4,walltime=1:00:00\n#OAR -p \"gpu='YES'\"\ncd /scratch"
    launcher = cluster_config("oarsub", options, python=PYTHON, secret_folder="/home/me")
    command = only(launcher.plan(DAEMON, 3))
    (file,) = command.files
    resources = ("-l", "nodes=1/core=4,walltime=1:00:00", "-p", "gpu='YES'")
    assert command.argv == ("oarsub", "--array", "3", *resources, f"/bin/sh {file.path}")
    assert command.stdin == b""
    assert file.text == f"cd /scratch\n{EXPORTS}exec {RUN}\n"
    assert only(launcher.plan(DAEMON, 1)).argv[1] == "-l"


@pytest.mark.parametrize("command", ["condor_submit", "oarsub"])
def test_a_scheduler_that_takes_a_file_needs_a_folder_for_it(command: str) -> None:
    with pytest.raises(ValueError, match="secret_folder="):
        cluster_config(command, secret_folder=None)


@pytest.mark.parametrize(
    ("command", "folder"),
    [("sbatch", "/home/me\nrm"), ("condor_submit", "/home/me,you"), ("oarsub", "/home/\x1b[2J")],
)
def test_a_folder_that_would_break_a_script_or_a_description_is_refused(
    command: str, folder: str
) -> None:
    with pytest.raises(ValueError, match="secret_folder must have no control characters"):
        cluster_config(command, secret_folder=folder)
    assert cluster_config("sbatch", secret_folder="/home/me,you").secret_folder is not None


def test_a_description_is_not_to_queue_by_itself() -> None:
    launcher = cluster_config("condor_submit", "queue 5", secret_folder="/home/me")
    with pytest.raises(ValueError, match="one daemon at a time"):
        launcher.plan(DAEMON, 1)
