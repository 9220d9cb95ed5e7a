"""The results of a pool, without daemons: interrupts, and what holds on to what."""

import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from mirai_executor import MiraiExecutor
from mirai_executor._maps._pool_results import AsyncResult, OpenWork, Ordered, Unordered
from mirai_executor.futures import MiraiFuture
from unit.test_futures import Interrupted

Wait = Callable[[list[MiraiFuture[int]], OpenWork], object]
WAITS: dict[str, Wait] = {
    "get": lambda futures, work: AsyncResult(futures, sum, (None, None), work).get(),
    "imap": lambda futures, work: next(Ordered(iter([*futures, None]).__next__, None, work)),
    "imap_unordered": lambda futures, work: next(
        Unordered(iter([*futures, None]).__next__, None, work)
    ),
}


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("way", WAITS)
def test_an_interrupt_cancels_what_was_waited_for_if_that_is_asked_for(
    way: str, asked: bool
) -> None:
    struck = Interrupted()
    futures = struck.futures(cancel=asked)
    with pytest.raises(KeyboardInterrupt):
        WAITS[way](futures, OpenWork(struck.owns_this_thread))
    assert set(struck.cancelled) == ({0, 1, 2} if asked else set())


@pytest.mark.parametrize("name", ["apply_async", "map_async"])
def test_an_error_holds_no_result_that_holds_it(name: str) -> None:
    class MarkedError(Exception):
        pass

    def fails(_: int) -> None:
        raise MarkedError

    with MiraiExecutor(1, mode="inline") as executor:
        pool: Any = executor.as_pool()
        gc.collect()
        gc.disable()
        try:
            result = getattr(pool, name)(fails, (1,))
            with pytest.raises(MarkedError) as caught:
                result.get()
            gone = weakref.ref(result)
            del result, caught
            sys.exc_info()
            assert gone() is None
        finally:
            gc.enable()


def test_a_pool_works_where_tasks_run_in_this_process() -> None:
    got: list[Any] = []
    with MiraiExecutor(1, mode="inline") as executor, executor.as_pool() as pool:
        assert pool.map_async(abs, [-1, -2], callback=got.append).get(0) == [1, 2]
        assert list(pool.imap_unordered(abs, iter([-3]))) == [3]
        assert repr(pool) == "<ExecutorPool state=RUN pool_size=1>"
        pool.close()
        pool.join()
    assert got == [[1, 2]]
