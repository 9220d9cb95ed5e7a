"""Launchers as data: which command or request each of them makes of "daemons, please"."""

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
from mirai_executor.credentials import DaemonCredentials
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    HttpRequest,
    Launcher,
    Submission,
    Until,
    shell_command,
)
from unit.plans import (
    CERTIFICATE,
    DAEMON,
    EXPORTS,
    PLAIN,
    PYTHON,
    RUN,
    SECRET,
    TLS,
    only,
    script,
)

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
