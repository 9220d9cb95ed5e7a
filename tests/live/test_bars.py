"""Bars of the real tqdm, and plain lines, on a terminal: moved by what running tasks say."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bars
from terminals import on_a_terminal

PROGRAM = Path(bars.__file__)


@pytest.fixture
def fifos(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "first", tmp_path / "second"]
    for fifo in found:
        os.mkfifo(fifo)
    return found


@pytest.mark.parametrize(
    "how", ["map", "mirai_map", "collect", "as_completed", "given", "elsewhere"]
)
def test_a_bar_of_tqdm_moves_while_a_task_runs(how: str, fifos: list[Path]) -> None:
    with on_a_terminal(PROGRAM, how, "any", *fifos) as terminal:
        terminal.read_until("1.25/2")
        terminal.read_until(r"step\n1 [of 4]")  # in one line
        fifos[0].write_bytes(b"go on")
        terminal.read_until("1.5/2")
        terminal.read_until("so to speak")
        fifos[1].write_bytes(b"go on")
        terminal.read_until("the end")
    lines = terminal.text.split("\r")
    last = next(line for line in reversed(lines) if line.startswith("fits"))
    assert last.startswith("fits: 100%")
    assert " 2/2 " in last
    assert "step" not in last


def test_a_task_of_several_calls_says_words_and_no_part_of_one_call(fifos: list[Path]) -> None:
    with on_a_terminal(PROGRAM, "chunks", "any", *fifos) as terminal:
        terminal.read_until(r"step\n1 [of 4]")
        for fifo in fifos:
            fifo.write_bytes(b"go on")
    assert ".25/2" not in terminal.text
    assert " 2/2 " in terminal.text


def test_a_plain_line_moves_while_a_task_runs(fifos: list[Path]) -> None:
    with on_a_terminal(PROGRAM, "as_completed", "none", *fifos) as terminal:
        terminal.read_until(r"fits [##################............] 1.25/2 step\n1 [of 4]")
        fifos[0].write_bytes(b"go on")
        terminal.read_until("1.5/2 so to speak")
        fifos[1].write_bytes(b"go on")
    shown = terminal.text.split("\r")
    assert "fits [##############################] 2/2" in [line.rstrip() for line in shown]


def test_nothing_is_shown_in_a_file(fifos: list[Path]) -> None:
    command: list[Any] = [sys.executable, PROGRAM, "as_completed", "any", *fifos]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        for fifo in fifos:
            fifo.write_bytes(b"go on")
        assert run.communicate(timeout=50) == (b"the end\n", b"")
