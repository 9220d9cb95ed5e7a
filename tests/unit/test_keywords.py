"""The keywords of the executor and of ``daemons()``, for type checkers, help() and at the call."""

import ast
import inspect
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mirai_executor import MiraiExecutor, daemons, daemons_set
from mirai_executor._host import ExecutorOptions, _settings
from mirai_executor.executor import PARAMETERS

OF_THE_STANDARD_LIBRARY = ["max_workers", "mp_context", "initializer", "initargs"]
CHILDREN = "max_tasks_per_child"


def written(*names: str) -> dict[str, str]:
    """Return the annotations of classes as they are written; some are there for checkers alone."""
    tree = ast.parse(Path(_settings.__file__).read_text("utf-8"))
    return {
        ast.unparse(field.target): ast.unparse(field.annotation)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name in names
        for field in node.body
        if isinstance(field, ast.AnnAssign)
    }


def test_type_checkers_know_the_keywords_of_the_executor_and_their_types() -> None:
    assert written("ExecutorOptions") == written("SharedKeywords", "ExecutorKeywords")
    assert tuple(written("ExecutorOptions")) == ExecutorOptions._fields


def test_daemons_takes_all_but_what_it_names_itself_and_type_checkers_know() -> None:
    taken = written("SharedKeywords", "DaemonsKeywords").keys()
    assert taken == set(PARAMETERS) - {"max_workers", "url", "remote"}
    assert not taken & inspect.signature(daemons).parameters.keys()


def test_the_signature_shows_every_parameter_with_its_default_and_its_type() -> None:
    parameters = inspect.signature(MiraiExecutor).parameters
    keywords = [CHILDREN, *ExecutorOptions._fields]
    assert list(parameters) == [*OF_THE_STANDARD_LIBRARY, *keywords] == list(PARAMETERS)
    kinds = {it.kind for name, it in parameters.items() if name in keywords}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    defaults = ExecutorOptions()
    for name in ExecutorOptions._fields:
        assert parameters[name].default == getattr(defaults, name)
    shown = {it.name: str(it) for it in parameters.values()}
    assert shown["start_timeout"] == "start_timeout: float = 60.0"
    assert shown["ordering"] == "ordering: Literal['bounded', 'strict'] = 'bounded'"
    assert parameters["tls_cert"].annotation == str | Path | None
    assert not any(isinstance(it.annotation, str) for it in parameters.values())


class WithoutOwn(MiraiExecutor):
    pass


class WithOwn(MiraiExecutor):
    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(size, cleanup=True, **options)


class WithNew(MiraiExecutor):
    def __new__(cls, size: int) -> "WithNew":
        return super().__new__(cls)


def test_a_subclass_shows_its_own_signature_where_it_has_one() -> None:
    def of(cls: Callable[..., object]) -> list[str]:
        return list(inspect.signature(cls).parameters)

    assert of(WithoutOwn) == list(PARAMETERS)
    assert of(WithOwn) == ["size", "options"]
    assert of(WithNew) == ["size"]
    assert of(partial(MiraiExecutor, 2, seed=1)) == list(PARAMETERS)[1:]


def test_an_instance_has_no_signature() -> None:
    with MiraiExecutor(1, mode="inline") as executor:
        assert not hasattr(executor, "__signature__")


def test_a_subclass_hands_its_keywords_on() -> None:
    with WithOwn(1, mode="inline", name="own") as executor:
        assert executor.submit(abs, -1).result() == 1
        assert "'own'" in repr(executor)
    with pytest.raises(TypeError, match="unknown option 'nmae'"):
        WithOwn(1, nmae="own")


def test_it_takes_by_position_what_process_pool_executor_does() -> None:
    theirs = list(inspect.signature(ProcessPoolExecutor).parameters.values())
    positional = [it.name for it in theirs if it.kind is it.POSITIONAL_OR_KEYWORD]
    assert positional == OF_THE_STANDARD_LIBRARY
    with MiraiExecutor(1, None, str.upper, ("a",), mode="inline") as executor:
        assert executor.submit(abs, -1).result() == 1
    with pytest.raises(TypeError, match="positional"):
        MiraiExecutor(1, None, None, (), 5)  # type: ignore[call-arg]  # that is asked


def test_a_wrong_keyword_is_reported_before_a_wrong_value() -> None:
    with pytest.raises(TypeError) as raised:
        MiraiExecutor(-1, idle_tim=3)  # type: ignore[call-arg]  # that is asked
    listed = ", ".join(PARAMETERS)
    assert str(raised.value) == f"unknown option 'idle_tim'; valid options: {listed}"


@pytest.mark.parametrize("n", [0, 1])
def test_a_wrong_option_names_itself_and_lists_those_that_there_are(n: int) -> None:
    with pytest.raises(TypeError, match=r"'idle_tim'.*\bcompute\b.*\bidle_time\b.*\bmemory\b"):
        daemons(n, idle_tim=3)  # type: ignore[call-arg]  # that is asked
    assert not daemons_set()
