"""What ``import mirai_executor`` tells when a part of it cannot be imported."""

import ast
import graphlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import mirai_executor

# Each takes parts of this Python away, as a portable build, an old kernel's or another system's.
WITHOUT = {
    "memfd": """
for name in [name for name in dir(os) if name.startswith(("MFD_", "memfd_"))]:
    delattr(os, name)
""",
    "pidfd": "del os.pidfd_open, os.P_PIDFD, signal.pidfd_send_signal",
    "seals": """
for name in [name for name in dir(fcntl) if name.startswith(("F_SEAL_", "F_ADD_S", "F_GET_S"))]:
    delattr(fcntl, name)
""",
    "signals of descriptors": "del fcntl.F_SETSIG, fcntl.F_SETOWN, os.O_ASYNC, fcntl.F_SETPIPE_SZ",
    "scheduling": """
for name in [name for name in dir(os) if name.startswith(("sched_", "SCHED_"))]:
    delattr(os, name)
""",
    "epoll": "del selectors.EpollSelector; selectors.DefaultSelector = selectors.PollSelector",
}
EVERYTHING = r"""
import importlib, pkgutil, re, sys
for module in pkgutil.walk_packages(mirai_executor.__path__, "mirai_executor."):
    # Those of other libraries are imported by those who have them.
    if not re.search(r"\.__main__$|\._tracing$|integrations\.", module.name):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "pynng" or sys.version_info < (3, 15):  # which has no wheel of it
                raise
for name in mirai_executor.__all__:
    getattr(mirai_executor, name)
print("imported")
"""
# Its fifth line raises while a room is being imported.
BROKEN = """import sys
class Finder:
    def find_spec(name, *_):
        if name == "mirai_executor.executor":
            sys.no_such_thing
sys.meta_path.insert(0, Finder)
"""
# What another system's Python lacks, once what needs its own parts is there.
WINDOWS = """
import concurrent.futures.process, sys
sys.platform = "win32"
sys.modules["fcntl"] = None
"""


def run(code: str) -> str:
    """Run some code in a fresh interpreter; return what it said, errors included."""
    command = [sys.executable, "-W", "error", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    return ended.stdout + ended.stderr


@pytest.mark.parametrize("missing", WITHOUT)
def test_everything_is_imported_on_a_python_without(missing: str) -> None:
    taken = f"import fcntl, os, selectors, signal\n{WITHOUT[missing]}"
    assert run(f"{taken}\nimport mirai_executor\n{EVERYTHING}") == "imported\n"


@pytest.mark.parametrize(
    "use",
    [
        "from mirai_executor import MiraiExecutor",
        "import mirai_executor; mirai_executor.MiraiExecutor",
        "import mirai_executor; hasattr(mirai_executor, 'MiraiExecutor')",
    ],
)
def test_an_attribute_error_inside_of_a_room_is_told_with_its_line(use: str) -> None:
    said = run(f"{BROKEN}\n{use}")
    assert ", line 5, in find_spec" in said
    assert "AttributeError: module 'sys' has no attribute 'no_such_thing'" in said
    assert said.rstrip().splitlines()[-1] == (
        "ImportError: cannot import name 'MiraiExecutor' from 'mirai_executor': "
        "module 'sys' has no attribute 'no_such_thing'"
    )


def test_what_does_not_exist_is_no_attribute() -> None:
    said = run(
        "import mirai_executor\n"
        "print(hasattr(mirai_executor, 'nonsense'), 'MiraiExecutor' in dir(mirai_executor))\n"
        "from mirai_executor import nonsense"
    )
    assert said.startswith("False True\n")
    assert "ImportError: cannot import name 'nonsense' from 'mirai_executor' (/" in said
    assert "AttributeError" not in said


def test_a_name_that_does_not_exist_is_an_error_to_type_checkers_too() -> None:
    with pytest.raises(ImportError):
        from mirai_executor import nonsense  # type: ignore[attr-defined] # noqa: F401 - mypy looks
    with pytest.raises(ImportError):
        from mirai_executor.errors import nothing  # type: ignore[attr-defined] # noqa: F401


@pytest.mark.parametrize(
    "use",
    [
        "from mirai_executor import MiraiExecutor",
        "import mirai_executor; mirai_executor.MiraiExecutor",
        "from mirai_executor import daemons",
    ],
)
def test_on_windows_the_user_reads_what_to_do(use: str) -> None:
    said = run(f"{WINDOWS}\n{use}")
    assert said.rstrip().endswith(
        "ImportError: mirai_executor runs on Linux and macOS; on Windows, use WSL"
    )


def test_on_windows_the_errors_can_be_named() -> None:
    said = run(f"{WINDOWS}\nfrom mirai_executor import MiraiError, on_daemon\nprint(on_daemon())")
    assert said == "False\n"


ROOT = Path(mirai_executor.__file__).parent


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in ROOT.rglob("*.py")}


def imports(nodes: Iterable[ast.AST], package: str) -> Iterator[str]:
    """Yield what is imported while a program runs, now or in a function: types are not."""
    for node in nodes:
        match node:
            case ast.ImportFrom(names=names):
                of = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                inside = (f"{of}.{name.name}" for name in names)
                yield from (each if each in FILES else of for each in inside)
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.If(test=ast.Name("TYPE_CHECKING"), orelse=orelse):
                yield from imports(orelse, package)
            case _:
                yield from imports(ast.iter_child_nodes(node), package)


def test_no_files_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for name, file in FILES.items():
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        found = imports([ast.parse(file.read_text("utf-8"))], package)
        graph[name] = {other for other in found if other in FILES and other != name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))
