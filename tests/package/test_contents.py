"""The sdist and the wheel, which ``tox -e package`` builds, hold what they should, and no more."""

import os
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("MIRAI_TESTS_DIST")

pytestmark = pytest.mark.skipif(not FOLDER, reason="tox -e package builds an sdist and a wheel")


def only(pattern: str) -> Path:
    [found] = Path(FOLDER or ".").glob(pattern)
    return found


@pytest.fixture(scope="module")
def wheel() -> dict[str, str]:
    """Return the text of each file."""
    with zipfile.ZipFile(only("*.whl")) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture(scope="module")
def sdist() -> set[str]:
    with tarfile.open(only("*.tar.gz")) as archive:
        files = [PurePosixPath(member.name) for member in archive if member.isfile()]
    return {str(file.relative_to(file.parts[0])) for file in files}


def files_in(*folders: str) -> set[str]:
    found = {path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()}
    kept = {
        path for path in found if "__pycache__" not in path.parts and "_build" not in path.parts
    }
    return {path.relative_to(ROOT).as_posix() for path in kept}


def test_the_wheel_is_the_package_with_its_types_and_nothing_else(wheel: dict[str, str]) -> None:
    modules = {name for name in wheel if ".dist-info/" not in name}
    assert modules == files_in("mirai_executor")
    assert "mirai_executor/py.typed" in modules


def test_the_wheel_says_which_license_and_which_pythons(wheel: dict[str, str]) -> None:
    [text] = [text for name, text in wheel.items() if name.endswith(".dist-info/METADATA")]
    metadata = message_from_string(text)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier", [])
    for minor in range(11, 16):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_the_sdist_has_all_that_tests_and_docs_need(sdist: set[str]) -> None:
    needed = {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "setup.cfg",
        "tox.ini",
        "requirements.lock",
    }
    assert needed <= sdist
    assert files_in("mirai_executor", "tests", "docs") <= sdist


def test_the_sdist_has_nothing_that_was_compiled_or_kept_by_a_tool(sdist: set[str]) -> None:
    folders = {part for name in sdist for part in PurePosixPath(name).parent.parts}
    assert {name for name in folders if name.startswith((".", "__pycache__"))} == set()
    assert {name for name in sdist if name.endswith((".pyc", ".so"))} == set()
