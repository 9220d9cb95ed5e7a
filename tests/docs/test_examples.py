"""Runs the examples of the README and of each page of the docs, and compares what they print.

The ``python`` blocks of a page are one script, run from top to bottom. A ``text`` block right
after one is what it prints; a line ``...`` there stands for any number of lines.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FENCED = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
MARK = "--- end of block {} ---"
GUARD = 'if __name__ == "__main__":'
SECONDS = 200.0
# Of ssh and schedulers: they run here what is to run elsewhere.
STAND_INS = Path(__file__).with_name("bin")


@dataclass(frozen=True)
class Example:
    line: int
    code: str
    shown: str | None


def examples_of(page: Path) -> list[Example]:
    text = page.read_text()
    return [
        Example(text.count("\n", 0, found.start()) + 1, found["code"], found["shown"])
        for found in FENCED.finditer(text)
    ]


def pages() -> list[Path]:
    every = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [page for page in every if examples_of(page)]


def script(examples: list[Example]) -> str:
    """Join the blocks; after each, a line on standard output says so.

    Daemons import a script that has a guard, and then say nothing.
    """
    guard = f"{GUARD} " if any(GUARD in example.code for example in examples) else ""
    parts = [
        f"{example.code}\n{guard}print({MARK.format(number)!r}, flush=True)\n"
        for number, example in enumerate(examples)
    ]
    return "".join(parts)


def pattern(shown: str) -> str:
    lines = [r"(.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in lines_of(shown)]
    return "".join(lines)


def lines_of(shown: str) -> list[str]:
    return shown.rstrip("\n").split("\n")


def check_examples(page: Path, folder: Path) -> None:
    """Run what a page shows, in a folder, and compare what it prints."""
    examples = examples_of(page)
    path = folder / "example.py"
    path.write_text(script(examples))
    run = subprocess.run(
        [sys.executable, "-W", "error", path],
        cwd=folder,
        env={
            **os.environ,
            "HOME": str(folder),  # where cluster_config() puts secrets
            "PATH": f"{STAND_INS}{os.pathsep}{os.environ['PATH']}",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert run.returncode == 0, f"{page.name}:\n{run.stdout}\n{run.stderr}"
    printed = run.stdout
    for number, example in enumerate(examples):
        output, _, printed = printed.partition(MARK.format(number) + "\n")
        if example.shown is not None:
            where = f"{page.name}, line {example.line}, printed:\n{output}\n{run.stderr}"
            assert re.fullmatch(pattern(example.shown), output), where


@pytest.mark.live
@pytest.mark.docs
@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    check_examples(page, tmp_path)
