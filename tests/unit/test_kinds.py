"""Which tasks are expected to take equally long."""

from functools import partial

import pytest

from mirai_executor._host import kind_of
from mirai_executor._maps._map import run_items


@pytest.mark.parametrize(
    ("length", "is_alike"), [(32, True), (63, True), (31, False), (64, False)]
)
def test_chunks_of_about_the_same_length_are_of_one_kind(length: int, is_alike: bool) -> None:
    kind = kind_of(run_items, (abs, [0] * 48))
    assert (kind_of(run_items, (abs, [0] * length)) == kind) is is_alike
    assert (kind_of(partial(run_items, abs), ([0] * length,)) == kind) is is_alike


def test_chunks_of_other_functions_are_of_other_kinds() -> None:
    kinds = [kind_of(run_items, (fn, [0] * 48)) for fn in (abs, len)]
    assert len({*kinds, kind_of(abs, ()), kind_of(run_items, ())}) == 4
