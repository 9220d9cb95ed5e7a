"""Holds ``as_pool()`` to what ``multiprocessing.Pool`` does: the same tests for both."""

import functools
import inspect
import multiprocessing
import multiprocessing.pool
import operator
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import elsewhere
from contract import tasks
from mirai_executor import DaemonLostError, MiraiExecutor, PayloadError, TaskTimeoutError

LONG = 30.0  # seconds that no passing test waits
SHORT = 0.01
KINDS = ("pool", "mirai", "view")


@pytest.fixture(scope="module")
def executor() -> Iterator[MiraiExecutor]:
    with MiraiExecutor(2) as executor:
        executor.wait_ready(LONG)
        yield executor


@pytest.fixture(scope="module")
def original() -> Iterator[Any]:
    """A pool of the standard library: it takes its time to start, so one has to do for all."""
    if elsewhere.is_chosen():
        yield None
        return
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(abs, range(4))
        yield pool
    pool.join()


@pytest.fixture(scope="module", autouse=True)
def both(executor: MiraiExecutor, original: Any) -> tuple[MiraiExecutor, Any]:
    """Have both before any test: what a test starts is not to be left behind by it."""
    return executor, original


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest, executor: MiraiExecutor, original: Any) -> Any:
    if request.param == "pool":
        return original or pytest.skip("has no transport to choose")
    return (executor if request.param == "mirai" else executor.with_options(retries=1)).as_pool()


@pytest.fixture
def fresh() -> Iterator[MiraiExecutor]:
    """An executor whose daemons a test may have replaced."""
    with MiraiExecutor(1) as executor:
        yield executor


@pytest.fixture(params=["pool", "mirai"])
def own_pool(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A pool that a test may end."""
    if request.param == "mirai":
        yield request.getfixturevalue("fresh").as_pool()
        return
    if elsewhere.is_chosen():
        pytest.skip("has no transport to choose")
    pool: Any = multiprocessing.get_context("spawn").Pool(1)
    with pool:
        yield pool
    pool.join()
    for each in (*pool._pool, pool._inqueue, pool._outqueue, pool._change_notifier):
        each.close()


@pytest.fixture
def mirai_pool(executor: MiraiExecutor) -> Any:
    return executor.as_pool()


class Called:
    """A callback that says what it was called with, once it was."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.come = threading.Event()

    def __call__(self, value: Any) -> None:
        self.values.append(value)
        self.come.set()


def test_the_signatures_are_those_of_the_original(mirai_pool: Any) -> None:
    for name, method in inspect.getmembers(multiprocessing.pool.Pool, inspect.isfunction):
        if not name.startswith("_") and name != "Process":
            ours = list(inspect.signature(getattr(mirai_pool, name)).parameters)
            assert ours == list(inspect.signature(method).parameters)[1:]
    for name in ("get", "wait", "ready", "successful"):
        method = getattr(multiprocessing.pool.AsyncResult, name)
        ours = getattr(mirai_pool.apply_async(abs, (1,)), name)
        assert (
            list(inspect.signature(ours).parameters)
            == ["timeout"][: method.__code__.co_argcount - 1]
        )


def test_apply_calls_a_function_with_arguments_and_keywords(pool: Any) -> None:
    assert pool.apply(tasks.capture, (1, 2), {"a": 3}) == ((1, 2), {"a": 3})
    assert pool.apply(tasks.capture) == ((), {})
    assert pool.apply(tasks.capture, [1]) == ((1,), {})
    assert pool.apply_async(tasks.capture, (1,), {"a": 2}).get(LONG) == ((1,), {"a": 2})


@pytest.mark.parametrize("chunksize", [None, 1, 3, 100])
@pytest.mark.parametrize("make", [list, tuple, iter, lambda numbers: numbers])
def test_maps_keep_the_order(pool: Any, chunksize: int | None, make: Callable[..., Any]) -> None:
    assert pool.map(operator.neg, make(range(10)), chunksize) == [-n for n in range(10)]
    pairs = [(n, n + 1) for n in range(10)]
    assert pool.starmap(tasks.multiply, make(pairs), chunksize) == [n * (n + 1) for n in range(10)]
    assert pool.map_async(abs, make([-1]), chunksize=chunksize).get(LONG) == [1]
    assert pool.starmap_async(pow, make([[2, 3]]), chunksize).get(LONG) == [8]


def test_maps_of_nothing_are_empty(pool: Any) -> None:
    for result in (pool.map_async(abs, []), pool.starmap_async(pow, iter(()))):
        assert result.get(LONG) == []
        assert result.ready()
        assert result.successful()
    assert list(pool.imap(abs, [])) == list(pool.imap_unordered(abs, iter(()), 5)) == []


@pytest.mark.parametrize("chunksize", [1, 4])
@pytest.mark.parametrize("make", [list, iter])
def test_imap_yields_in_order_and_imap_unordered_all(
    pool: Any, chunksize: int, make: Callable[..., Any]
) -> None:
    numbers = list(range(200))  # more than are read ahead
    assert list(pool.imap(abs, make(numbers), chunksize)) == numbers
    assert sorted(pool.imap_unordered(abs, make(numbers), chunksize=chunksize)) == numbers


def test_the_exception_of_a_call_is_raised_where_its_result_is_asked_for(pool: Any) -> None:
    single = pool.apply_async(tasks.fail, ("why", 3))
    several = pool.map_async(functools.partial(tasks.fail_at, 5), range(10), 2)
    for result in (single, several):
        for _ in range(2):
            with pytest.raises(tasks.TroubleError):
                result.get(LONG)
        assert (result.ready(), result.successful()) == (True, False)
    with pytest.raises(tasks.TroubleError):
        pool.apply(tasks.fail, ("why", 3))


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_after_the_exception_of_an_item_come_the_others(pool: Any, name: str) -> None:
    results = getattr(pool, name)(functools.partial(tasks.fail_at, 1), range(4))
    got: list[Any] = []
    for _ in range(4):
        try:
            got.append(results.next(LONG))
        except tasks.TroubleError:
            got.append("failed")
    assert sorted(map(str, got)) == ["0", "2", "3", "failed"]
    assert name == "imap_unordered" or got == [0, "failed", 2, 3]
    for _ in range(2):
        with pytest.raises(StopIteration):
            results.next(LONG)


def two_and_an_error() -> Iterator[int]:
    yield 1
    yield 2
    raise tasks.TroubleError("no more", 3)


@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_iterable_that_fails_does_so_after_its_items(pool: Any, chunksize: int) -> None:
    results = pool.imap(abs, two_and_an_error(), chunksize)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(tasks.TroubleError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_also_where_results_come_in_any_order(mirai_pool: Any) -> None:
    results = mirai_pool.imap_unordered(abs, two_and_an_error())
    assert {next(results), next(results)} == {1, 2}  # the original may lose one of them
    with pytest.raises(tasks.TroubleError):
        next(results)


def test_results_that_are_late_raise_the_timeout_of_multiprocessing(
    pool: Any, tmp_path: Path
) -> None:
    for fifo in ("started", "gate"):
        os.mkfifo(tmp_path / fifo)
    result = pool.apply_async(tasks.hold, (tmp_path / "started", tmp_path / "gate"))
    assert (tmp_path / "started").read_bytes() == b"started"
    assert result.wait(SHORT) is None
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    for timeout in (SHORT, 0, -1):
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout)
    (tmp_path / "gate").write_bytes(b"go")
    assert result.get(LONG) == b"go"
    assert result.successful()


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_items_that_are_late_can_be_asked_for_again(pool: Any, name: str, tmp_path: Path) -> None:
    for fifo in ("started", "gate"):
        os.mkfifo(tmp_path / fifo)
    hold = functools.partial(tasks.hold, tmp_path / "started")
    results = getattr(pool, name)(hold, [tmp_path / "gate"])
    assert (tmp_path / "started").read_bytes() == b"started"
    for timeout in (SHORT, 0):
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout)
    (tmp_path / "gate").write_bytes(b"go")
    assert results.next(timeout=LONG) == b"go"


def test_callbacks_get_the_value_before_anybody_else(pool: Any) -> None:
    good, bad = Called(), Called()
    for result, value in (
        (pool.apply_async(abs, (-3,), callback=good, error_callback=bad), 3),
        (pool.map_async(abs, [-1, -2], callback=good, error_callback=bad), [1, 2]),
        (pool.starmap_async(pow, [(2, 2)], None, good, bad), [4]),
    ):
        assert result.get(LONG) == value
        assert value in good.values
    assert bad.values == []


def test_error_callbacks_get_the_exception(pool: Any) -> None:
    good, bad = Called(), Called()
    fails = functools.partial(tasks.fail_at, 1)
    for result in (
        pool.apply_async(tasks.fail, ("why", 1), {}, good, bad),
        pool.map_async(fails, range(8), 1, good, bad),
    ):
        result.wait(LONG)
        error = bad.values[-1]
        assert isinstance(error, tasks.TroubleError)
        assert error.code == 1
    assert (good.values, len(bad.values)) == ([], 2)


def test_what_cannot_be_pickled_is_an_error_of_the_result(pool: Any) -> None:
    with pytest.raises(Exception, match="pickle"):
        pool.apply_async(abs, (threading.Lock(),)).get(LONG)
    with pytest.raises(Exception, match="pickle"):
        pool.apply_async(tasks.make_unpicklable).get(LONG)
    assert pool.apply(abs, (-1,)) == 1


def test_a_pool_cannot_be_pickled(pool: Any) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
        pickle.dumps(pool)


def test_a_closed_pool_finishes_what_it_has(own_pool: Any) -> None:
    with pytest.raises(ValueError, match="still running"):
        own_pool.join()
    called = Called()
    results = [own_pool.apply_async(abs, (-n,), callback=called) for n in range(20)]
    items = own_pool.imap(abs, iter(range(100)))
    own_pool.close()
    for call in (
        functools.partial(own_pool.apply, abs, (1,)),
        functools.partial(own_pool.map, abs, [1]),
        functools.partial(own_pool.imap, abs, [1]),
        own_pool.__enter__,
    ):
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    own_pool.join()
    assert [result.get(0) for result in results] == list(range(20))
    assert sorted(called.values) == list(range(20))
    assert list(items) == list(range(100))


def test_the_end_of_a_with_block_terminates(own_pool: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")
    with own_pool as entered:
        assert entered is own_pool
        entered.apply_async(tasks.hold, (tmp_path / "started", tmp_path / "never"))
        assert (tmp_path / "started").read_bytes() == b"started"
    own_pool.join()
    with pytest.raises(ValueError, match="Pool not running"):
        own_pool.map(abs, [1])


# Where the original would wait for ever, and what it does not have


def test_termination_cancels_what_the_pool_has_submitted_and_nothing_else(
    fresh: MiraiExecutor, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "gate")
    called = Called()
    with fresh.as_pool() as pool:
        held = [pool.apply_async(tasks.read, (tmp_path / "gate",), {}, called, called)]
        held.append(pool.map_async(tasks.read, [tmp_path / "gate"] * 4, 1, called, called))
        results = pool.imap(tasks.read, [tmp_path / "gate"] * 4)
        spared = fresh.submit(abs, -1)
    for result in held:
        with pytest.raises(CancelledError):
            result.get(LONG)
        assert (result.ready(), result.successful()) == (True, False)
    with pytest.raises(CancelledError):
        next(results)
    pool.join()
    assert called.values == []
    assert spared.result(LONG) == 1  # the executor goes on


def test_a_crash_fails_its_call_and_no_other(fresh: MiraiExecutor) -> None:
    pool: Any = fresh.as_pool()
    crash = pool.apply_async(tasks.crash)
    with pytest.raises(DaemonLostError):
        crash.get(LONG)
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_a_pool_of_a_view_has_its_limits(fresh: MiraiExecutor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    pool = fresh.with_options(timeout=0.2).as_pool()
    with pytest.raises(TaskTimeoutError):
        pool.map(tasks.read, [tmp_path / "gate"])


def test_lambdas_and_endless_iterables_work(fresh: MiraiExecutor) -> None:
    def endless() -> Iterator[int]:
        n = 0
        while True:
            read.append(n)
            yield n
            n += 1

    read: list[int] = []
    pool = fresh.as_pool()
    results = pool.imap(lambda n: 2 * n, endless())
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(read) <= 3 + 16
    pool.terminate()
    pool.join()


def test_to_wait_in_a_callback_is_an_error_that_says_so(mirai_pool: Any, tmp_path: Path) -> None:
    said = Called()

    def waits(_: bytes) -> None:
        for wait in (mirai_pool.apply_async(abs, (1,)).get, mirai_pool.imap(abs, [1]).next):
            try:
                wait()
            except RuntimeError as error:
                said(str(error))

    os.mkfifo(tmp_path / "gate")  # else it might have ended before anybody can call back
    result = mirai_pool.apply_async(tasks.read, (tmp_path / "gate",), callback=waits)
    (tmp_path / "gate").write_bytes(b"go")
    assert result.get(LONG) == b"go"
    assert len(said.values) == 2
    assert all("wait for itself" in text for text in said.values)


def test_a_callback_that_raises_is_logged_and_holds_up_nothing(
    mirai_pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert mirai_pool.apply_async(abs, (1,), callback=lambda _: 1 / 0).get(LONG) == 1
    assert mirai_pool.apply(abs, (2,)) == 2  # its outcome is dealt with after that callback
    assert "exception calling callback" in caplog.text


@pytest.mark.parametrize("name", ["map", "starmap", "imap", "imap_unordered"])
def test_wrong_arguments_are_refused_at_the_call(mirai_pool: Any, name: str) -> None:
    method = getattr(mirai_pool, name)
    with pytest.raises(TypeError, match="takes a function"):
        method(5, [1])
    with pytest.raises(TypeError, match="not iterable"):
        method(abs, 5)
    with pytest.raises(ValueError, match="chunksize"):
        method(abs, [1], 0)


def test_what_cannot_be_pickled_is_named(mirai_pool: Any) -> None:
    with pytest.raises(PayloadError, match=r"args\[0\] \(a _thread.lock object\)"):
        mirai_pool.apply(abs, (threading.Lock(),))
