"""``with_options(post_mortem=True)``: what a daemon's variables held comes back with an error."""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest

from live.mischief import SOON, running


def ratio(values: list[int]) -> float:
    total = sum(values)
    return total / len(values)


class Holder:
    def __init__(self) -> None:
        self.values: list[int] = []

    def ratio(self) -> float:
        return ratio(self.values)


WAYS: dict[str, Callable[[Executor], Any]] = {
    "submit": lambda executor: executor.submit(ratio, []).result(SOON),
    "lambda": lambda executor: executor.submit(lambda: ratio([])).result(SOON),
    "method": lambda executor: executor.submit(Holder().ratio).result(SOON),
    "map": lambda executor: list(executor.map(ratio, [[1], []])),
    "map in chunks": lambda executor: list(executor.map(ratio, [[1], []], chunksize=2)),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_error_has_a_note_with_the_variables_if_that_is_asked_for(way: str) -> None:
    with running() as executor:
        with pytest.raises(ZeroDivisionError) as caught:
            WAYS[way](executor.with_options(post_mortem=True))
        (note,) = caught.value.__notes__
        assert note.endswith("in ratio\n    values = []\n    total = 0")
        with pytest.raises(ZeroDivisionError) as caught:
            WAYS[way](executor)
        assert not hasattr(caught.value, "__notes__")
