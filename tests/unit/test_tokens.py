"""Which way the token of a daemon takes, with each launcher; no command line is among them."""

import json
from pathlib import Path

import pytest

from mirai_executor import (
    cluster_config,
    dask_config,
    http_config,
    kubernetes_config,
    ray_config,
    remote_config,
    ssh_config,
)
from mirai_executor._provisioning._listening import Here
from mirai_executor.credentials import DaemonCredentials, new_secret
from mirai_executor.launchers import (
    Command,
    DaemonCommand,
    HttpRequest,
    JobRequest,
    Launcher,
    Submission,
    shell_command,
)
from mirai_executor.launchers._task import DaemonTask

FOLDER = Path("/home/me/.mirai-executor")
SCHEDULERS = {
    "slurm": ("sbatch", "slurm"),
    "sge": ("qsub", "sge"),
    "pbs": ("qsub", "pbs"),
    "torque": ("qsub", "torque"),
    "lsf": ("bsub", "lsf"),
    "flux": ("flux", "flux"),
    "htcondor": ("condor_submit", "htcondor"),
    "oar": ("oarsub", "oar"),
}
STARTED_WITH_A_FILE = ("htcondor", "oar")


def cluster(name: str, folder: Path | None = FOLDER) -> Launcher:
    command, scheduler = SCHEDULERS[name]
    return cluster_config(command, scheduler=scheduler, secret_folder=folder)


LAUNCHERS: dict[str, tuple[Launcher, set[str]]] = {
    "here": (Here("python3"), {"standard input"}),
    "ssh": (ssh_config(["a", "b"]), {"standard input"}),
    **{f"{name}, by a file": (cluster(name), {"file"}) for name in SCHEDULERS},
    **{
        f"{name}, in the script": (cluster(name, None), {"standard input"})
        for name in SCHEDULERS
        if name not in STARTED_WITH_A_FILE
    },
    "a command": (remote_config("srun"), {"environment"}),
    "a command with input": (remote_config("docker", stdin=True), {"standard input"}),
    "http": (http_config("https://node:1/jobs"), {"body"}),
    "dask": (dask_config("tcp://10.0.0.9:8786"), {"task"}),
    "ray": (ray_config("auto"), {"task"}),
    "kubernetes": (kubernetes_config("lab:7"), {"Secret"}),
}


def daemon() -> DaemonCommand:
    token = new_secret().new_token()
    return DaemonCommand(("tls+tcp://10.0.0.1:5555",), DaemonCredentials(token, "PEM", "name"))


def places(submission: Submission) -> dict[str, str]:
    """Return what each place holds that is handed over."""
    match submission:
        case Command():
            return {
                "command line": " ".join(submission.argv),
                "standard input": submission.stdin.decode(),
                "environment": repr(submission.environment),
                "file": "".join(file.text for file in submission.files),
            }
        case HttpRequest():
            return {
                "address": submission.url,
                "header": repr(submission.headers),
                "body": submission.body.decode(),
            }
        case JobRequest():
            return engine_places(submission)


def engine_places(request: JobRequest) -> dict[str, str]:
    found = {"repr": repr(request)}
    for part in request.arguments:
        if isinstance(part, list):
            assert all(isinstance(task, DaemonTask) for task in part)
            found["task"] = repr([task.secret for task in part])
            found["command line of a task"] = repr([task.words for task in part])
            found["environment of a task"] = repr([task.environment for task in part])
        elif isinstance(part, str) and part.startswith("{"):
            found[json.loads(part)["kind"]] = part
    return found


@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_token_is_where_it_is_said_to_be_and_in_no_command_line(name: str) -> None:
    launcher, expected = LAUNCHERS[name]
    submissions = launcher.plan(daemon(), 2)
    assert submissions
    for submission in submissions:
        tokens = [submission.secret]
        if isinstance(submission, JobRequest) and submission.daemons:
            tokens = [one.secret for one in submission.daemons]
        for token in tokens:
            held = {place for place, text in places(submission).items() if token in text}
            assert held == expected


def test_a_command_to_paste_has_it_as_an_assignment_that_no_process_is_started_with() -> None:
    words = shell_command(one := daemon(), "python3").split()
    at = [one.secret in word for word in words].index(True)
    assert words[at].startswith("MIRAI_EXECUTOR_SECRET=")
    assert at < words.index("python3")


def test_each_of_these_ways_has_its_row_in_the_policy() -> None:
    text = (Path(__file__).parents[2] / "SECURITY.md").read_text()
    _, _, table = text.partition("## Which way a token takes")
    rows = [line for line in table.split("\n## ")[0].splitlines() if line.startswith("| `")]
    named = " ".join(row.split("|")[1] for row in rows)
    for way in ("launch_local", "ssh_config", "remote_config", "http_config", "dask_config"):
        assert f"`{way}" in named
    for command, _ in SCHEDULERS.values():
        assert command in named
