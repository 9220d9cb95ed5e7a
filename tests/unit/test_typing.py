"""What stands in for ``typing`` where its import would take too long."""

import copy
import pickle
from typing import Any

import pytest

from mirai_executor._typing import NamedTuple


class Spot(NamedTuple):
    x: int
    y: int = 0

    @property
    def total(self) -> int:
        return self.x + self.y


class Known(Spot):
    where: object


def test_a_named_tuple_is_one_and_takes_its_fields_by_place_by_name_and_by_default() -> None:
    assert (Spot(1), Spot(1, y=2), Spot(y=3, x=1)) == ((1, 0), (1, 2), (1, 3))
    x, y = Spot(4, 5)
    assert (x, y, Spot(4, 5).y, Spot(4, 5).total, len(Spot(1))) == (4, 5, 5, 9, 2)


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1})])
def test_what_is_missing_or_unknown_is_a_type_error(
    args: tuple[int, ...], kwargs: dict[str, int]
) -> None:
    for _ in range(2):  # the first one is made in another way
        with pytest.raises(TypeError):
            Spot(*args, **kwargs)


def test_it_says_what_it_holds_and_can_be_replaced_in_part() -> None:
    assert repr(Spot(1, 2)) == "Spot(x=1, y=2)"
    changed = Spot(1, 2)._replace(y=5)
    assert (type(changed), changed) == (Spot, (1, 5))
    with pytest.raises(ValueError, match="unexpected"):
        Spot(1)._replace(z=1)  # type: ignore[call-arg]  # that is asked
    assert Spot(1)._asdict() == {"x": 1, "y": 0}
    assert Spot._fields == ("x", "y")


def test_it_is_matched_by_place() -> None:
    match Spot(1, 2):
        case Spot(x, y):
            assert (x, y) == (1, 2)


def test_it_cannot_be_changed_nor_be_given_more() -> None:
    spot: Any = Spot(1)
    with pytest.raises(AttributeError):
        spot.x = 2
    with pytest.raises(AttributeError):
        spot.z = 2


def test_it_survives_pickle_and_copy() -> None:
    for made in (pickle.loads(pickle.dumps(Spot(1, 2))), copy.copy(Spot(1, 2))):
        assert (type(made), made) == (Spot, (1, 2))


def test_a_class_derived_from_it_can_hold_more() -> None:
    known = Known(1, 2)
    known.where = "here"
    assert (type(known), known, known.where) == (Known, (1, 2), "here")
    assert type(Spot(1)) is Spot
