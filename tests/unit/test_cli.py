"""The command line: what it understands, and with which status it exits."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mirai_executor import __version__, cli, demo, keeper


class Demo:
    """Takes the place of the demonstration, and notes how it was asked for."""

    def __init__(self, outcome: "bool | BaseException") -> None:
        self.outcome = outcome
        self.asked: list[tuple[int | None, int | None]] = []

    def run(self, workers: int | None, limit: int | None) -> bool:
        self.asked.append((workers, limit))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def use(monkeypatch: pytest.MonkeyPatch, outcome: "bool | BaseException") -> Demo:
    fake = Demo(outcome)
    monkeypatch.setattr(demo, "run", fake.run)
    return fake


def test_the_demo_takes_all_files_and_processors_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = use(monkeypatch, True)
    cli.main(["demo"])
    cli.main(["demo", "--workers", "3", "--files=20"])
    assert fake.asked == [(None, None), (3, 20)]


@pytest.mark.parametrize(
    ("outcome", "status"), [(True, 0), (False, 1), (KeyboardInterrupt(), 130)]
)
def test_the_exit_status_is_zero_only_if_all_held(
    outcome: "bool | BaseException", status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, outcome)
    assert cli.main(["demo"]) == status


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["dmeo"],
        ["demo", "--files", "0"],
        ["demo", "--workers", "-1"],
        ["demo", "--workers", "two"],
        ["demo", "now"],
    ],
)
def test_what_is_not_understood_is_refused_with_the_usage(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        cli.main(words)
    assert refused.value.code == 2
    assert "usage: mirai-executor" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["demo", "--wrokers", "2"], "unknown option: --wrokers"),
        (["demo", "now"], "unexpected argument: now"),
        (["daemon", "tcp://a:1", "--idle", "1", "--max-taks=2"], "unknown option: --max-taks=2"),
    ],
)
def test_an_unknown_option_is_named_with_those_of_the_command(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        cli.main(words)
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert ("--workers N" if words[0] == "demo" else "--max-tasks-per-child N") in said


@pytest.mark.parametrize("command", ["demo", "daemon"])
def test_help_documents_the_exit_statuses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    documented = {int(number) for number in re.findall(r"(?<=[:;] )\d+(?= )", said)}
    ours = {0, 1, 2, 130, 141} if command == "demo" else set(map(int, keeper.ExitCode))
    assert documented == ours


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_shown(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as shown:
        cli.main([option])
    assert shown.value.code == 0
    assert capsys.readouterr().out == f"mirai-executor {__version__}\n"


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as shown:
        cli.main(["--help"])
    assert shown.value.code == 0
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "cleanup", "dispatcher"),
    [
        ([], None, None),
        (["--cleanup", "--dispatcher"], True, True),
        (["--no-cleanup", "--no-dispatcher"], False, False),
    ],
)
def test_a_daemon_leaves_to_its_host_what_it_is_not_told(
    words: list[str],
    cleanup: bool | None,
    dispatcher: bool | None,
    kept: list[keeper.KeeperOptions],
) -> None:
    assert cli.main(["daemon", "tcp://127.0.0.1:1", *words]) == 0
    assert [(options.cleanup, options.dispatcher) for options in kept] == [(cleanup, dispatcher)]


def test_python_m_is_the_command_line() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "mirai_executor", "--version"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == f"mirai-executor {__version__}\n"
