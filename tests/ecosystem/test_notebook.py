"""Runs the notebook of the first day in a kernel of Jupyter, and compares what it shows.

To renew what it shows: ``python tests/ecosystem/test_notebook.py``.
"""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat

NOTEBOOK = Path(__file__).parents[2] / "docs/first-day.ipynb"
# Processes have other numbers, machines other names, and bars take another time.
CHANGING = re.compile(r"pid \d+ on \S+: \w+, \d+ tasks? done|<td>.*?</td>|\[\d+:\d+<.*?\] *")
OVERWRITTEN = re.compile(r"[^\r\n]*\r")


def shown(path: Path) -> list[str]:
    """Return what each cell shows: what was printed, and the value of its last line."""
    cells: list[Any] = nbformat.read(path, as_version=4).cells
    outputs = [[text_of(output) for output in cell.get("outputs", [])] for cell in cells]
    texts = ["".join(texts) for texts in outputs]  # what is printed may come in pieces
    return [CHANGING.sub("...", OVERWRITTEN.sub("", text)) for text in texts]


def text_of(output: Any) -> str:
    assert output.output_type in ("stream", "execute_result"), output
    text: str = output.text if output.output_type == "stream" else output.data["text/plain"]
    return text


def execute(path: Path, *options: str) -> None:
    command: list[Any] = [sys.executable, "-m", "jupyter", "execute", *options, path]
    subprocess.run(command, check=True, cwd=path.parent, timeout=200)


def test_the_notebook_of_the_first_day_shows_what_it_is_stored_with(tmp_path: Path) -> None:
    shutil.copy(NOTEBOOK, path := tmp_path / "ran.ipynb")
    execute(path, "--inplace")
    ran = shown(path)
    assert ran == shown(NOTEBOOK)
    assert sum(map(bool, ran)) > 18
    assert "text/html" in str(nbformat.read(path, 4).cells[-3])  # the status


def renew() -> None:
    """Execute the notebook where it is, and keep of its bars what stands there at the end."""
    metadata = nbformat.read(NOTEBOOK, as_version=4).metadata
    execute(NOTEBOOK, "--inplace")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.metadata = metadata
    for cell in notebook.cells:
        cell.metadata = {}  # when it ran
        outputs: list[Any] = cell.get("outputs", [])
        for before, after in [*itertools.pairwise(outputs)]:
            if before.get("name", "") == after.get("name"):  # of the same stream
                after.text = before.text + after.text
                outputs.remove(before)
        for output in outputs:
            if output.output_type == "stream":
                output.text = OVERWRITTEN.sub("", output.text)
    nbformat.write(notebook, NOTEBOOK)


CELLS = [
    """
from mirai_executor import MiraiExecutor
executor = MiraiExecutor(1)
def share(cake, guests):
    piece = cake / guests
    return piece
executor.submit(share, 1, 2).result()
""",
    """
def share(cake, guests):
    cake = cake * 100

    return cake // guests
executor.submit(share, 1, 3).result()
""",
    "executor.submit(share, 1, 0).result()",
    "await executor.submit(share, 2, 1)",
    "list(executor.map(int, '12')), executor.submit(int).result()",
]


def test_cells_that_are_changed_run_as_they_are_and_their_errors_point_at_the_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "cells.ipynb"
    cells = [*map(nbformat.v4.new_code_cell, CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    execute(path, "--inplace", "--allow-errors")
    ran = nbformat.read(path, as_version=4).cells
    first, second, failed, awaited, last = ([*cell.outputs] for cell in ran)
    assert [text_of(*outputs) for outputs in (first, second, awaited, last)] == [
        "0.5",
        "33",
        "200",
        "([1, 2], 0)",
    ]
    (error,) = failed
    assert error.ename == "ZeroDivisionError"
    shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
    assert "----> 4     return cake // guests" in shown


if __name__ == "__main__":
    renew()
