"""Which tasks may run beside others: those whose functions Python knows as ``async def``."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from mirai_executor._around._options import one_at_a_time
from mirai_executor._host import Limits, Options
from mirai_executor._maps._elements import elements_of, function_of

SEVERAL = Options(Limits(concurrency=8, retries=2))


async def coroutine(x: Any, y: Any = 0) -> Any:
    return x, y


class Asked:
    async def ask(self) -> None: ...

    async def __call__(self) -> None: ...


class Answered:
    def __call__(self) -> None: ...


async def generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    "fn",
    [
        coroutine,
        partial(coroutine, 1),
        partial(partial(coroutine, 1), y=2),
        Asked().ask,
        Asked(),
        asyncio.sleep,
        function_of(coroutine, elements_of([1]), (1,), {}),
        function_of(partial(coroutine, y=1), elements_of({"a": 1}), (), {"y": 2}),
    ],
)
def test_coroutines_may(fn: Callable[..., Any]) -> None:
    assert one_at_a_time(fn, SEVERAL) is SEVERAL


@pytest.mark.parametrize(
    "fn",
    [
        None,  # code
        len,
        abs,
        partial(pow, 2),
        lambda: coroutine(1),  # nobody knows before it is called
        Answered(),
        Asked,
        generator,
        partial(map, coroutine),
        function_of(pow, elements_of([1]), (1,), {}),
    ],
)
def test_nothing_else_may(fn: Callable[..., Any] | None) -> None:
    assert one_at_a_time(fn, SEVERAL) == Options(Limits(retries=2))
