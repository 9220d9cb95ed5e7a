"""Records: what dataclasses do, as far as this package needs it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from mirai_executor._typing import Mutable, Record, made_by


class Place(Record):
    x: int
    y: int = 0


class Named(Place):
    name: str = ""


class Other(Record):
    x: int
    y: int = 0


class Basket(Mutable):
    things: list[int] = made_by(factory=list)


class Positive(Record):
    number: int

    def __post_init__(self) -> None:
        if self.number <= 0:
            raise ValueError("not positive")


def test_fields_are_set_by_place_by_name_and_by_default() -> None:
    for _ in range(5):  # the first instances are made in another way
        assert (Place(1).x, Place(1).y, Place(1, y=2).y, Place(y=3, x=1).y) == (1, 0, 2, 3)
        assert (Named(1, 2, "a").x, Named(1, name="b").name, Named(1).y) == (1, "b", 0)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1})])
def test_fields_that_are_missing_or_unknown_are_type_errors(
    args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    for _ in range(20):  # the first instances are made in another way
        with pytest.raises(TypeError):
            Place(*args, **kwargs)


def test_records_of_one_class_are_equal_by_value_and_those_of_two_never() -> None:
    assert Place(1, 2) == Place(1, 2) != Place(1, 3)
    assert hash(Place(1, 2)) == hash(Place(1, 2))
    assert Place(1) != Other(1)
    assert Place(1) != Named(1)


def test_what_is_mutable_equals_only_itself_and_its_factories_make_one_for_each() -> None:
    for _ in range(5):
        one, two = Basket(), Basket(None)  # type: ignore[arg-type]  # which counts as not given
        one.things.append(1)
        assert (one.things, two.things) == ([1], [])
        assert one == one != two
        assert len({one, two}) == 2


def test_a_record_says_what_it_holds_and_is_matched_by_place() -> None:
    assert repr(Named(1, name="a")) == "Named(x=1, y=0, name='a')"
    match Place(1, 2):
        case Place(x, y):
            assert (x, y) == (1, 2)


def test_a_record_has_no_room_for_what_is_no_field() -> None:
    with pytest.raises(AttributeError):
        Place(1).z = 2  # type: ignore[attr-defined]  # that is asked


def test_a_changed_record_is_another_one_with_the_other_fields_kept() -> None:
    place = Place(1, 2)
    assert (place.changed(y=5), place) == (Place(1, 5), Place(1, 2))
    with pytest.raises(TypeError):
        place.changed(z=1)


def test_a_record_is_looked_at_once_all_fields_are_set() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="not positive"):
            Positive(0)


def test_records_survive_pickle_and_copy() -> None:
    assert pickle.loads(pickle.dumps(Named(1, name="a"))) == Named(1, name="a")
    assert copy.copy(Place(1)) == Place(1)


def test_to_make_records_imports_nothing() -> None:
    program = (
        "import sys; before = set(sys.modules); import mirai_executor._typing;"
        "print(sorted(name for name in set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "dataclasses" not in run.stdout
    assert "inspect" not in run.stdout
