"""Finds CPython's own executor tests, and makes them importable where an interpreter lacks them.

``test.test_concurrent_futures`` is a part of CPython's library that many installations leave out.
Where the running interpreter has none, those of another one are borrowed, together with its
``test.support`` (an older one lacks names that a newer suite needs): a folder on ``PYTHONPATH``,
which daemons see too, holds a package ``test`` whose path is the lender's. Nothing is copied.
"""

import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

SUITE = "test_concurrent_futures"
OWN_TESTS = Path(sysconfig.get_path("stdlib")) / "test"
HERE = Path(__file__).parent

WHERE_TO_LOOK = (
    "Install a CPython that has its test package, Debian's libpython3.13-testsuite for instance, "
    "or name a folder Lib/test in MIRAI_CPYTHON_TESTS."
)


def find() -> Path | None:
    """Return the folder ``Lib/test`` that has the suite, the interpreter's own if possible."""
    for folder in candidates():
        if (folder / SUITE).is_dir() or (folder / f"{SUITE}.py").is_file():
            return folder
    return None


def candidates() -> Iterator[Path]:
    named = os.environ.get("MIRAI_CPYTHON_TESTS")
    if named:
        yield Path(named)
    yield OWN_TESTS
    roots = [*(Path.home() / ".pyenv" / "versions").glob("3.*"), Path("/usr/local"), Path("/usr")]
    siblings = [test for root in roots for test in root.glob("lib/python3.*/test")]
    yield from sorted(siblings, key=unlikeness)


def unlikeness(tests: Path) -> tuple[int, int]:
    """Order the same minor version first, then newer ones, then older ones."""
    found = re.fullmatch(r"python3\.(\d+)t?", tests.parent.name)
    minor = int(found[1]) if found else 0
    own = sys.version_info.minor
    return (0 if minor == own else 1 if minor > own else 2, abs(minor - own))


def is_split(tests: Path) -> bool:
    """Say whether the suite is today's package; up to 3.11 it was one file with fewer tests."""
    return (tests / SUITE).is_dir()


def environment(tests: Path, shim: Path) -> dict[str, str]:
    """Return an environment whose interpreters find the suite; ``shim`` is filled if needed."""
    paths = [str(HERE)]
    if tests != OWN_TESTS:
        package = shim / "test"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(f"__path__ = [{str(tests)!r}]\n")
        paths.append(str(shim))
    inherited = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([*paths, *filter(None, [inherited])])}
