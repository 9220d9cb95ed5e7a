"""A future as an argument is refused where it was given; deeper in one, or in a map, in its place.

::

    submit, try_submit, everywhere, mirai ─► TypeError at the call, and nothing is left of it
    [future], an element of a map         ─► PayloadError of that call alone
"""

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from live.mischief import SOON
from mirai_executor import MiraiExecutor, PayloadError, daemons, mirai

WORDS = "it belongs to the process that created it; send its result instead"


@pytest.fixture(params=["daemons", "inline"])
def executor(request: pytest.FixtureRequest) -> Iterator[MiraiExecutor]:
    with MiraiExecutor(1, mode=request.param) as executor:
        yield executor


class PortableFuture(Future[int]):
    """As those of libraries whose futures travel."""

    def __reduce__(self) -> Any:
        return PortableFuture, ()


CALLS: list[tuple[Callable[[Any, Any], object], str]] = [
    (lambda e, future: e.submit(print, 1, future), r"args\[1\]"),
    (lambda e, future: e.submit(lambda x: x, x=future), r"kwargs\['x'\]"),
    (lambda e, future: e.with_options(timeout=SOON).submit(print, future), r"args\[0\]"),
    (lambda e, future: e.try_submit(print, future), r"args\[0\]"),
    (lambda e, future: e.submit_source("x", x=future), r"variables\['x'\]"),
    (lambda e, future: e.everywhere(print, future), r"args\[0\]"),
    (lambda e, future: e.everywhere("x", x=future), r"variables\['x'\]"),
]


@pytest.mark.parametrize(("call", "place"), CALLS)
@pytest.mark.parametrize("of_whom", ["ours", "the standard library's"])
def test_a_call_with_a_future_is_refused_at_once_with_what_to_do(
    call: Callable[[Any, Any], object], place: str, of_whom: str, executor: MiraiExecutor
) -> None:
    future = executor.submit(abs, -1) if of_whom == "ours" else Future[int]()
    with pytest.raises(
        TypeError, match=rf"^cannot pickle {place} \(a .*Future object\): {WORDS}$"
    ):
        call(executor, future)
    assert executor.submit(abs, -2).result(SOON) == 2


def test_so_is_one_with_a_future_or_a_task_of_asyncio(executor: MiraiExecutor) -> None:
    async def submit_both() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(asyncio.sleep(0))
        for given in (task, loop.create_future()):
            with pytest.raises(TypeError, match=WORDS):
                executor.submit(print, given)
        await task

    asyncio.run(submit_both())


def test_a_function_of_a_profile_says_so_too() -> None:
    with daemons(1):
        future = mirai(abs, -1)
        with pytest.raises(TypeError, match=rf"args\[0\] .*{WORDS}"):
            mirai(print, future)
        with pytest.raises(TypeError, match=rf"variables\['x'\] .*{WORDS}"):
            mirai("x", x=future)


def test_what_holds_a_future_or_is_bound_to_one_is_refused_in_the_future_of_its_call(
    executor: MiraiExecutor,
) -> None:
    given = Future[int]()
    for future in (
        executor.submit(print, [given]),
        executor.submit(given.result),
        executor.submit_source("x", x=[given]),
    ):
        with pytest.raises(PayloadError, match=WORDS):
            future.result(SOON)


def test_an_element_that_is_a_future_fails_among_others_that_do_not(
    executor: MiraiExecutor,
) -> None:
    given = Future[int]()
    mapped = executor.map(abs, [-1, given])
    assert next(mapped) == 1
    with pytest.raises(PayloadError, match=WORDS):
        next(mapped)
    for many in (1, 40):  # as tasks of their own, and in chunks
        results = executor.mirai_map([-1, given, -2] * many, abs).collect(stop=False)
        assert [results[0], results[2]] == [1, 2]
        assert isinstance(results[1], PayloadError)
    with executor.as_pool() as pool:
        values = pool.imap(abs, [given, -3])
        with pytest.raises(PayloadError, match=WORDS):
            next(values)
        assert next(values) == 3
        with pytest.raises(PayloadError, match=WORDS):
            pool.apply_async(abs, (given,)).get(SOON)


def test_so_does_one_of_a_map_that_is_made_while_an_error_is_handled(
    executor: MiraiExecutor,
) -> None:
    mapped: Any = None
    try:
        1 / 0  # noqa: B018 - for the error
    except ZeroDivisionError:
        assert isinstance(
            executor.mirai_map([Future[int]()], abs).collect(stop=False)[0], PayloadError
        )
        mapped = executor.map(abs, [Future[int]()])
    with pytest.raises(PayloadError, match=WORDS):
        next(mapped)


def test_another_mistake_is_reported_while_such_an_error_is_handled(
    executor: MiraiExecutor,
) -> None:
    with executor.as_pool() as pool:
        try:
            pool.apply_async(abs, (Future[int](),)).get(SOON)
        except PayloadError:
            with pytest.raises(TypeError, match="takes a function"):
                pool.apply_async(5)  # type: ignore[arg-type]  # that is the mistake


def test_a_map_over_what_comes_in_time_yields_what_stands_before_a_future(
    executor: MiraiExecutor,
) -> None:
    async def take_two() -> None:
        values = executor.stream_map(abs, [-1, Future[int](), -2])
        assert await anext(values) == 1
        with pytest.raises(PayloadError, match=WORDS):
            await anext(values)

    asyncio.run(take_two())


def test_an_inline_task_that_ends_in_such_an_error_of_another_is_no_misuse() -> None:
    with MiraiExecutor(1, mode="inline") as executor:

        def fail() -> None:
            executor.map(abs, [Future[int]()]).__next__()

        def read() -> None:
            list(executor.stream(lambda x: [x], Future[int]()))

        for task in (fail, read):
            assert isinstance(executor.submit(task).exception(), PayloadError)


def test_a_future_that_can_travel_is_an_argument_as_others(executor: MiraiExecutor) -> None:
    assert executor.submit(isinstance, PortableFuture(), Future).result(SOON)


def test_nothing_is_left_of_a_call_that_was_refused() -> None:
    with MiraiExecutor(1, memory=10_000_000, seed=1) as executor:
        given = Future[int]()
        with pytest.raises(TypeError, match=WORDS):
            executor.submit(print, bytes(1_000_000), given)
        kept = weakref.ref(given)
        del given
        gc.collect()
        assert kept() is None
        assert executor.submit(abs, -1).result(SOON) == 1
        assert executor.status().memory.used == 0  # type: ignore[union-attr]  # it has a bound
        assert executor.status().awaiting == 0
