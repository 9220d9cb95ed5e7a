"""Live: the demonstration shows what it says, and does not say so when it is not so."""

import dataclasses
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from live.mischief import SOON
from mirai_executor import demo

pytestmark = pytest.mark.once

COMMAND = [sys.executable, "-W", "error", "-m", "mirai_executor", "demo"]


def test_everything_holds_and_is_shown() -> None:
    run = subprocess.run(
        [*COMMAND, "--files=30"],
        capture_output=True,
        text=True,
        timeout=2 * SOON,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("\nok: ") == 4
    assert run.stdout.endswith("All checks passed.\n")
    assert "30 source files" in run.stdout
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'no such file'" in run.stdout
    assert "DaemonLostError: the daemon (pid " in run.stdout
    assert "TaskTimeoutError: " in run.stdout
    assert run.stdout.count("Traceback (most recent call last)") == 1
    assert "\r" not in run.stdout
    assert run.stderr == "", "progress is for terminals"


def test_progress_is_shown_on_a_terminal() -> None:
    terminal, other_end = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0) as shown:
        demonstration = subprocess.Popen(
            [*COMMAND, "--files=30"], stdout=subprocess.DEVNULL, stderr=other_end
        )
        os.close(other_end)
        assert demonstration.wait(2 * SOON) == 0
        assert b"30 of 30 files" in os.read(shown.fileno(), 65536)


def test_a_reader_that_goes_away_sees_no_traceback() -> None:
    reader, writer = os.pipe()
    demonstration = subprocess.Popen(
        [*COMMAND, "--files=30"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert os.read(reader, 3) == b"30 "
    os.close(reader)
    assert demonstration.communicate(timeout=2 * SOON)[1] == b""
    assert demonstration.returncode == 141


def test_an_interrupted_demonstration_leaves_quietly() -> None:
    demonstration = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert demonstration.stdout is not None
    assert b"source files" in demonstration.stdout.readline()
    demonstration.send_signal(signal.SIGINT)
    assert demonstration.communicate(timeout=2 * SOON) == (b"", b"")
    assert demonstration.returncode == 130


@pytest.mark.parametrize(
    ("serial", "parallel", "claim"),
    [(6.0, 3.0, "2.0 times as fast"), (6.0, 7.0, "not faster"), (6.0, 6.0, "not faster")],
)
def test_a_gain_is_claimed_only_where_there_is_one(
    serial: float, parallel: float, claim: str
) -> None:
    assert claim in demo.gain(serial, parallel)


def test_a_difference_between_the_runs_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, here = demo.analyse, os.getpid()

    def differing(path: Path) -> demo.Analysis:
        analysis = original(path)
        return dataclasses.replace(analysis, lines=0) if os.getpid() == here else analysis

    monkeypatch.setattr(demo, "analyse", differing)
    assert not demo.run(workers=1, limit=5)
    printed = capsys.readouterr().out
    assert "FAILED: both runs found the same" in printed
    assert printed.endswith("Some checks FAILED.\n")


def test_the_standard_library_is_all_there_and_nothing_else() -> None:
    files = demo.standard_library()
    assert len(files) > 400
    assert Path(os.__file__) in files
    assert not any("site-packages" in path.parts or path == Path(__file__) for path in files)
    assert files == sorted(files)
