"""A function by value keeps where each of its instructions was written."""

import inspect
import pickle
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import pytest

from mirai_executor._payload.common.pickler import dump
from mirai_executor._payload.host.table import CallPickler
from unit.test_payload_driver import run_host

# As a cell of a notebook is compiled: under a name that is the name of no file.
CELL = """
def plain(x, /, y=1, *args, z, **kw):
    try:
        return x / y
    except ZeroDivisionError:
        return [i for i in args]

def outer(n):
    def inner():
        return lambda: (n, __class__)
    return inner

def count(n):
    for i in range(n):
        yield i

async def aloud(things):
    async with things as those:
        return [await each async for each in those]

class Shape:
    def area(self):
        return self.width * self.height
    @property
    def height(self):
        return {k: v for k, v in vars(self).items()}
    @staticmethod
    def make():
        return (lambda: Shape())()
"""


def cell() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "cell"}
    exec(compile(CELL, "<cell 3>", "exec"), namespace)
    return namespace


def travel(obj: object) -> Any:
    return pickle.loads(dump(CallPickler, obj))


def within(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from within(constant)


def shown(code: CodeType) -> list[object]:
    names = [n for n in dir(code) if n.startswith("co_") and n != "co_lnotab"]  # deprecated
    values = [getattr(code, name) for name in names if not callable(getattr(code, name))]
    return [*values, list(code.co_lines()), list(code.co_positions())]


@pytest.mark.parametrize("name", ["plain", "outer", "count", "aloud"])
def test_code_arrives_with_its_file_and_the_place_of_each_instruction(name: str) -> None:
    function = cell()[name]
    arrived = travel(function).__code__
    codes = list(within(function.__code__))
    assert list(map(shown, within(arrived))) == list(map(shown, codes))
    assert {code.co_filename for code in within(arrived)} == {"<cell 3>"}
    assert arrived == function.__code__


@pytest.mark.parametrize("name", ["area", "height", "make"])
def test_the_methods_of_a_class_keep_their_file(name: str) -> None:
    def code(cls: Any) -> CodeType:
        found = inspect.getattr_static(cls, name)
        function: FunctionType = getattr(found, "fget", None) or getattr(found, "__func__", found)
        return function.__code__

    made = cell()["Shape"]
    assert shown(code(travel(made))) == shown(code(made))


def test_code_that_has_run_often_has_the_same_bytes_as_before() -> None:
    def compute(n: int) -> int:
        text = ""
        for i in range(n):
            text += str(i)
        return len(text)

    def bytes_of(code: Callable[..., object]) -> bytes:
        return dump(CallPickler, code)

    before = bytes_of(compute)
    compute(10_000)
    assert bytes_of(compute) == before


def test_a_host_prints_the_lines_of_a_cell_for_an_error_that_a_daemon_raised() -> None:
    script = r"""
import linecache, traceback
text = "def task(x):\n    return 1 / x  # the culprit\n"
linecache.cache["<cell 3>"] = (len(text), None, text.splitlines(True), "<cell 3>")
exec(compile(text, "<cell 3>", "exec"))
with Daemon() as d:
    print(''.join(traceback.format_tb(d.error(task, 0).__traceback__)[-1:]))
"""
    printed = run_host(script)
    assert 'File "<cell 3>", line 2, in task\n    return 1 / x  # the culprit' in printed


def test_a_daemons_traceback_shows_the_lines_of_a_script() -> None:
    script = """
def task(x):
    return 1 / x  # the culprit
with Daemon() as d:
    print(d.error(task, 0).__cause__)
    print(d.error(lambda: [][0]).__cause__)  # an empty one
"""
    printed = run_host(script)
    assert "return 1 / x  # the culprit" in printed
    assert "an empty one" in printed
