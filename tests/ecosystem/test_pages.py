"""Runs the examples of the pages about other libraries, and compares what they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from docs.test_examples import check_examples, examples_of

FOLDER = Path(__file__).parents[2] / "docs/ecosystem"
PAGES = sorted(FOLDER.glob("[!i]*.md"))
DISTRIBUTIONS = {"xgboost": "xgboost-cpu"}  # where it is not called as the library


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    if page.stem == "tensors":
        pytest.importorskip("torch", reason="it is installed where pip finds one without GPUs")
    check_examples(page, tmp_path)


def test_the_files_of_the_page_about_pytest_pass(tmp_path: Path) -> None:
    for example in examples_of(FOLDER / "pytest.md"):
        name, _, _ = example.code.removeprefix("# ").partition("\n")
        (tmp_path / name).write_text(example.code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1"]
    ran = subprocess.run(
        [*command, "test_theirs.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout


def test_the_index_names_each_page_and_the_versions_that_are_run() -> None:
    text = (FOLDER / "index.md").read_text()
    rows = re.findall(r"^\| \[(\S+)\]\((\w+)\.md.*\) \| .* \| (\S+) \|$", text, re.MULTILINE)
    assert {page for _, page, _ in rows} == {page.stem for page in PAGES}
    said = {library: run for library, _, run in rows}
    locked = locked_for("3.11.0")
    tox = (FOLDER.parents[1] / "tox.ini").read_text()
    assert f"torch=={said.pop('PyTorch')}+cpu" in tox  # it comes from elsewhere
    assert said == {
        library: locked[DISTRIBUTIONS.get(library, library).lower()] for library in said
    }


def locked_for(python: str) -> dict[str, str]:
    """Return the versions that are installed on a Python: newer ones have newer libraries."""
    lines = (FOLDER.parents[1] / "requirements.lock").read_text().splitlines()
    entries = [Requirement(line) for line in lines if line[:1].isalnum()]
    where = {"python_full_version": python}
    return {
        entry.name: str(entry.specifier).removeprefix("==")
        for entry in entries
        if entry.marker is None or entry.marker.evaluate(where)
    }
