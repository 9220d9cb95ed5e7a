"""What was seen of a class or function never outlives the moment when it stops being so."""

import collections
import datetime
import decimal
import fractions
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirai_executor._payload.common import fast_pickle

MODULE = """
class Thing:
    def __init__(self, value):
        self.value = value
    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)
    class Inner:
        pass

class Wrong(Exception):
    pass

def task(x):
    return x
"""
NAMES = ("Thing", "task", "Wrong")


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    for name in ("there", "another"):
        (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    __import__("another")
    yield __import__("there")
    for name in ("there", "another"):
        sys.modules.pop(name, None)


class World:
    """A module, and what may become of it, step by step."""

    def __init__(self, module: types.ModuleType) -> None:
        self.module = module
        self.objects = [vars(module)[name] for name in NAMES]
        self.parts = [(obj.__module__, obj.__qualname__) for obj in self.objects]
        self.file = module.__file__
        self.path = list(sys.path)
        self.values = [self.objects[0](1), *self.objects, [self.objects[0]([2])] * 2]
        self.values += [self.objects[0].Inner, self.objects[2]("wrong")]

    def rebind(self, name: str) -> None:
        setattr(self.module, name, types.new_class(name))

    def delete(self, name: str) -> None:
        vars(self.module).pop(name, None)

    def restore(self, name: str) -> None:
        setattr(self.module, name, self.objects[NAMES.index(name)])

    def move(self, name: str) -> None:
        vars(sys.modules["another"])[name] = self.objects[NAMES.index(name)]
        self.objects[NAMES.index(name)].__module__ = "another"

    def move_to_main(self, name: str) -> None:
        self.objects[NAMES.index(name)].__module__ = "__main__"

    def rename(self, name: str) -> None:
        self.objects[NAMES.index(name)].__qualname__ = f"Other.{name}"

    def forget(self, _: str) -> None:
        sys.modules.pop("there", None)

    def replace(self, _: str) -> None:
        sys.modules["there"] = types.ModuleType("there")

    def be_another_file(self, _: str) -> None:
        self.module.__file__ = "/nowhere/there.py"

    def lose_the_path(self, _: str) -> None:
        sys.path[:] = [entry for entry in self.path if "pytest" not in entry]

    def travel_by_value(self, _: str) -> None:
        if "there" in sys.modules:  # cloudpickle takes no other
            cloudpickle.register_pickle_by_value(self.module)

    def become_as_before(self, _: str) -> None:
        sys.modules["there"] = self.module
        self.module.__file__ = self.file
        for name, obj, (home, qualname) in zip(NAMES, self.objects, self.parts, strict=True):
            self.restore(name)
            obj.__module__, obj.__qualname__ = home, qualname
        sys.path[:] = self.path
        if "there" in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.unregister_pickle_by_value(self.module)


CHANGES: list[Callable[[World, str], None]] = [
    change for name, change in vars(World).items() if not name.startswith("__")
]
steps = st.lists(st.tuples(st.sampled_from(CHANGES), st.sampled_from(NAMES)), max_size=6)


OFTEN_SENT = [
    uuid.uuid4(),
    datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC),
    decimal.Decimal("0.1"),
    fractions.Fraction(1, 3),
    Path("there"),
    collections.OrderedDict(a=1),
]


@pytest.mark.parametrize("value", OFTEN_SENT, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("apart", [False, True])
def test_what_is_often_sent_needs_no_care(value: object, apart: bool) -> None:
    assert fast_pickle.dump_plainly(value, out_of_band=True, apart=apart) is not None


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_what_was_seen_decides_as_a_look_would(
    module: types.ModuleType, taken: list[tuple[Callable[[World, str], None], str]]
) -> None:
    world = World(module)
    try:
        for change, name in [(World.become_as_before, ""), *taken]:
            change(world, name)
            for value in world.values:
                assert fast_pickle.dump_plainly(value) == without_memory(value)
            for obj in world.objects:
                assert fast_pickle.is_imported(obj) == fast_pickle._look({}, obj)
    finally:
        world.become_as_before("")


def test_a_class_that_is_registered_with_multiprocessing_meanwhile_needs_care(
    module: types.ModuleType,
) -> None:
    assert fast_pickle.dump_plainly(module.Thing(1)) is not None
    ForkingPickler.register(module.Thing, lambda thing: (module.Thing, (thing.value,)))
    try:
        assert fast_pickle.dump_plainly(module.Thing(1)) is None
        assert fast_pickle.dump_plainly(module.Thing(1), apart=True) is None
    finally:
        del ForkingPickler._extra_reducers[module.Thing]  # type: ignore[attr-defined]
    assert fast_pickle.dump_plainly(module.Thing(1), apart=True) is not None


def without_memory(value: Any) -> Any:
    seen, fast_pickle._seen = fast_pickle._seen, fast_pickle._Seen()
    try:
        return fast_pickle.dump_plainly(value)
    finally:
        fast_pickle._seen = seen


def test_each_kind_of_value_is_one_that_the_changes_matter_to(module: types.ModuleType) -> None:
    world = World(module)
    before = [fast_pickle.dump_plainly(value) is not None for value in world.values]
    assert before == [True, True, True, True, True, False, False]
    world.delete("Thing")
    after = [fast_pickle.dump_plainly(value) is not None for value in world.values]
    assert after == [False, False, True, True, False, False, False]


def test_a_class_is_looked_at_once(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = World(module).values[0]
    assert fast_pickle.dump_plainly(value) is not None
    monkeypatch.setattr(fast_pickle, "_look", lambda *_: pytest.fail("it was looked at again"))
    assert fast_pickle.dump_plainly(value) is not None


def test_no_more_is_kept_than_a_bounded_number(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_pickle, "_seen", fast_pickle._Seen())
    monkeypatch.setattr(fast_pickle, "_MOST_SEEN", 2)
    for name in NAMES * 2:
        assert fast_pickle.is_imported(vars(module)[name])
        assert 0 < len(fast_pickle._seen.now()) <= 2
