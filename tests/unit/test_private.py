"""Private names of others: each is listed, and the message for each that is gone is of use."""

import ast
import concurrent.futures.process
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from mirai_executor import _private
from mirai_executor._local import LocalLauncher
from mirai_executor._payload.daemon import encode_error
from mirai_executor._payload.host import decode_error
from mirai_executor._version import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mirai_executor"
NEEDED = [
    (room, needed.owner, name)
    for room, all_needed in _private.NEEDED.items()
    for needed in all_needed
    for name in needed.names
]
LISTED = [*(needed for room in _private.NEEDED.values() for needed in room), *_private.OPTIONAL]
# Private by their spelling alone: documented, or made to be used by others.
PROMISED = {"os._exit", "sys._current_frames", "sys._getframe", "sys._is_gil_enabled"}

IMPORTS = """
import importlib, sys
import concurrent.futures, cloudpickle.cloudpickle
room, owner, name = sys.argv[1:]
delattr(importlib.import_module(owner), name)
try:
    importlib.import_module(f"mirai_executor.{room}")
except ImportError as error:
    print(error)
"""


class Without:
    """An object that lacks one name of another one, which does not let itself be changed."""

    def __init__(self, whole: object, name: str) -> None:
        self._whole = whole
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._whole, name)


def take_away(monkeypatch: pytest.MonkeyPatch, owner: str, name: str) -> None:
    *folders, last = owner.removesuffix("()").split(".")
    whole: Any = importlib.import_module(".".join(folders)) if folders else None
    found: Any = getattr(whole, last) if folders else importlib.import_module(last)
    if owner.endswith("()"):
        monkeypatch.setattr(whole, last, lambda: Without(found(), name))
    elif owner == "pynng.lib":
        monkeypatch.setattr(whole, last, Without(found, name))
    else:
        monkeypatch.delattr(found, name)


@pytest.mark.parametrize(("room", "owner", "name"), NEEDED)
def test_a_missing_name_is_told_with_what_to_install(
    room: str, owner: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if owner.startswith("pynng"):
        pytest.importorskip("pynng.nng", reason="there is no wheel for this Python")
    # A room checks what it has imported.
    importlib.import_module(f"mirai_executor.{room}")
    _private.check(room)
    take_away(monkeypatch, owner, name)
    with pytest.raises(ImportError) as caught:
        _private.check(room)
    package = owner.partition(".")[0]
    version = _private.TESTED.get(package)
    advice = f"{package}=={version}" if version else f"Python {_private.PYTHONS}"
    assert f"mirai_executor {__version__} uses {owner}.{name}, which " in str(caught.value)
    assert f"install {advice}" in str(caught.value)


@pytest.mark.parametrize(
    ("room", "owner", "name"),
    [
        ("futures", "concurrent.futures._base", "LOGGER"),
        ("_payload.common.hooks", "cloudpickle.cloudpickle", "_make_typevar"),
        ("_transport._nng", "pynng.nng", "_pynng_atexit"),
    ],
)
def test_a_room_looks_for_its_names_when_it_is_imported(room: str, owner: str, name: str) -> None:
    if owner.startswith("pynng"):
        pytest.importorskip("pynng", reason="there is no wheel for this Python")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, room, owner, name],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"mirai_executor {__version__} uses {owner}.{name}, which ")


def test_without_an_optional_name_there_is_another_way_and_a_warning() -> None:
    with pytest.warns(
        RuntimeWarning, match=r"uses subprocess\._gone.* Until then: we are slower\."
    ):
        assert _private.optional("subprocess", "_gone", list, "we are slower.") is list


def test_without_interpreter_flags_in_the_standard_library_daemons_get_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(subprocess, "_args_from_interpreter_flags")
    with pytest.warns(RuntimeWarning, match="without the options of this interpreter"):
        assert LocalLauncher().command([3])[:2] == (sys.executable, "-P")


def test_without_its_class_in_the_standard_library_a_daemons_traceback_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blob = encode_error(ValueError("on purpose"))
    monkeypatch.delattr(concurrent.futures.process, "_RemoteTraceback")
    with pytest.warns(RuntimeWarning, match="shown by a class"):
        error = decode_error(blob)
    assert "on purpose" in str(error.__cause__)


def test_the_versions_to_install_are_those_that_the_tests_run_with() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {line.split(" ;")[0] for line in lines if "==" in line}
    assert {f"{name}=={version}" for name, version in _private.TESTED.items()} <= locked


def test_the_pythons_to_install_are_those_that_the_package_is_tested_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    minors = [line.rpartition(" :: ")[2] for line in project["classifiers"] if ":: 3." in line]
    assert f"{minors[0]} to {minors[-1]}" == _private.PYTHONS
    assert project["requires-python"] == f">={minors[0]}"


def test_each_package_with_private_names_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounded = {
        one.name
        for one in map(Requirement, project["dependencies"])
        if any(specifier.operator == "<" for specifier in one.specifier)
    }
    assert bounded == set(_private.TESTED)


@pytest.mark.parametrize("listed", LISTED, ids=lambda listed: listed.owner)
def test_the_tests_that_guard_a_name_exist(listed: _private.PrivateNames) -> None:
    assert (ROOT / listed.guard).is_file()


# Is it listed?


def test_every_private_name_that_the_package_takes_from_others_is_listed() -> None:
    owners = {listed.owner.removesuffix("()") for listed in LISTED}
    listed = owners | {
        f"{listed.owner.removesuffix('()')}.{name}" for listed in LISTED for name in listed.names
    }
    found = {name for file in PACKAGE.rglob("*.py") for name in foreign_names(file)}
    assert found - listed - PROMISED == set()
    assert {"threading._register_atexit", "pynng.lib.nng_aio_alloc"} <= listed & found


def foreign_names(file: Path) -> Iterator[str]:
    """Yield the private names of other packages that a file imports or looks up in a module."""
    tree = ast.parse(file.read_text())
    yield from (name for _, name in imported_names(tree) if is_private(name))
    names = dict(imported_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            whole = dotted(node, names)
            if whole is not None and is_private(whole):
                yield whole
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional":
            words = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            yield ".".join(map(str, words))


def imported_names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield by which name a file knows something of another package, and what that is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def dotted(node: ast.expr, names: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def is_private(name: str) -> bool:
    """Tell whether a name of another package is not promised, or belongs to such a module."""
    owner, _, last = name.rpartition(".")
    if name.startswith("mirai_executor") or last.startswith("__") or not owner:
        return False
    # _thread is documented; of other such modules, the standard library's public ones are made.
    of_private = owner.startswith("_") and owner not in {"_thread", "__future__"}
    return last.startswith("_") or of_private or owner in {"concurrent.futures._base", "pynng.lib"}
