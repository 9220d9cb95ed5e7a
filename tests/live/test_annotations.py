"""Annotations of Python 3.14 travel as they were written, and only the user evaluates them."""

import sys
import textwrap

import pytest

from live.hosts import script

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="before Python 3.14, annotations are evaluated at once"
)

TASKS = """
import annotationlib

def noisy():
    say("evaluated")
    return int

def function(x: Missing, y: noisy() = 2) -> Missing:
    return x + y

class Annotated:
    Alias = int
    a: Missing
    b: Alias

    def method(self, x: Missing, y: Alias) -> Missing:
        return x + y

    def evaluated(self, x: Alias):
        pass

def look():
    text = annotationlib.Format.STRING
    return (
        annotationlib.get_annotations(function, format=text),
        annotationlib.get_annotations(Annotated, format=text),
        annotationlib.get_annotations(Annotated.method, format=text),
        annotationlib.get_annotations(Annotated.evaluated),
    )
"""


def test_a_name_that_only_type_checkers_import_is_asked_for_by_nobody() -> None:
    code = """
    with MiraiExecutor(1) as executor:
        for _ in range(3):
            futures = [executor.submit(function, 1), executor.submit(Annotated().method, 2, 3)]
            say(*(future.result() for future in futures))
        unpicklable = executor.submit(lambda: 0, sys.stdin).exception()
        say(type(unpicklable).__name__)
        function.stream = sys.stdin
        say(type(executor.submit(function, 1).exception()).__name__)
    """
    with script(TASKS + textwrap.dedent(code)) as host:
        assert [host.line() for _ in range(3)] == ["3 5"] * 3
        assert [host.line(), host.line()] == ["PayloadError"] * 2
        host.end()


def test_who_asks_at_a_daemon_reads_what_was_written() -> None:
    code = """
    with MiraiExecutor(1) as executor:
        there, here = executor.submit(look).result(), look()
        say(there == here)
        say(here)
    """
    with script(TASKS + textwrap.dedent(code)) as host:
        assert host.line() == "True"
        assert host.line() == str(
            (
                {"x": "Missing", "y": "noisy()", "return": "Missing"},
                {"a": "Missing", "b": "Alias"},
                {"x": "Missing", "y": "Alias", "return": "Missing"},
                {"x": int},
            )
        )
        host.end()
