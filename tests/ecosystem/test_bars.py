"""Progress as it is really seen: by rich on a terminal, by tqdm in a notebook's kernel."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
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


@pytest.mark.parametrize("how", ["map", "as_completed"])
def test_a_bar_of_rich_moves_while_a_task_runs(how: str, fifos: list[Path]) -> None:
    with on_a_terminal(PROGRAM, how, "rich", *fifos) as terminal:
        terminal.read_until("62%")
        terminal.read_until(r"step\n1 [of 4]")  # brackets are no markup
        fifos[0].write_bytes(b"go on")
        terminal.read_until("75%")
        terminal.read_until("so to speak")
        fifos[1].write_bytes(b"go on")
        terminal.read_until("the end")
    assert "fits" in terminal.text
    assert "100%" in terminal.text


CELLS = [
    """
from mirai_executor import MiraiExecutor, collect, progress
executor = MiraiExecutor(1)
def work(fifo):
    progress(1, 4, "a quarter")
    return fifo and len(open(fifo).read())
""",
    """
import os, threading
from tqdm import tqdm
os.mkfifo("fifo")
class Seen(tqdm):
    def refresh(self, *args, **kwargs):
        super().refresh(*args, **kwargs)
        if self.n == 1.25 and not self.is_seen:
            self.is_seen = True
            threading.Thread(target=lambda: open("fifo", "w").write("go on")).start()
    is_seen = False
with Seen(total=2, desc="fits") as bar:
    found = list(executor.map(work, ["", os.path.abspath("fifo")], progress=bar))
found
""",
    'list(executor.map(abs, range(3), progress="numbers"))',
    "executor.shutdown()",
]


def test_a_notebook_shows_a_bar_that_moves_while_a_task_runs_and_no_warning(
    tmp_path: Path,
) -> None:
    path = tmp_path / "cells.ipynb"
    cells = [*map(nbformat.v4.new_code_cell, CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace"]
    subprocess.run([*command, path], check=True, cwd=tmp_path, timeout=100)
    _, moved, counted, _ = ([*cell.outputs] for cell in nbformat.read(path, as_version=4).cells)
    assert [output.data["text/plain"] for output in (moved[-1], counted[-1])] == [
        "['', 5]",
        "[0, 1, 2]",
    ]
    first, second = ("".join(output.text for output in out[:-1]) for out in (moved, counted))
    assert "1.25/2" in first
    assert "a quarter" in first
    assert re.search(r"numbers: 100%\|.*\| 3/3 \[", second.split("\r")[-1])
    assert "Warning" not in first + second
