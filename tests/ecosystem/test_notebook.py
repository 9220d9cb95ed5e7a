"""Runs the notebook of the first day in a kernel of Jupyter, and compares what it shows.

To renew what it shows: ``python tests/ecosystem/test_notebook.py``.
"""

import asyncio
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager

PATIENCE = 60.0  # seconds that no passing test waits
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


class Kernel:
    """A kernel as Jupyter runs it, and what its client gets."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._manager: Any = AsyncKernelManager(kernel_name="python3")

    async def __aenter__(self) -> "Kernel":
        await self._manager.start_kernel(cwd=str(self._folder))
        self._client = self._manager.client()
        self._client.start_channels()
        await self._client.wait_for_ready(timeout=PATIENCE)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.stop_channels()
        await self._manager.shutdown_kernel()

    def begin(self, cell: str) -> str:
        """Have a cell run; return its id. Its error has no other one left out."""
        return str(self._client.execute(cell, stop_on_error=False))

    async def is_printed(self, text: str) -> bool:
        """Wait until a cell prints something."""
        message: Any = {"content": {}}
        while text not in message["content"].get("text", ""):
            message = await self._client.get_iopub_msg(timeout=PATIENCE)
        return True

    async def interrupt(self) -> None:
        """Do what the button does."""
        await self._manager.interrupt_kernel()

    async def end_of(self, cell: str) -> str:
        """Wait for the end of a cell: the name of its error, or "ok"."""
        while True:
            reply = await self._client.get_shell_msg(timeout=PATIENCE)
            if reply["parent_header"]["msg_id"] == cell:
                return str(reply["content"].get("ename", reply["content"]["status"]))


FIRST = """
import threading
from concurrent.futures import as_completed, wait
from mirai_executor import MiraiExecutor
executor = MiraiExecutor(1)
def run_for_ever():
    print("runs", flush=True)
    threading.Event().wait()
"""
WAITS = {
    "result": "executor.submit(run_for_ever).result()",
    "results": "[future.result() for future in [executor.submit(run_for_ever) for _ in 'abc']]",
    "nothing of ours": "executor.submit(run_for_ever); threading.Event().wait()",
    "mirai_map": """
job = lambda n: n < 0 and threading.Event().wait()
executor.mirai_map(range(200), job).collect()  # quick ones: the next share tasks
m = executor.mirai_map([-1] * 200, job)
print("runs", flush=True)
threading.Event().wait()
""",
    "map": "list(executor.map(lambda _: run_for_ever(), range(3)))",
    "wait": "wait([executor.submit(run_for_ever) for _ in range(3)])",
    "as_completed": "[*as_completed([executor.submit(run_for_ever) for _ in range(3)])]",
}


@pytest.mark.parametrize("how", WAITS)
def test_an_interrupted_cell_leaves_nothing_that_the_next_one_would_wait_for(
    how: str, tmp_path: Path
) -> None:
    async def work() -> list[str]:
        async with Kernel(tmp_path) as kernel:
            ends = [await kernel.end_of(kernel.begin(FIRST))]
            cell = kernel.begin(WAITS[how])
            assert await kernel.is_printed("runs")
            await kernel.interrupt()
            ends.append(await kernel.end_of(cell))
            cell = kernel.begin("assert executor.submit(abs, -1).result(timeout=30) == 1")
            return [*ends, await kernel.end_of(cell)]

    assert asyncio.run(work()) == ["ok", "KeyboardInterrupt", "ok"]


if __name__ == "__main__":
    renew()
