"""Live: the demonstration shows what it says, and does not say so when it is not so."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from live.mischief import SOON
from mirai_executor import demo


def test_everything_holds_and_is_shown() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mirai_executor", "demo", "--files=30"],
        capture_output=True,
        text=True,
        timeout=2 * SOON,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("\nok: ") == 4
    assert run.stdout.endswith("Everything held.\n")
    assert "30 source files" in run.stdout
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'no such file'" in run.stdout
    assert "DaemonLostError: the daemon (pid " in run.stdout
    assert "TaskTimeoutError: " in run.stdout
    assert "30 of 30 files" in run.stderr


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
    assert printed.endswith("NOT everything held.\n")


def test_the_standard_library_is_all_there_and_nothing_else() -> None:
    files = demo.standard_library()
    assert len(files) > 400
    assert Path(os.__file__) in files
    assert not any("site-packages" in path.parts or path == Path(__file__) for path in files)
    assert files == sorted(files)
