"""What stands around a call is beside its function, and runs from the outside in."""

from collections.abc import Callable
from typing import Any

from mirai_executor._payload.common.around import Around, inside, take_around
from mirai_executor._payload.common.entries import AROUND
from mirai_executor._payload.common.traced import Traced
from mirai_executor._payload.host import CallEncoder


class Named(Around):
    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> object:
        return [self.name, fn(*args, **kwargs)]


def test_the_first_one_is_the_outermost() -> None:
    assert inside([Named("a"), Named("b")], pow)(2, 3) == ["a", ["b", 8]]
    assert inside((), pow) is pow


def test_it_is_taken_out_of_the_arguments_once() -> None:
    around = [Named("a")]
    kwargs = {"x": 1, AROUND: around}
    assert (take_around(kwargs), take_around(kwargs), kwargs) == (around, (), {"x": 1})


def test_the_bytes_of_a_function_are_the_same_with_and_without_it() -> None:
    factor = 3
    encoder = CallEncoder()

    def multiplied(x: int) -> int:
        return factor * x

    encoder.encode(multiplied, (1,), {})  # one that comes but once is not taken apart
    (plain,) = encoder.encode(multiplied, (1,), {}).names
    for n in range(2):
        call = encoder.encode(multiplied, (1,), {AROUND: [Traced({"n": str(n)}, {})]})
        assert call.names == (plain,)
        assert b"multiplied" not in call.blob
