"""The lock files name one version of everything that pyproject.toml asks for, and no place."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
LOCKS = ("requirements.lock", "requirements-lowest.lock")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def asked_for(*groups: str) -> Iterator[Requirement]:
    for item in project()["project"]["dependencies"]:
        yield Requirement(item)
    for group in groups:
        for item in project()["dependency-groups"][group]:
            if isinstance(item, str):
                yield Requirement(item)


def applies(requirement: Requirement, python: str) -> bool:
    where = {"python_version": python, "python_full_version": f"{python}.0"}
    return requirement.marker is None or requirement.marker.evaluate(where)


def locked(lock: str, python: str) -> dict[str, Version]:
    """Return the locked version of each package on that Python of this machine."""
    lines = (ROOT / lock).read_text().splitlines()
    entries = [Requirement(line) for line in lines if re.match(r"\w", line)]
    found = [entry for entry in entries if applies(entry, python)]
    assert len({entry.name for entry in found}) == len(found)
    return {entry.name: Version(str(entry.specifier).removeprefix("==")) for entry in found}


@pytest.mark.parametrize("python", PYTHONS)
def test_all_that_is_asked_for_is_locked_within_its_range(python: str) -> None:
    versions = locked("requirements.lock", python)
    asked = [*asked_for(*project()["dependency-groups"])]
    asked += map(Requirement, project()["build-system"]["requires"])
    for requirement in filter(lambda one: applies(one, python), asked):
        assert versions[requirement.name] in requirement.specifier, requirement


def test_the_lowest_versions_are_those_that_the_ranges_begin_with() -> None:
    versions = locked("requirements-lowest.lock", "3.11")
    for requirement in asked_for("test"):
        [lowest] = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
        # The first of 3.6 may be 3.6.1.
        assert versions[requirement.name].release[: len(lowest.release)] == lowest.release


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_folder(lock: str) -> None:
    for line in (ROOT / lock).read_text().splitlines():
        assert re.fullmatch(r"(    )?# .*|    #|#    tox -e lock|[\w.-]+==[\w.]+( ; .*)?", line), (
            line
        )
        assert "/" not in line
