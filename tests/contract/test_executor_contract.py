"""Holds MiraiExecutor to what the standard library's executors do: the same tests for each."""

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import io
import itertools
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import elsewhere
from contract import tasks

LONG = 30.0  # seconds that no passing test waits
Make = Callable[..., Any]


def make_process_pool(*args: Any, **kwargs: Any) -> Executor:
    spawn = multiprocessing.get_context("spawn")
    return functools.partial(ProcessPoolExecutor, mp_context=spawn)(*args, **kwargs)


def make_mirai(*args: Any, **kwargs: Any) -> Executor:
    executor: Executor = mirai_executor_type()(*args, **kwargs)
    return executor


def mirai_executor_type() -> Any:
    pytest.importorskip("mirai_executor.executor", reason="MiraiExecutor does not exist yet")
    import mirai_executor

    return mirai_executor.MiraiExecutor


KINDS: dict[str, Make] = {
    "thread": ThreadPoolExecutor,
    "process": make_process_pool,
    "mirai": make_mirai,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    if kind == "mirai":
        mirai_executor_type()
    elif elsewhere.is_chosen():
        pytest.skip("has no transport to choose")
    return kind


only_processes = pytest.mark.parametrize("kind", ["process", "mirai"], indirect=True)
only_mirai = pytest.mark.parametrize("kind", ["mirai"], indirect=True)


@pytest.fixture
def make(kind: str) -> Iterator[Make]:
    """Make executors of this kind; they are shut down at the end."""
    with contextlib.ExitStack() as made:
        yield lambda *args, **kwargs: made.enter_context(KINDS[kind](*args, **kwargs))


@pytest.fixture
def executor(make: Make) -> Executor:
    """One worker: what is submitted second has to wait."""
    executor: Executor = make(1)
    return executor


class Held:
    """A task that runs until it is let go, and says when it has begun."""

    def __init__(self, executor: Executor, folder: Path) -> None:
        self.started = folder / "started"
        self.gate = folder / "gate"
        self.is_let_go = False
        for fifo in (self.started, self.gate):
            os.mkfifo(fifo)
        self.future: Future[Any] = executor.submit(tasks.hold, self.started, self.gate)

    def wait_until_it_runs(self) -> None:
        assert self.started.read_bytes() == b"started"

    def let_go(self) -> None:
        """Let it end. The second time does nothing: the gate would wait for another reader."""
        if not self.is_let_go:
            self.is_let_go = True
            self.gate.write_bytes(b"go")


@pytest.fixture
def hold(executor: Executor, tmp_path: Path) -> Iterator[Callable[[], Held]]:
    """Occupy the executor's only worker; it is let go at the end at the latest."""
    all_held: list[Held] = []

    def hold() -> Held:
        held = Held(executor, tmp_path)
        all_held.append(held)
        held.wait_until_it_runs()
        return held

    yield hold
    for held in all_held:
        if not held.future.done():
            held.let_go()


# submit


def test_submit_returns_a_future_of_the_result(executor: Executor) -> None:
    future = executor.submit(tasks.multiply, 6, y=7)
    assert isinstance(future, Future)
    assert future.result(LONG) == 42
    assert future.done()
    assert future.exception() is None


@pytest.mark.parametrize(
    "name",
    ["self", "fn", "func", "task", "timeout", "args", "kwargs", "executor", "retries", "options"],
)
def test_every_keyword_belongs_to_the_users_function(make: Make, name: str) -> None:
    future = make(1).submit(tasks.capture, 1, **{name: 2})
    assert future.result(LONG) == ((1,), {name: 2})


def test_the_function_is_positional_only(executor: Executor) -> None:
    with pytest.raises(TypeError):
        executor.submit(fn=tasks.capture)  # type: ignore[call-arg]  # the error under test
    with pytest.raises(TypeError):
        executor.submit()  # type: ignore[call-arg]  # the error under test


def test_the_users_exception_arrives_as_itself(executor: Executor) -> None:
    error = executor.submit(tasks.fail, "out of milk", code=3).exception(LONG)
    assert type(error) is tasks.TroubleError
    assert (error.args, error.reason, error.code) == (("out of milk", 3), "out of milk", 3)


def test_a_system_exit_ends_its_task_and_no_worker(executor: Executor) -> None:
    error = executor.submit(tasks.leave, 3).exception(LONG)
    assert type(error) is SystemExit
    assert error.code == 3
    assert executor.submit(tasks.multiply, 2, 3).result(LONG) == 6


def test_result_gives_up_after_its_timeout(hold: Callable[[], Held]) -> None:
    held = hold()
    with pytest.raises(TimeoutError):
        held.future.result(timeout=0.01)
    assert not held.future.done()
    held.let_go()
    assert held.future.result(LONG) == b"go"


def test_a_task_that_a_worker_has_begun_is_running(hold: Callable[[], Held]) -> None:
    held = hold()
    assert held.future.running()
    assert not held.future.done()


def test_a_future_takes_attributes_and_is_a_key(executor: Executor) -> None:
    future = executor.submit(tasks.multiply, 1, 1)
    future.start_time = 1.5  # type: ignore[attr-defined]  # adaptive and APScheduler do this
    assert {future: "found"}[future] == "found"


def test_a_thousand_tasks_from_eight_threads_each_get_their_own_result(make: Make) -> None:
    executor = make(2)
    with ThreadPoolExecutor(8) as submitters:
        futures = submitters.map(
            lambda n: [executor.submit(tasks.multiply, n, m) for m in range(125)], range(8)
        )
    results = [[future.result(LONG) for future in row] for row in futures]
    assert results == [[n * m for m in range(125)] for n in range(8)]


@only_processes
def test_an_argument_that_cannot_be_pickled_is_the_futures_error(executor: Executor) -> None:
    future = executor.submit(tasks.capture, tasks.LockedUp())
    assert isinstance(future.exception(LONG), Exception)
    assert executor.submit(tasks.multiply, 2, 3).result(LONG) == 6


@only_processes
def test_a_result_that_cannot_be_pickled_is_the_futures_error(executor: Executor) -> None:
    future = executor.submit(tasks.make_unpicklable)
    assert isinstance(future.exception(LONG), Exception)
    assert executor.submit(tasks.multiply, 2, 3).result(LONG) == 6


@only_processes
def test_a_crash_ends_its_task_in_a_broken_process_pool(executor: Executor) -> None:
    assert isinstance(executor.submit(tasks.crash).exception(LONG), BrokenProcessPool)


@only_mirai
def test_a_crash_costs_no_other_task(executor: Executor) -> None:
    crashed = executor.submit(tasks.crash)
    queued = executor.submit(tasks.multiply, 2, 3)
    assert isinstance(crashed.exception(LONG), BrokenProcessPool)
    assert queued.result(LONG) == 6
    assert executor.submit(tasks.multiply, 2, 4).result(LONG) == 8


# callbacks


def test_a_callback_runs_once_with_its_future(executor: Executor) -> None:
    called: list[Future[int]] = []
    done = threading.Event()
    future = executor.submit(tasks.multiply, 2, 3)
    future.add_done_callback(called.append)
    future.add_done_callback(lambda _: done.set())
    assert done.wait(LONG)
    assert called == [future]


def test_a_callback_added_late_runs_at_once(executor: Executor) -> None:
    future = executor.submit(tasks.multiply, 2, 3)
    future.result(LONG)
    called: list[Future[int]] = []
    future.add_done_callback(called.append)
    assert called == [future]


def test_a_callback_may_submit(executor: Executor) -> None:
    second: Future[Future[int]] = Future()
    first = executor.submit(tasks.multiply, 2, 3)
    first.add_done_callback(
        lambda done: second.set_result(executor.submit(tasks.multiply, done.result(), 7))
    )
    assert second.result(LONG).result(LONG) == 42


def test_a_failing_callback_is_logged_and_harms_nobody(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Future[int]) -> None:
        raise tasks.TroubleError("callback", 1)

    # Text, not records: these would keep the frames of the executor's thread, and what they hold.
    log = logging.getLogger("concurrent.futures")
    text = io.StringIO()
    monkeypatch.setattr(log, "handlers", [logging.StreamHandler(text)])
    monkeypatch.setattr(log, "propagate", False)
    done = threading.Event()
    future = executor.submit(tasks.multiply, 2, 3)
    future.add_done_callback(fail)
    future.add_done_callback(lambda _: done.set())
    assert done.wait(LONG)
    assert "exception calling callback" in text.getvalue()
    assert executor.submit(tasks.multiply, 2, 4).result(LONG) == 8


# cancel


def test_a_queued_task_is_cancelled_and_never_runs(
    executor: Executor, hold: Callable[[], Held], tmp_path: Path
) -> None:
    held = hold()
    futures = [executor.submit(tasks.touch, tmp_path / f"ran-{n}") for n in range(5)]
    assert futures[-1].cancel()
    assert futures[-1].cancelled()
    with pytest.raises(CancelledError):
        futures[-1].result(LONG)
    held.let_go()
    wait(futures, LONG)
    assert executor.submit(tasks.multiply, 2, 3).result(LONG) == 6
    assert [path.name for path in sorted(tmp_path.glob("ran-*"))] == [
        "ran-0",
        "ran-1",
        "ran-2",
        "ran-3",
    ]


def test_a_finished_task_cannot_be_cancelled(executor: Executor) -> None:
    future = executor.submit(tasks.multiply, 2, 3)
    future.result(LONG)
    assert not future.cancel()
    assert future.result() == 6


@pytest.mark.parametrize("kind", ["thread", "process"], indirect=True)
def test_the_standard_library_does_not_cancel_a_running_task(hold: Callable[[], Held]) -> None:
    assert not hold().future.cancel()


@only_mirai
def test_a_running_task_is_cancelled_and_stopped(
    executor: Executor, hold: Callable[[], Held]
) -> None:
    held = hold()
    assert held.future.cancel()
    with pytest.raises(CancelledError):
        held.future.result(LONG)
    assert executor.submit(tasks.multiply, 2, 3).result(LONG) == 6


@only_mirai
def test_a_view_restores_the_standard_cancel(executor: Any, tmp_path: Path) -> None:
    held = Held(executor.with_options(cancel_running=False), tmp_path)
    held.wait_until_it_runs()
    assert not held.future.cancel()
    held.let_go()
    assert held.future.result(LONG) == b"go"


# wait and as_completed


def test_wait_returns_at_the_first_completed(executor: Executor, hold: Callable[[], Held]) -> None:
    held = hold()
    quick: Future[Any] = Future()
    quick.set_result(1)
    assert wait([held.future, quick], LONG, FIRST_COMPLETED) == ({quick}, {held.future})


def test_wait_returns_at_the_first_exception(make: Make, tmp_path: Path) -> None:
    executor = make(2)
    held = Held(executor, tmp_path)
    held.wait_until_it_runs()
    failing: Future[Any] = executor.submit(tasks.fail, "no", code=1)
    assert wait([held.future, failing], LONG, FIRST_EXCEPTION) == ({failing}, {held.future})
    held.let_go()


def test_wait_returns_when_all_are_completed(executor: Executor) -> None:
    futures = {executor.submit(tasks.multiply, n, n) for n in range(20)}
    assert wait(futures, LONG, ALL_COMPLETED) == (futures, set())


def test_wait_gives_up_after_its_timeout(executor: Executor, hold: Callable[[], Held]) -> None:
    held = hold()
    queued = executor.submit(tasks.multiply, 2, 3)
    assert wait([held.future, queued], timeout=0.01) == (set(), {held.future, queued})


def test_as_completed_yields_what_ends_first(make: Make, tmp_path: Path) -> None:
    executor = make(2)
    held = Held(executor, tmp_path)
    held.wait_until_it_runs()
    quick = executor.submit(tasks.multiply, 2, 3)
    ended = as_completed([held.future, quick, quick], LONG)
    assert next(ended) is quick
    held.let_go()
    assert list(ended) == [held.future]


def test_as_completed_gives_up_after_its_timeout(hold: Callable[[], Held]) -> None:
    held = hold()
    with pytest.raises(TimeoutError, match=r"1 \(of 1\) futures unfinished"):
        list(as_completed([held.future], timeout=0.01))


# map


def test_map_keeps_the_order_of_its_inputs(make: Make) -> None:
    seconds = [0.2, 0.0, 0.1, 0.0]
    assert list(make(2).map(tasks.sleep_and_return, seconds, range(4))) == [0, 1, 2, 3]


def test_map_ends_with_its_shortest_input(executor: Executor) -> None:
    assert list(executor.map(tasks.multiply, range(100), (2, 3, 4))) == [0, 3, 8]


def test_map_of_nothing_is_empty(executor: Executor) -> None:
    assert list(executor.map(tasks.multiply, [], [])) == []


def test_map_submits_before_it_is_iterated(executor: Executor, tmp_path: Path) -> None:
    executor.map(tasks.touch, [tmp_path / "ran-1", tmp_path / "ran-2"])
    executor.shutdown()
    assert len(list(tmp_path.glob("ran-*"))) == 2


def test_map_raises_at_the_place_of_the_error(executor: Executor) -> None:
    results = executor.map(functools.partial(tasks.fail_at, 2), range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(tasks.TroubleError):
        next(results)
    assert list(results) == ([3] if sys.version_info >= (3, 16) else [])


@pytest.mark.parametrize("chunksize", [1, 3, 40, 100])
def test_map_gives_the_same_whatever_its_chunks(make: Make, chunksize: int) -> None:
    results = make(2).map(tasks.multiply, range(40), range(40), chunksize=chunksize)
    assert list(results) == [n * n for n in range(40)]


@only_processes
@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_refuses_a_chunksize_below_one(executor: Executor, chunksize: int) -> None:
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(tasks.multiply, [1], [2], chunksize=chunksize)


def test_maps_timeout_counts_from_its_call(executor: Executor, hold: Callable[[], Held]) -> None:
    held = hold()
    with pytest.raises(TimeoutError):
        list(executor.map(tasks.multiply, [1], [2], timeout=0.01))
    held.let_go()


def test_a_map_that_is_closed_cancels_what_has_not_started(
    executor: Executor, tmp_path: Path
) -> None:
    for fifo in ("started", "gate"):
        os.mkfifo(tmp_path / fifo)
    results: Any = executor.map(functools.partial(tasks.step, tmp_path), range(12))
    assert next(results) == b"first"
    assert (tmp_path / "started").read_bytes() == b"started"
    results.close()
    (tmp_path / "gate").write_bytes(b"go")
    executor.shutdown()
    # A process pool has handed the next two on already.
    assert len(list(tmp_path.glob("ran-*"))) <= 2


@only_mirai
def test_map_with_a_buffer_looks_only_so_far_ahead(executor: Any) -> None:
    pulled: list[int] = []

    def inputs() -> Iterator[int]:
        for number in itertools.count():
            pulled.append(number)
            yield number

    results = executor.map(tasks.multiply, inputs(), itertools.repeat(2), buffersize=3)
    assert pulled == [0, 1, 2]
    assert [next(results) for _ in range(4)] == [0, 2, 4, 6]
    assert pulled == [0, 1, 2, 3, 4, 5, 6]
    results.close()


@only_mirai
def test_a_buffer_of_chunks_counts_chunks(executor: Any) -> None:
    pulled: list[int] = []

    def inputs() -> Iterator[int]:
        for number in range(20):
            pulled.append(number)
            yield number

    results = executor.map(
        tasks.multiply, inputs(), itertools.repeat(2), chunksize=2, buffersize=3
    )
    assert len(pulled) == 6
    assert list(results) == [2 * number for number in range(20)]


@only_mirai
@pytest.mark.parametrize(
    ("buffersize", "error", "text"),
    [
        (0, ValueError, "buffersize must be None or > 0"),
        (-1, ValueError, "buffersize must be None or > 0"),
        (1.5, TypeError, "buffersize must be an integer or None"),
        ("2", TypeError, "buffersize must be an integer or None"),
    ],
)
def test_map_refuses_a_buffer_that_is_none(
    executor: Any, buffersize: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        executor.map(tasks.multiply, [1], [2], buffersize=buffersize)


# shutdown


def test_submit_after_shutdown_is_a_runtime_error(executor: Executor) -> None:
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(tasks.multiply, 2, 3)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(tasks.multiply, [2], [3])


def test_shutdown_waits_for_all_that_was_accepted(executor: Executor) -> None:
    futures = [executor.submit(tasks.multiply, n, n) for n in range(50)]
    executor.shutdown(True)
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [n * n for n in range(50)]


def test_shutdown_may_be_called_again(executor: Executor) -> None:
    executor.submit(tasks.multiply, 2, 3)
    executor.shutdown()
    executor.shutdown()
    executor.shutdown(wait=False)


def test_shutdown_without_wait_returns_at_once_and_accepted_tasks_finish(
    executor: Executor, hold: Callable[[], Held]
) -> None:
    held = hold()
    queued = executor.submit(tasks.multiply, 2, 3)
    executor.shutdown(wait=False)
    assert not held.future.done()
    with pytest.raises(RuntimeError):
        executor.submit(tasks.multiply, 2, 3)
    held.let_go()
    assert held.future.result(LONG) == b"go"
    assert queued.result(LONG) == 6


def test_shutdown_cancels_what_is_queued_when_asked(
    executor: Executor, hold: Callable[[], Held]
) -> None:
    held = hold()
    futures = [executor.submit(tasks.multiply, n, n) for n in range(10)]
    executor.shutdown(wait=False, cancel_futures=True)
    held.let_go()
    for future in futures:
        # Not wait(): to it, a future that nobody has told of its cancellation is not done.
        with contextlib.suppress(CancelledError):
            future.result(LONG)
    # A process pool has handed one or two of them on; the standard library says no more.
    assert [future.cancelled() for future in futures[2:]] == [True] * 8
    assert held.future.result(LONG) == b"go"


def test_the_with_block_waits_for_its_tasks(kind: str) -> None:
    with KINDS[kind](2) as executor:
        futures = [executor.submit(tasks.sleep_and_return, 0.05, n) for n in range(4)]
    assert all(future.done() for future in futures)
    assert [future.result() for future in futures] == [0, 1, 2, 3]


def test_an_error_leaves_the_with_block_as_it_is(kind: str) -> None:
    def run() -> None:
        with KINDS[kind](1) as executor:
            executor.submit(tasks.multiply, 2, 3)
            raise tasks.TroubleError("in the block", 1)

    with pytest.raises(tasks.TroubleError, match="in the block"):
        run()


def test_an_executor_that_was_never_used_shuts_down(make: Make) -> None:
    make(3).shutdown()


# construction


@pytest.mark.parametrize("number", [0, -1])
def test_the_number_of_workers_is_positive(kind: str, number: int) -> None:
    with pytest.raises(ValueError, match=r"^max_workers must be greater than 0$"):
        KINDS[kind](max_workers=number)


def test_the_first_positional_argument_is_the_number_of_workers(make: Make) -> None:
    assert make(3)._max_workers == 3


def test_the_default_number_of_workers_is_positive(make: Make) -> None:
    assert make()._max_workers > 0


def test_an_initializer_is_callable(kind: str) -> None:
    with pytest.raises(TypeError, match=r"^initializer must be a callable$"):
        KINDS[kind](initializer=5)


def test_every_worker_runs_the_initializer_before_its_first_task(make: Make) -> None:
    executor = make(2, initializer=tasks.remember, initargs=("a word",))
    assert [executor.submit(tasks.recall).result(LONG) for _ in range(4)] == ["a word"] * 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failing_initializer_fails_pending_tasks_instead_of_hanging(make: Make) -> None:
    executor = make(1, initializer=tasks.fail, initargs=("cannot start", 1))
    future = executor.submit(tasks.multiply, 2, 3)
    assert isinstance(future.exception(LONG), BrokenExecutor)
    with pytest.raises(BrokenExecutor):
        executor.submit(tasks.multiply, 2, 3).result(LONG)


@only_processes
@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ("2", TypeError, "max_tasks_per_child must be an integer"),
        (0, ValueError, "max_tasks_per_child must be >= 1"),
    ],
)
def test_max_tasks_per_child_is_a_positive_integer(
    kind: str, value: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        KINDS[kind](1, max_tasks_per_child=value)


@pytest.mark.local_link("what has served its time elsewhere is not replaced")
@only_processes
def test_a_worker_is_replaced_after_its_tasks(make: Make) -> None:
    executor = make(1, max_tasks_per_child=2)
    workers = [executor.submit(tasks.worker).result(LONG) for _ in range(6)]
    assert workers[0] == workers[1] != workers[2] == workers[3] != workers[4] == workers[5]


# ProcessPoolExecutor itself hangs here (https://github.com/python/cpython/issues/115634).
@pytest.mark.local_link("what has served its time elsewhere is not replaced")
@only_mirai
def test_no_task_is_lost_to_a_worker_that_is_replaced(make: Make) -> None:
    results = make(2, max_tasks_per_child=3).map(tasks.multiply, range(30), range(30))
    assert list(results) == [n * n for n in range(30)]


@only_mirai
@pytest.mark.parametrize("method", ["submit", "map", "shutdown"])
def test_the_signatures_are_those_of_the_standard_library(kind: str, method: str) -> None:
    expected = {
        "submit": "(self, fn, /, *args, **kwargs)",
        # One keyword more than in the standard library, each.
        "map": "(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None, "
        "progress=False)",
        "shutdown": "(self, wait=True, *, cancel_futures=False, cancel_running=False)",
    }
    signature = inspect.signature(getattr(mirai_executor_type(), method))
    bare = signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in signature.parameters.values()],
        return_annotation=signature.empty,
    )
    assert str(bare) == expected[method]


@only_mirai
def test_the_constructor_begins_as_that_of_process_pool_executor(kind: str) -> None:
    ours = list(inspect.signature(mirai_executor_type()).parameters)
    assert ours[:4] == ["max_workers", "mp_context", "initializer", "initargs"]


def test_it_is_an_executor(executor: Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)


# asyncio


def test_asyncio_awaits_its_tasks(executor: Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        one = loop.run_in_executor(executor, tasks.multiply, 2, 3)
        other = asyncio.wrap_future(executor.submit(tasks.multiply, 2, 4))
        return [await one, await other]

    assert asyncio.run(main()) == [6, 8]


def test_cancelling_the_awaitable_cancels_a_queued_task(
    executor: Executor, hold: Callable[[], Held]
) -> None:
    async def main() -> list[Future[int]]:
        futures = [executor.submit(tasks.multiply, n, n) for n in range(5)]
        last = asyncio.wrap_future(futures[-1])
        last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await last
        return futures

    held = hold()
    futures = asyncio.run(main())
    assert futures[-1].cancelled()
    held.let_go()
    assert [future.result(LONG) for future in futures[:-1]] == [0, 1, 4, 9]
