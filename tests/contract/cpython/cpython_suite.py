"""Builds CPython's executor tests for ``MiraiExecutor`` and runs one of them by name.

The mixins come from ``test.test_concurrent_futures`` of the interpreter or of its lender. The
classes made here live in this module, which daemons import, so that bound class methods travel.

``main([])`` names every test, one to a line. ``main([test, seconds])`` runs one and returns 0 if
it passed, 1 if it failed, 77 if the suite itself skips it; so many seconds later it shows its
threads.
"""

import contextlib
import faulthandler
import importlib
import multiprocessing
import os
import unittest
from collections.abc import Iterator
from multiprocessing.context import SpawnContext
from typing import Any

from test import support
from test.support import script_helper

SUITE = importlib.import_module("test.test_concurrent_futures")
# Which module of the suite's package holds which mixin. In the single file of 3.11 all are in one.
MIXINS = {
    "ProcessPoolExecutorTest": "test_process_pool",
    "ProcessPoolShutdownTest": "test_shutdown",
    "WaitTests": "test_wait",
    "AsCompletedTests": "test_as_completed",
    "InitializerMixin": "test_init",
    "FailingInitializerMixin": "test_init",
    "ExecutorDeadlockTest": "test_deadlock",
}
# The self-check of this file: MIRAI_CPYTHON_EXECUTOR=concurrent.futures:ProcessPoolExecutor
EXECUTOR = os.environ.get("MIRAI_CPYTHON_EXECUTOR", "mirai_executor:MiraiExecutor")
SKIPPED = 77


def home_of(module: str) -> Any:
    """Return the module of the suite called ``module``, or its single file."""
    if hasattr(SUITE, "__path__"):
        return importlib.import_module(f"{SUITE.__name__}.{module}")
    return SUITE


def executor_type() -> Any:
    module, _, name = EXECUTOR.partition(":")
    return getattr(importlib.import_module(module), name)


WAITS = home_of("test_wait")
BETS_ON_SPEED = (WAITS.WaitTests, home_of("test_as_completed").AsCompletedTests)


class MiraiMixin(home_of("util").ExecutorMixin):  # type: ignore[misc]  # known only at run time
    """Stands where the suite has ThreadPoolMixin or ProcessPoolSpawnMixin."""

    executor_type = executor_type()

    def get_context(self) -> SpawnContext:
        # Not by ``ctx``: with it, test_hang_gh83386 is a NameError and initargs hold an mp.Queue.
        return multiprocessing.get_context("spawn")

    def create_event(self) -> Any:
        """Return an event that tasks can wait for; the suite asks for it since 3.14."""
        manager = self.get_context().Manager()
        self.addCleanup(manager.join)
        self.addCleanup(manager.shutdown)
        return manager.Event()

    def setUp(self) -> None:
        super().setUp()
        if isinstance(self, BETS_ON_SPEED) and hasattr(self.executor, "everywhere"):
            # Some compare what takes no time with a sleep of 1.5 s. Two daemons that start, and
            # import the suite, may take longer on a busy machine; that is not what they test.
            for daemon in self.executor.everywhere(importlib.import_module, WAITS.__name__):
                daemon.result()

    def tearDown(self) -> None:
        super().tearDown()
        assert not support.environment_altered, "a thread or child was left behind"

    @contextlib.contextmanager
    def _assert_logged(self, text: str) -> Iterator[None]:
        # The suite reads a record of the worker's logging; a daemon's log stays in the daemon.
        yield


def build(mixin: str, module: str) -> type[unittest.TestCase]:
    bases = (MiraiMixin, getattr(home_of(module), mixin), home_of("util").BaseTestCase)
    return type(mixin, bases, {"__module__": __name__, "TIMEOUT": support.SHORT_TIMEOUT})


def speak_of_us(assert_python_ok: Any) -> Any:
    """Let the suite's scripts import our executor from where it lives."""
    module, _, name = EXECUTOR.partition(":")

    def with_our_import(option: str, script: str, **variables: str) -> Any:
        script = script.replace(
            f"from concurrent.futures import {name}", f"from {module} import {name}"
        )
        return assert_python_ok(option, script, **variables)

    return with_our_import


# Without this the scripts run isolated (-I), where PYTHONPATH, hence a borrowed suite, is unknown.
script_helper.interpreter_requires_environment = lambda: True
home_of("test_shutdown").assert_python_ok = speak_of_us(script_helper.assert_python_ok)

CLASSES = {mixin: build(mixin, module) for mixin, module in MIXINS.items()}
globals().update(CLASSES)


def names() -> list[str]:
    loader = unittest.TestLoader()
    return [
        f"{name}.{test}"
        for name, class_ in CLASSES.items()
        for test in loader.getTestCaseNames(class_)
    ]


def run(name: str) -> int:
    class_, _, test = name.partition(".")
    result = unittest.TextTestRunner(verbosity=2).run(CLASSES[class_](test))
    for _, reason in result.skipped:
        print(reason)
    if not result.wasSuccessful():
        return 1
    return SKIPPED if result.skipped else 0


def main(arguments: list[str]) -> int:
    if not arguments:
        print("\n".join(names()))
        return 0
    name, seconds = arguments
    faulthandler.dump_traceback_later(float(seconds))
    code = run(name)
    faulthandler.cancel_dump_traceback_later()
    return code
