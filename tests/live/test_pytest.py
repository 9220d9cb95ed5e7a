"""What users of pytest see: a session of theirs, run in a folder of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import pytest
from mirai_executor import MiraiExecutor

def test_it():
    limit = 4

    def work(n):
        doubled = 2 * n
        assert doubled == limit

    with MiraiExecutor(1) as executor:
        executor.submit(work, 2).result()
        with pytest.raises(AssertionError, match="^assert 6 == 4$"):
            executor.submit(work, 3).result()
"""


def run(folder: Path, program: str, *options: str) -> str:
    """Run a file of tests; return what pytest says."""
    file = folder / "test_theirs.py"
    file.write_text(program)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, file.name]
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_an_assert_of_a_function_inside_of_a_test_shows_its_values(
    mode: str, tmp_path: Path
) -> None:
    assert "1 passed" in run(tmp_path, PROGRAM, f"--import-mode={mode}")
