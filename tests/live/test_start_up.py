"""What hosts, daemons and keepers import before a first result, and what stays out of it."""

import json
import os
import subprocess
import sys

import pytest

from mirai_executor import MiraiExecutor

pytestmark = [pytest.mark.live, pytest.mark.local_link("is about daemons that are forked here")]

# Each of these brings others, or takes a millisecond by itself: nothing on this path needs them.
NOT_AT_A_HOST = {
    "ast",
    "cloudpickle",
    "cryptography",
    "ctypes",
    "dataclasses",
    "dis",
    "hashlib",
    "importlib.metadata",
    "inspect",
    "ipaddress",
    "json",
    "pathlib",
    "pynng",
    "ssl",
    "urllib.parse",
}
if sys.version_info >= (3, 15):
    NOT_AT_A_HOST.remove("ast")  # the typing of 3.15 imports it, for annotations that are text
NOT_AT_A_DAEMON = NOT_AT_A_HOST | {
    "concurrent.futures",
    "locale",
    "logging",
    "multiprocessing",
    "pickle",
    "random",
    "re",
    "selectors",
    "shutil",
    "socket",
    "subprocess",
    "tempfile",
    "traceback",
    "typing",
}
# A keeper pickles nothing, and shares no memory with its daemon.
NOT_AT_A_KEEPER = {"cloudpickle", "cryptography", "pynng"}
NO_ROOMS_OF_A_KEEPER = ("_arena", "_host", "_payload", "executor", "futures")
# Beyond those of ProcessPoolExecutor, and of a bare interpreter: what was measured, and a few.
# (A daemon: 60 from a source tree; 65 to 67 installed, with those of `.pth` files and newer
# versions of Python.)
MOST_AT_A_HOST = 75
MOST_AT_A_DAEMON = 70
MOST_OF_OURS = 76  # at a host and its daemon together
MOST_OF_OURS_AT_A_KEEPER = 58  # the standard library's are others from version to version

# What is imported when Python starts in one environment, and not in another.
OF_SITE = "import __future__, importlib, sys"

PROGRAM = f"""
{OF_SITE}
bare = set(sys.modules)
import concurrent.futures.process
theirs = set(sys.modules)
from mirai_executor import MiraiExecutor
if __name__ == "__main__":
    with MiraiExecutor(2) as executor:
        assert executor.submit(abs, -1).result() == 1
        ours = set(sys.modules)
        source = "sorted(__import__('sys').modules)"
        daemons = set(executor.submit(eval, source).result())
    import json
    print(json.dumps([sorted(ours - theirs), sorted(daemons - bare)]))
"""

KEEPER = """
import sys
from mirai_executor.cli import main
main(["daemon", sys.argv[1], "--no-output"])
print(*sys.modules)
"""


@pytest.fixture(scope="module")
def modules() -> tuple[set[str], set[str]]:
    """What a host has beyond the peer's, and a daemon beyond a bare interpreter.

    The peer's has more from version to version: with 3.14, dataclasses and inspect.
    """
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    host, daemon = json.loads(run.stdout)
    return set(host), set(daemon)


def test_a_host_imports_nothing_that_its_first_local_task_does_not_need(
    modules: tuple[set[str], set[str]],
) -> None:
    host, _ = modules
    assert host & NOT_AT_A_HOST == set()
    assert len(host) <= MOST_AT_A_HOST


def test_a_daemon_imports_nothing_that_its_first_task_does_not_need(
    modules: tuple[set[str], set[str]],
) -> None:
    _, daemon = modules
    assert daemon & NOT_AT_A_DAEMON == set()
    assert len(daemon) <= MOST_AT_A_DAEMON


def test_a_host_and_its_daemon_import_few_of_our_modules(
    modules: tuple[set[str], set[str]],
) -> None:
    ours = {name for name in set.union(*modules) if name.startswith("mirai_executor")}
    assert len(ours) <= MOST_OF_OURS


def test_a_keeper_imports_nothing_of_the_host_and_nothing_that_pickles() -> None:
    with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
        assert executor._launching is not None
        credentials = executor._launching.listening.credentials.environment
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, executor.urls[0]],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | credentials,
        )
        with keeper:
            assert executor.submit(abs, -1).result(timeout=60) == 1
            executor.shutdown()
            imported = set(keeper.communicate(timeout=60)[0].split())
    assert imported & NOT_AT_A_KEEPER == set()
    ours = {name for name in imported if name.startswith("mirai_executor")}
    assert "mirai_executor.keeper" in ours
    assert {name.split(".")[1] for name in ours if "." in name}.isdisjoint(NO_ROOMS_OF_A_KEEPER)
    assert len(ours) <= MOST_OF_OURS_AT_A_KEEPER


def test_a_daemon_collects_garbage_but_never_looks_for_it_in_what_it_has_imported() -> None:
    with MiraiExecutor(2) as executor:
        executor.wait_ready()
        found = executor.everywhere("import gc; gc.isenabled(), gc.get_freeze_count() > 1_000")
        assert [share.result() for share in found] == [(True, True)] * 2


def test_to_import_the_executor_adds_little_to_what_the_standard_one_imports() -> None:
    program = (
        f"{OF_SITE}; import concurrent.futures.process; theirs = set(sys.modules);"
        "from mirai_executor import MiraiExecutor;"
        "print(*(name for name in sys.modules if name not in theirs))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    added = set(run.stdout.split())
    assert added & NOT_AT_A_HOST == set()
    assert len(added) <= 40


def test_nothing_that_travels_brings_the_hosts_half_of_payloads_to_a_daemon() -> None:
    program = """
import multiprocessing, sys
from mirai_executor import MiraiExecutor

class Local: pass
def begin(lock): global held; held = lock
def local(): return Local()
def fail(): raise ValueError("on purpose")
def loaded():
    return [name for name in sys.modules if name.startswith("mirai_executor._payload.")]

if __name__ == "__main__":
    lock = multiprocessing.get_context("spawn").Lock()
    with MiraiExecutor(1, initializer=begin, initargs=(lock,)) as executor:
        executor.everywhere(local)
        executor.everywhere("limit = 1")
        assert executor.submit_source("limit + 1").result() == 2
        assert type(executor.submit(local).result()) is Local
        assert type(executor.submit(fail).exception()) is ValueError
        for chunk in 1, 3:
            assert list(executor.map(lambda n: n + 1, range(4), chunksize=chunk)) == [1, 2, 3, 4]
        assert executor.submit_source("held.acquire()").result() is True
        there = executor.submit(loaded).result()
    here = loaded()
    print("mirai_executor._payload.daemon" in there, "mirai_executor._payload.host" in there)
    print("mirai_executor._payload.daemon" in here, "mirai_executor._payload.host" in here)
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("True False\nFalse True\n", "")


def test_the_interpreter_of_the_first_daemon_ends_with_a_host_that_never_asks_for_it() -> None:
    program = """
import os
from mirai_executor import MiraiExecutor
executor = MiraiExecutor(1)
future = executor.submit(print, open(os.devnull))  # which cannot be pickled
assert future.exception() is not None
executor.shutdown()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("nobody is left")
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "nobody is left\n"


COMPILES_NOTHING = """
import builtins
def refuse(source, filename, *args, **kwargs):
    assert filename.endswith(".py"), source  # a module without bytecode
    return original(source, filename, *args, **kwargs)
original, builtins.compile = builtins.compile, refuse
"""


@pytest.mark.parametrize(
    "program",
    [
        "from mirai_executor import MiraiExecutor\n"
        "with MiraiExecutor(2) as executor: print(executor.submit(abs, -1).result())",
        "from mirai_executor.daemon import serve\nserve(lambda: print(1) or sys.exit())",
    ],
    ids=["host", "daemon"],
)
def test_nothing_is_compiled_before_the_first_result(program: str) -> None:
    program = f"import sys\n{COMPILES_NOTHING}\n{program}"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert (run.stdout, run.stderr) == ("1\n", "")
