"""Runs CPython's own executor tests against ``MiraiExecutor``, each in a process of its own."""

import functools
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import elsewhere
from contract.cpython import lender
from contract.cpython.left_out import LATER, LEFT_OUT, LEFT_OUT_ELSEWHERE

SECONDS_FOR_ONE_TEST = 50.0
SECONDS_TO_SHOW_ITS_THREADS = 5.0
SKIPPED = 77
RUN = "import sys, cpython_suite; sys.exit(cpython_suite.main(sys.argv[1:]))"
# Borrowed files need a folder that outlives collection; it is removed when this process ends.
SHIM = tempfile.TemporaryDirectory(prefix="mirai-cpython-tests-")


def why_not() -> str | None:
    """Say why the suite cannot run here, or return None."""
    if importlib.util.find_spec("mirai_executor.executor") is None:
        return "MiraiExecutor does not exist yet"
    if lender.find() is None:
        return f"no interpreter here has test.{lender.SUITE}. {lender.WHERE_TO_LOOK}"
    return None


def run_suite(tests: Path, *arguments: str) -> tuple[int, str]:
    """Run the suite's process and return its exit code and output; a hang ends in a failure."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        env=lender.environment(tests, Path(SHIM.name)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            output, _ = process.communicate(timeout=SECONDS_FOR_ONE_TEST)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            output += f"\nkilled after {SECONDS_FOR_ONE_TEST} s"
    return process.returncode, output


@functools.cache
def names() -> tuple[str, ...]:
    """Return the name of every test that the suite has, those left out included."""
    tests = lender.find()
    if why_not() is not None or tests is None:
        return ()
    code, output = run_suite(tests)
    if code != 0:
        raise RuntimeError(f"the suite of {tests} cannot be imported:\n{output}")
    return tuple(output.split())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        left_out = LEFT_OUT | LATER
        metafunc.parametrize("name", [name for name in names() if name not in left_out])


def test_the_suite_of_cpython_is_there() -> None:
    reason = why_not()
    if reason is not None and not os.environ.get("CI"):
        pytest.skip(reason)
    assert reason is None


def test_every_test_that_is_left_out_exists() -> None:
    tests = lender.find()
    if not names() or tests is None or not lender.is_split(tests):
        pytest.skip(why_not() or "the single file of 3.11 lacks some of the tests")
    assert [name for name in LEFT_OUT if name not in names()] == []


def test_cpython(name: str) -> None:
    if elsewhere.is_chosen() and name in LEFT_OUT_ELSEWHERE:
        pytest.skip(LEFT_OUT_ELSEWHERE[name])
    tests = lender.find()
    assert tests is not None
    seconds = SECONDS_FOR_ONE_TEST - SECONDS_TO_SHOW_ITS_THREADS
    code, output = run_suite(tests, name, str(seconds))
    if code == SKIPPED:
        pytest.skip(output.splitlines()[-1])
    assert code == 0, output
