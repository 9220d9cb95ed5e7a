"""Functions of each kind, decorated: when their own code runs, and only then, it is in a block."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mirai_executor.functional._blocks import inside

depth = 0


@contextmanager
def block() -> Iterator[None]:
    global depth  # which all that is decorated here looks at
    depth += 1
    try:
        yield
    finally:
        depth -= 1


def decorated(fn: Any) -> Any:
    return inside(block, fn)


class Given(Exception):  # noqa: N818 - it stands for any
    pass


@decorated
def talk(first: Any) -> Generator[Any, Any, Any]:
    """Answer with all that comes in, as a generator can."""
    answer = yield depth, first
    while answer != "end":
        try:
            answer = yield depth, answer
        except Given as given:
            answer = yield depth, given.args
    return depth, "ended"


def test_a_generator_is_in_its_block_while_it_runs_and_answers_as_without() -> None:
    talking = talk(first="one")
    assert (next(talking), depth) == ((1, "one"), 0)
    assert (talking.send("two"), depth) == ((1, "two"), 0)
    assert (talking.throw(Given("three")), depth) == ((1, ("three",)), 0)
    with pytest.raises(StopIteration) as stop:
        talking.send("end")
    assert (stop.value.value, depth) == ((1, "ended"), 0)
    started = talk(0)
    next(started)
    with pytest.raises(KeyError):  # one that it does not handle
        started.throw(KeyError)
    assert depth == 0


def test_a_generator_that_is_closed_ends_in_its_block() -> None:
    seen = []

    @decorated
    def end() -> Iterator[None]:
        try:
            yield
        finally:
            seen.append(depth)

    generator = end()
    next(generator)
    generator.close()
    assert (seen, depth) == ([1], 0)


def test_a_coroutine_is_in_its_block_until_it_ends() -> None:
    @decorated
    async def look(n: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return n, depth

    assert asyncio.run(look(7)) == (7, 1)
    assert asyncio.run(decorated(functools.partial(look, 8))()) == (8, 2)
    assert depth == 0


def test_an_asynchronous_generator_is_in_its_block_while_it_runs() -> None:
    seen = []

    @decorated
    async def talk(first: Any) -> AsyncIterator[Any]:
        try:
            answer = yield depth, first
            await asyncio.sleep(0)
            try:
                yield depth, answer
            except Given as given:
                yield depth, given.args
        finally:
            seen.append(depth)

    async def main() -> None:
        talking: Any = talk("one")
        assert (await anext(talking), depth) == ((1, "one"), 0)
        assert (await talking.asend("two"), depth) == ((1, "two"), 0)
        assert (await talking.athrow(Given("three")), depth) == ((1, ("three",)), 0)
        with pytest.raises(StopAsyncIteration):
            await anext(talking)
        closed = talk("one")
        await anext(closed)
        await closed.aclose()
        assert [item async for item in talk("x")] == [(1, "x"), (1, None)]

    asyncio.run(main())
    assert (seen, depth) == ([1, 1, 1], 0)


def test_each_stays_of_its_kind_and_keeps_its_name() -> None:
    async def coroutine() -> None: ...

    async def generator() -> AsyncIterator[None]:
        yield

    assert inspect.iscoroutinefunction(decorated(coroutine))
    assert inspect.isasyncgenfunction(decorated(generator))
    assert inspect.isgeneratorfunction(talk)
    assert (talk.__name__, talk.__doc__) == ("talk", talk.__wrapped__.__doc__)
    assert decorated(lambda: depth)() == 1


def test_what_cannot_be_called_is_refused_where_it_is_decorated() -> None:
    with pytest.raises(
        TypeError, match=r"only functions can be decorated.*put @classmethod above"
    ):
        decorated(classmethod(talk))
