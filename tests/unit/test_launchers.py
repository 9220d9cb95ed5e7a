"""Launchers as data: which command, script or request each of them makes of "daemons, please"."""

import dataclasses
import json
import os
import pickle
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mirai_executor
from mirai_executor import (
    cluster_config,
    dask_config,
    http_config,
    kubernetes_config,
    ray_config,
    remote_config,
    ssh_config,
)
from mirai_executor.credentials import DaemonCredentials, Secret, Token
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    HttpRequest,
    Launcher,
    Scheduler,
    Submission,
    Until,
    _schedulers,
    shell_command,
)

SECRET = Secret(b"s" * 32)
PLAIN = DaemonCredentials(SECRET)
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB'\"$x\n-----END CERTIFICATE-----\n"
PYTHON = "/opt/py thon/bin/python"
DAEMON = DaemonCommand(("tcp://10.0.0.1:5555",), PLAIN, options=("--idletime", "60"))
TLS = DaemonCommand(
    ("tls+tcp://10.0.0.1:5555", "tls+tcp://[2001:db8::1]:5555"),
    DaemonCredentials(SECRET, CERTIFICATE, "mirai-0123"),
)
HERE = DaemonCommand(("tcp://127.0.0.1:5555",), PLAIN)

RUN = "'/opt/py thon/bin/python' -P -m mirai_executor daemon tcp://10.0.0.1:5555 --idletime 60"
EXPORTS = f"""\
{{ set +xv; }} 2>/dev/null
MIRAI_EXECUTOR_SECRET={SECRET.text}
export MIRAI_EXECUTOR_SECRET
"""


def only(plan: list[Submission]) -> Command:
    (command,) = plan
    assert isinstance(command, Command)
    return command


def script(plan: list[Submission]) -> str:
    return only(plan).stdin.decode()


LAUNCHERS: dict[str, Launcher] = {
    "ssh": ssh_config(["ssh://a", "b"]),
    "slurm": cluster_config("sbatch", "#SBATCH --mem=10G"),
    "lsf": cluster_config("bsub"),
    "remote": remote_config("srun", ["-n", "1", "."]),
    "http": http_config("https://node:1/jobs", data={"run": ["."]}),
    "htcondor": cluster_config("condor_submit", secret_folder="/home/me"),
    "oar": cluster_config("oarsub", secret_folder="/home/me"),
    "dask": dask_config("tcp://10.0.0.9:8786", resources={"GPU": 1}),
    "ray": ray_config("auto", runtime_env={"pip": ["numpy"]}),
    "kubernetes": kubernetes_config("lab:7", pod={"nodeSelector": {"pool": "batch"}}),
}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_is_plain_data(name: str) -> None:
    launcher = LAUNCHERS[name]
    assert pickle.loads(pickle.dumps(launcher)) == launcher
    assert hash(launcher) == hash(pickle.loads(pickle.dumps(launcher)))
    assert launcher.plan(DAEMON, 3) == launcher.plan(DAEMON, 3)
    assert type(launcher).__name__ in repr(launcher)
    with pytest.raises(dataclasses.FrozenInstanceError):
        launcher.python = ()  # type: ignore[attr-defined] # that is the point


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_secret_is_neither_in_a_command_line_nor_in_a_repr(name: str) -> None:
    plan = LAUNCHERS[name].plan(TLS, 2)
    assert plan
    for submission in plan:
        assert SECRET.text not in repr(submission)
        assert SECRET.text not in repr(getattr(submission, "argv", ""))
        assert SECRET.text not in repr(TLS)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_no_daemons_take_no_submission_and_fewer_are_refused(name: str) -> None:
    assert LAUNCHERS[name].plan(DAEMON, 0) == []
    with pytest.raises(ValueError, match=">= 0"):
        LAUNCHERS[name].plan(DAEMON, -1)


@pytest.mark.parametrize(
    "name",
    [
        "cluster_config",
        "dask_config",
        "http_config",
        "kubernetes_config",
        "ray_config",
        "remote_config",
        "ssh_config",
    ],
)
def test_a_launcher_is_exported(name: str) -> None:
    assert name in mirai_executor.__all__
    assert getattr(mirai_executor, name).__name__ == name


@pytest.mark.parametrize("url", ["tcp://*:5555", "tcp://[::]:5555", "tcp://10.0.0.1:0"])
def test_a_daemon_is_not_told_to_dial_what_one_can_only_listen_at(url: str) -> None:
    with pytest.raises(ValueError, match="only an address to listen on"):
        DaemonCommand((url,), PLAIN)


def test_a_daemon_needs_an_address_and_words_that_a_script_can_carry() -> None:
    with pytest.raises(ValueError, match="at least one address"):
        DaemonCommand((), PLAIN)
    for word in ("", "a\n#$ -S /bin/evil", "\0"):
        with pytest.raises(ValueError, match="invalid word"):
            DaemonCommand(("tcp://a:1",), PLAIN, options=(word,))


HOSTILE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)


@given(words=st.lists(HOSTILE, max_size=3), certificate=st.sampled_from(["", CERTIFICATE]))
def test_a_pasted_command_reaches_the_daemon_as_it_was_meant(
    words: list[str], certificate: str
) -> None:
    daemon = DaemonCommand(("tcp://a:1",), DaemonCredentials(SECRET, certificate), tuple(words))
    # A python that shows what it was given.
    shown = 'printf "%s\\0" "$MIRAI_EXECUTOR_SECRET" "$MIRAI_EXECUTOR_CERTIFICATE" "$@"'
    text = shell_command(daemon, ["sh", "-c", shown, "sh"])
    done = subprocess.run(["/bin/sh", "-c", text], capture_output=True, check=True, timeout=30)
    found = done.stdout.decode().split("\0")[:-1]
    assert found == [
        SECRET.text,
        certificate,
        "-P",
        "-m",
        "mirai_executor",
        "daemon",
        "tcp://a:1",
        *words,
    ]


def test_the_command_to_paste_is_one_that_can_be_read() -> None:
    assert shell_command(DAEMON, PYTHON) == f" MIRAI_EXECUTOR_SECRET={SECRET.text} {RUN}"


# SSH

OURS = (
    *("BatchMode=yes", "ConnectTimeout=10", "IgnoreUnknown=*", "RemoteCommand=none"),
    *("SessionType=default", "StdinNull=no", "ForkAfterAuthentication=no", "ControlMaster=no"),
)


def as_words(*options: str) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def test_ssh_gets_one_command_for_each_machine_and_the_script_on_its_standard_input() -> None:
    launcher = ssh_config(
        ["ssh://10.75.32.90", "ssh://me@10.75.32.91:222", "ssh://[2001:db8::7]:23", "node7"],
        python=PYTHON,
        prologue=". ~/.profile\n  module load gcc",
    )
    plan = launcher.plan(DAEMON, 2)
    begin = ("ssh", "-T", *as_words(*OURS, "ClearAllForwardings=yes"))
    assert [one.argv for one in plan if isinstance(one, Command)] == [
        (*begin, "--", "10.75.32.90", "/bin/sh"),
        (*begin, "-p", "222", "-l", "me", "--", "10.75.32.91", "/bin/sh"),
        (*begin, "-p", "23", "--", "2001:db8::7", "/bin/sh"),
        (*begin, "--", "node7", "/bin/sh"),
    ]
    assert {one.until for one in plan if isinstance(one, Command)} == {Until.STARTED_LINE}
    assert script(plan[:1]) == (
        "{\n[ -r ~/.profile ] || { echo cannot read ~/.profile >&2; exit 1; }\n. ~/.profile\n"
        "module load gcc || exit\n} </dev/null\n"
        + EXPORTS
        + f"""\
'/opt/py thon/bin/python' -P -c 'import mirai_executor' </dev/null >&2 || exit
echo 'mirai-executor: daemons started' >&2 || exit
pids=
for number in 1 2; do
    MIRAI_EXECUTOR_NUMBER=$number MIRAI_EXECUTOR_DAEMONS=2 \\
        MIRAI_EXECUTOR_SEAT=10.75.32.90/$number {RUN} </dev/null >&2 &
    pids="$pids $!"
done
status=0
for pid in $pids; do wait "$pid" || status=$?; done
exit "$status"
"""
    )


def test_daemons_that_are_started_one_by_one_have_a_token_each() -> None:
    launch = SECRET.new_token()
    daemon = DaemonCommand(("tcp://node:1",), DaemonCredentials(launch))
    tokens = set()
    for command in remote_config("run", ["."]).plan(daemon, 3):
        assert isinstance(command, Command)
        assert dict(command.environment)["MIRAI_EXECUTOR_SECRET"] == command.secret
        tokens.add(Token.from_text(command.secret))
    assert len(tokens) == 3
    assert tokens == {SECRET.token(*token.id) for token in tokens}
    assert {token.id.launch for token in tokens} == {launch.id.launch}
    assert launch.text in shell_command(daemon)  # a user may paste it more than once


def test_a_tunnel_uses_the_port_that_it_is_given_and_one_connection() -> None:
    launcher = ssh_config("node", tunnel=21017, command=["ssh", "-F", "none"])
    command = only(launcher.plan(HERE, 4))
    forward = ("ExitOnForwardFailure=no", "LogLevel=INFO", "ControlPath=none")
    assert command.argv == (
        *("ssh", "-F", "none", "-T", *as_words(*OURS, *forward)),
        *("-R", "127.0.0.1:21017:127.0.0.1:5555", "--", "node", "/bin/sh"),
    )
    assert b"for number in 1 2 3 4; do" in command.stdin
    assert b"daemon tcp://127.0.0.1:21017 " in command.stdin
    assert command.refusal == "remote port forwarding failed for listen port 21017"


def test_each_login_through_a_tunnel_has_a_port_of_its_own() -> None:
    plan = ssh_config(["a", "a", "b", "c"], tunnel=True).plan(HERE, 1)
    forwards = [one.argv[one.argv.index("-R") + 1] for one in plan if isinstance(one, Command)]
    ports = [int(forward.split(":")[1]) for forward in forwards]
    assert len(set(ports)) == len(ports)
    assert all(20_000 <= port < 32_000 for port in ports)


def test_a_machine_may_have_what_others_have_not() -> None:
    launcher = ssh_config(
        {"a": {"python": "/a/python", "prologue": "module load a", "daemons": 3}, "b": {}},
        prologue="module load b",
    )
    a, b = (one.stdin.decode() for one in launcher.plan(DAEMON, 1) if isinstance(one, Command))
    assert "module load a || exit" in a
    assert "/a/python -P -m mirai_executor daemon" in a
    assert "for number in 1 2 3; do" in a
    assert "module load b || exit" in b
    assert "for number in 1; do" in b
    with pytest.raises(TypeError, match="phyton"):
        ssh_config({"a": {"phyton": "/a/python"}})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ValueError, match="daemons"):
        ssh_config({"a": {"daemons": 0}})


def test_a_tunnel_leads_to_where_a_daemon_dials_an_ipv4_address_in_the_way_of_ipv6() -> None:
    daemon = DaemonCommand(("tcp://[::ffff:127.0.0.1]:7",), PLAIN)
    command = only(ssh_config("node", tunnel=17).plan(daemon, 1))
    assert command.argv[command.argv.index("-R") + 1] == "127.0.0.1:17:127.0.0.1:7"


def test_a_tunnel_takes_the_loopback_address_that_it_finds() -> None:
    daemon = DaemonCommand(("tcp://10.0.0.1:1", "tls+tcp://[::1]:2"), PLAIN)
    command = only(ssh_config("node", tunnel=17).plan(daemon, 1))
    assert command.argv[command.argv.index("-R") + 1] == "[::1]:17:[::1]:2"
    with pytest.raises(ValueError, match=r"local_url\(tcp=True\)"):
        ssh_config("node", tunnel=True).plan(DAEMON, 1)
    with pytest.raises(TypeError, match="tunnel must be True, False or a port, not 'yes'"):
        ssh_config("node", tunnel="yes")  # type: ignore[arg-type]  # that is it


def test_the_users_ssh_options_come_before_ours() -> None:
    launcher = ssh_config("node", options=["BatchMode=no", "IdentityFile=/a b"])
    argv = only(launcher.plan(DAEMON, 1)).argv
    values = [argv[at + 1] for at, word in enumerate(argv) if word == "-o"]
    assert values[:3] == ["BatchMode=no", "IdentityFile=/a b", "BatchMode=yes"]


@pytest.mark.parametrize(
    "remote",
    [
        "-oProxyCommand=evil",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@node",
        "a b",
        "node:0",
        "node:70000",
        "::1",
        "ssh://node/path",
        "http://node",
        "node\n",
        "node;reboot",
        "$(reboot)@node",
        "n\u00f6de",
        "no\x07de",
        "",
    ],
)
def test_what_is_no_machine_is_refused(remote: str) -> None:
    with pytest.raises(ValueError, match=r"machine|port|invalid word"):
        ssh_config(remote)


def test_ssh_needs_a_machine() -> None:
    with pytest.raises(ValueError, match="at least one machine"):
        ssh_config([])


# Schedulers


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


def test_a_description_is_not_to_queue_by_itself() -> None:
    launcher = cluster_config("condor_submit", "queue 5", secret_folder="/home/me")
    with pytest.raises(ValueError, match="one daemon at a time"):
        launcher.plan(DAEMON, 1)


# Any command


def test_the_daemons_command_takes_the_place_of_the_dot() -> None:
    command = only(remote_config("srun", ["-n", "1", "."], python=PYTHON).plan(DAEMON, 1))
    words = (
        PYTHON,
        "-P",
        "-m",
        "mirai_executor",
        "daemon",
        "tcp://10.0.0.1:5555",
        "--idletime",
        "60",
    )
    assert command.argv == ("srun", "-n", "1", *words)
    assert command.environment == (("MIRAI_EXECUTOR_SECRET", SECRET.text),)
    assert command.until is Until.EXIT
    stays = only(remote_config("srun", stays=True).plan(DAEMON, 1))
    assert stays.until is Until.START


def test_the_daemons_command_may_be_one_quoted_argument() -> None:
    launcher = remote_config("sbatch", ["--wrap", "."], python=PYTHON, quote=True)
    assert only(launcher.plan(DAEMON, 1)).argv == ("sbatch", "--wrap", RUN)


def test_the_daemons_command_may_arrive_on_standard_input() -> None:
    launcher = remote_config(
        ["docker", "run"], ["-i", "image", "."], python=PYTHON, stdin=True, prologue="cd /work"
    )
    command = only(launcher.plan(DAEMON, 1))
    assert command.argv == ("docker", "run", "-i", "image", "/bin/sh")
    assert command.environment == ()
    prologue = "{\ncd /work || exit\n} </dev/null\n"
    assert command.stdin.decode() == f"{prologue}{EXPORTS}exec {RUN}\n"


def test_each_daemon_may_have_a_number_and_a_name_among_the_arguments() -> None:
    args = ["run", "--name={name}", "--log=log-{number}", '{"a": 1}', "."]
    plan = remote_config("kubectl", args, python=PYTHON).plan(DAEMON, 2)
    words = [one.argv[2:5] for one in plan if isinstance(one, Command)]
    assert [each[1:] for each in words] == [
        ("--log=log-1", '{"a": 1}'),
        ("--log=log-2", '{"a": 1}'),
    ]
    names = [each[0].removeprefix("--name=") for each in words]
    assert all(re.fullmatch(r"mirai-[0-9a-f]{8}-[12]", name) for name in names)
    again = remote_config("kubectl", args, python=PYTHON).plan(DAEMON, 2)
    assert len({*names, *(one.argv[3][7:] for one in again if isinstance(one, Command))}) == 4


@pytest.mark.parametrize(
    ("scheduler", "prefix", "number", "variable"),
    [
        ("slurm", "#SBATCH", "%a", "SLURM_ARRAY_TASK_ID"),
        ("sge", "#$", "$TASK_ID", "SGE_TASK_ID"),
        ("pbs", "#PBS", "^array_index^", "PBS_ARRAY_INDEX"),
        ("torque", "#PBS", "$PBS_ARRAYID", "PBS_ARRAYID"),
        ("lsf", "#BSUB", "%I", "LSB_JOBINDEX"),
    ],
)
def test_each_job_may_have_its_number_in_options_and_prologue(
    scheduler: str, prefix: str, number: str, variable: str
) -> None:
    launcher = cluster_config(
        "submit",
        f"{prefix} -o job-{{number}}.out",
        scheduler=scheduler,
        prologue="mkdir /scratch/{number}",
    )
    text = script(launcher.plan(DAEMON, 2))
    assert f"{prefix} -o job-{number}.out\n" in text
    assert f"mkdir /scratch/${{{variable}}} || exit\n" in text
    alone = script(launcher.plan(DAEMON, 1))
    assert "-o job-1.out\n" in alone
    assert "mkdir /scratch/1 || exit\n" in alone


def test_a_job_of_htcondor_is_told_its_number_as_an_argument(tmp_path: Path) -> None:
    launcher = cluster_config(
        "condor_submit",
        "output = job-{number}.out\nlog = {name}.log",
        prologue="echo {number} $0 ${number:-no}",
        python=["/bin/echo", "started"],
        secret_folder=tmp_path,
        shell="bash",
    )
    command = only(launcher.plan(DAEMON, 2))
    described = command.stdin.decode()
    assert "output = job-$INT(MiraiNumber).out\n" in described
    assert re.search(
        r"^log = mirai-[0-9a-f]{8}-\$INT\(MiraiNumber\)\.log$", described, re.MULTILINE
    )
    (file,) = command.files
    job = tmp_path / "job"
    job.write_text(file.text)
    done = subprocess.run(["/bin/sh", job, "2"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("2 bash no\nstarted -P")
    alone = only(launcher.plan(DAEMON, 1))
    assert "output = job-1.out\n" in alone.stdin.decode()
    assert "echo 1 $0 ${number:-no} || exit\n" in alone.files[0].text
    assert f"arguments = {alone.files[0].path.name}\n" in alone.stdin.decode()


def test_oar_knows_the_number_of_a_job_in_scripts_and_not_in_options() -> None:
    launcher = cluster_config("oarsub", prologue="mkdir /scratch/{number}", secret_folder="/home")
    array = only(launcher.plan(DAEMON, 2))
    assert array.argv[1:3] == ("--array", "2")
    assert "mkdir /scratch/${OAR_ARRAY_INDEX} || exit\n" in array.files[0].text
    options = "#OAR -O job-{number}.out -n {name}"
    one_by_one = cluster_config("oarsub", options, secret_folder="/home").plan(DAEMON, 2)
    words = [one.argv[1:5] for one in one_by_one if isinstance(one, Command)]
    assert [each[:3] for each in words] == [
        ("-O", "job-1.out", "-n"),
        ("-O", "job-2.out", "-n"),
    ]
    assert [each[3][-2:] for each in words] == ["-1", "-2"]
    assert words[0][3][:-1] != words[1][3][:-1]  # no other job has it


def test_each_job_of_flux_has_a_number_of_its_own() -> None:
    options, prologue = "#flux: --output=job-{number}.out", "mkdir /scratch/{number}"
    plan = cluster_config(["flux", "batch"], options, prologue=prologue).plan(DAEMON, 3)
    texts = [one.stdin.decode() for one in plan if isinstance(one, Command)]
    for number, text in enumerate(texts, 1):
        assert f"#flux: --output=job-{number}.out\n" in text
        assert f"mkdir /scratch/{number} || exit\n" in text
    assert len(texts) == 3


def test_a_variable_of_a_shell_is_no_placeholder() -> None:
    launcher = cluster_config("sbatch", prologue="mkdir ${name}/${number}/{name}/{number}")
    text = script(launcher.plan(DAEMON, 1))
    assert re.search(r"mkdir \$\{name\}/\$\{number\}/mirai-[0-9a-f]{8}-1/1 \|\| exit", text)
    words = remote_config("sh", ["-c", "echo ${name} {number}", "."]).plan(DAEMON, 1)
    assert only(words).argv[2] == "echo ${name} 1"


@pytest.mark.parametrize("command", ["sbatch", "condor_submit", "oarsub"])
@pytest.mark.parametrize("prologue", ['echo "$FOUND" {a,b}', "false"])
def test_a_job_may_prepare_itself_in_another_shell(
    command: str, prologue: str, tmp_path: Path
) -> None:
    (tmp_path / ".bash_profile").write_text("FOUND=profile\n")
    launcher = cluster_config(
        command,
        secret_folder=None if command == "sbatch" else tmp_path,
        prologue=prologue,
        shell="bash -l",
        python=["/bin/echo", "started"],
    )
    (submission,) = launcher.plan(DAEMON, 1)
    assert isinstance(submission, Command)
    text = submission.files[0].text if submission.files else submission.stdin.decode()
    job = tmp_path / "job"
    job.write_text(text)
    done = subprocess.run(
        ["/bin/sh", job], env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    if prologue == "false":
        assert (done.returncode, done.stdout) == (1, "")
        return
    first, second = done.stdout.splitlines()
    assert first == "profile a b"
    assert second.startswith("started -")


@pytest.mark.parametrize("shell", ["", ["bash\n-l"], ["bash", ""]])
def test_what_is_no_shell_is_refused(shell: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"shell|word"):
        cluster_config("sbatch", shell=shell)


def test_any_command_is_run_once_for_each_daemon() -> None:
    plan = remote_config("srun").plan(DAEMON, 3)
    assert len(plan) == 3
    assert len(set(plan)) == 1


@pytest.mark.parametrize("args", [[], ["-n"], "srun .", ["a."]])
def test_a_command_without_a_place_for_the_daemon_is_refused(args: list[str] | str) -> None:
    with pytest.raises(ValueError, match=r"one of them '\.'"):
        remote_config("srun", args)


def test_a_prologue_needs_a_shell() -> None:
    with pytest.raises(ValueError, match="stdin=True"):
        remote_config("srun", prologue="module load python")


# HTTP


def request(plan: list[Submission]) -> HttpRequest:
    (found,) = plan
    assert isinstance(found, HttpRequest)
    return found


def test_a_request_carries_the_script_wherever_a_dot_stands_and_json_stays_json() -> None:
    data = {"name": "a.b", "args": ["-c", "."], "cpus": 2, "deep": {"x": [None, "."]}}
    launcher = http_config("https://node/jobs", "PUT", {"X-Who": "me"}, data, python=PYTHON)
    found = request(launcher.plan(DAEMON, 1))
    text = f"{EXPORTS}exec {RUN}\n"
    expected = {"name": "a.b", "args": ["-c", text], "cpus": 2, "deep": {"x": [None, text]}}
    assert json.loads(found.body) == expected
    assert (found.method, found.url) == ("PUT", "https://node/jobs")
    assert found.headers == (("Content-Type", "application/json"), ("X-Who", "me"))


def test_a_request_may_be_the_script_itself() -> None:
    found = request(http_config("https://node", python=PYTHON).plan(DAEMON, 1))
    assert found.body.decode() == f"{EXPORTS}exec {RUN}\n"
    assert found.headers == (("Content-Type", "text/plain; charset=utf-8"),)


def test_token_and_cookie_are_asked_for_at_each_launch_and_never_shown() -> None:
    tokens = iter(["one", "two"])
    launcher = http_config("https://node", token=lambda: next(tokens), cookie="c=secret")
    for expected in ("Bearer one", "Bearer two"):
        found = request(launcher.plan(DAEMON, 1))
        assert dict(found.headers)["Authorization"] == expected
        assert dict(found.headers)["Cookie"] == "c=secret"
        assert "secret" not in repr(found)
    assert "secret" not in repr(launcher)


def test_the_users_headers_replace_ours() -> None:
    launcher = http_config("https://node", headers={"content-type": "text/x-sh"}, token="t")
    found = request(launcher.plan(DAEMON, 1))
    assert found.headers == (("Authorization", "Bearer t"), ("content-type", "text/x-sh"))


@pytest.mark.parametrize("url", ["ftp://a", "https://", "node", "https://a/\n", "file:///etc"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="invalid address"):
        http_config(url)


def test_a_secret_is_not_sent_over_plain_http_unless_asked() -> None:
    for url in ("http://node/jobs", "http://127.evil.org", "http://10.0.0.1:80"):
        with pytest.raises(ValueError, match="not encrypted"):
            http_config(url)
    for url in ("http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"):
        http_config(url)
    http_config("http://node/jobs", insecure=True)


def test_an_address_that_would_show_a_password_is_refused() -> None:
    with pytest.raises(ValueError, match="use token=") as refused:
        http_config("https://me:hidden@node/jobs")
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["https://a/b c", "https://a/?key=hidden words", "https://a:99999/", "https://a/ü?key=hidden"],
)
def test_an_http_address_has_the_characters_of_one_and_shows_no_key(url: str) -> None:
    with pytest.raises(ValueError, match="invalid address") as refused:
        http_config(url)
    assert "hidden" not in str(refused.value)


BROKEN = "s3cr3t\r\nX-Evil: 1"
BAD_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "header": ({"headers": {"X-Key": BROKEN}}, "the header X-Key contains a character"),
    "number": ({"headers": {"X-Key": 17}}, "the header X-Key must be a string, not int"),
    "name": ({"headers": {"X Key:": "s3cr3t"}}, "the name of a header must consist of letters"),
    "token": ({"token": BROKEN}, "token contains a character"),
    "bytes": ({"token": b"s3cr3t"}, "token must be a string, not bytes"),
    "cookie": ({"cookie": "s3cr3t\u20ac"}, "cookie contains a character"),
    "called": ({"token": lambda: BROKEN}, "token contains a character"),
    "dict": ({"headers": ["s3cr3t"]}, "headers must be a dict of names and values, not list"),
    "method": ({"method": "GET /"}, "method must consist of letters"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_what_no_header_can_have_is_refused_without_being_quoted(case: str) -> None:
    options, why = BAD_HEADERS[case]
    with pytest.raises((TypeError, ValueError), match=why) as refused:
        http_config("https://node", **options).plan(DAEMON, 1)
    assert "s3cr3t" not in str(refused.value)


def test_a_token_may_end_in_a_line_break_as_files_do() -> None:
    for token in ("s3cr3t\n", lambda: " s3cr3t\r\n"):
        found = request(http_config("https://node", token=token).plan(DAEMON, 1))
        assert dict(found.headers)["Authorization"] == "Bearer s3cr3t"


def test_the_key_in_an_address_is_not_shown() -> None:
    launcher = http_config("https://node/jobs?key=hidden#hidden")
    found = request(launcher.plan(DAEMON, 1))
    assert "hidden" in found.url
    assert "hidden" not in f"{launcher!r} {found!r}"
    with pytest.raises(ValueError, match="not encrypted") as refused:
        http_config("http://node/jobs?key=hidden")
    assert "hidden" not in str(refused.value)
