"""A future has what somebody needs of it, made when they do, and each end is told once."""

import ast
import concurrent.futures
import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError, _base
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mirai_executor
from mirai_executor import MiraiExecutor, collect
from mirai_executor._core import TaskId
from mirai_executor._maps._map import MapResults
from mirai_executor.futures import MiraiFuture

PATIENCE = 30.0
PACKAGE = Path(mirai_executor.__file__).parent


class Nobody:
    def cancel(self, task: TaskId, *, running: bool) -> None:
        pass

    def owns_this_thread(self) -> bool:
        return False


def new_future() -> MiraiFuture[int]:
    return MiraiFuture(TaskId(1), Nobody())


def end(future: MiraiFuture[int], finish: Callable[[MiraiFuture[int]], None]) -> None:
    """Do what a host does with a task that has been sent."""
    if not future.start():
        future.end_cancelled()
        return
    try:
        finish(future)
    except InvalidStateError:
        future.end_cancelled()


def with_a_value(future: MiraiFuture[int]) -> None:
    future.set_value(7)


def with_bytes(future: MiraiFuture[int]) -> None:
    future.set_outcome(int, "7", failed=False)


ENDS = [with_a_value, with_bytes]


def wait_for(future: MiraiFuture[int]) -> bool:
    """Tell whether it has been cancelled."""
    try:
        assert future.result(PATIENCE) == 7
    except CancelledError:
        return True
    return False


def wait_beside_another(future: MiraiFuture[int]) -> bool:
    other = new_future()
    other.cancel()
    other.end_cancelled()
    done, _ = concurrent.futures.wait([future, other], PATIENCE)
    assert done == {future, other}
    return future.cancelled()


def be_called(future: MiraiFuture[int]) -> bool:
    calls: list[bool] = []
    called = threading.Semaphore(0)

    def call(_: object) -> None:
        calls.append(future.cancelled())
        called.release()

    future.add_done_callback(call)
    assert called.acquire(timeout=PATIENCE)
    assert len(calls) == 1
    return calls[0]


def cancel(future: MiraiFuture[int]) -> bool:
    claimed = future.cancel()
    assert wait_for(future) is claimed
    return claimed


LOOKS = [wait_for, wait_beside_another, be_called, cancel]


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("finish", ENDS)
@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_when_it_ends_hears_of_it_once(
    look: Callable[[MiraiFuture[int]], bool], finish: Callable[[MiraiFuture[int]], None]
) -> None:
    rounds = 300
    waiting = [new_future() for _ in range(rounds)]
    gate = threading.Barrier(3)
    said: list[list[bool]] = [[], []]

    def look_at_all(mine: list[bool]) -> None:
        for future in waiting:
            gate.wait(PATIENCE)
            mine.append(look(future))

    threads = [threading.Thread(target=look_at_all, args=(mine,)) for mine in said]
    for thread in threads:
        thread.start()
    moments = random.Random(7)
    for future in waiting:
        gate.wait(PATIENCE)
        for _ in range(moments.randrange(60)):
            threading.get_ident()
        end(future, finish)
    for thread in threads:
        thread.join(PATIENCE)
    assert said[0] == said[1] == [future.cancelled() for future in waiting]
    if look is not cancel:
        assert not any(said[0])


@pytest.mark.parametrize("finish", ENDS)
def test_it_ends_once(finish: Callable[[MiraiFuture[int]], None]) -> None:
    for again, asked_before in itertools.product(ENDS, [False, True]):
        future = new_future()
        if asked_before:
            future.add_done_callback(id)
        assert future.start()
        assert future.start()  # a retry
        finish(future)
        with pytest.raises(InvalidStateError):
            again(future)
        assert not future.start()
        assert not future.cancel()
        future.end_cancelled()
        assert future.result() == 7


@pytest.mark.parametrize("finish", ENDS)
def test_one_that_is_cancelled_takes_no_result(
    finish: Callable[[MiraiFuture[int]], None],
) -> None:
    for has_started in (False, True):
        future = new_future()
        if has_started:
            future.start()
        assert future.cancel()
        assert not future.start()
        with pytest.raises(InvalidStateError):
            finish(future)
        future.end_cancelled()
        with pytest.raises(CancelledError):
            future.result()


def left_in(future: MiraiFuture[int]) -> Iterator[Callable[[], object]]:
    """What a main thread enters for a future, and never leaves if it is interrupted there."""
    waiter = _base._AllCompletedWaiter(1, stop_on_exception=False)
    future._waiters.append(waiter)
    yield future._condition.acquire
    yield future._condition.__enter__
    yield waiter.lock.__enter__
    as_completed = _base._AsCompletedWaiter()
    future._waiters.append(as_completed)
    yield as_completed.lock.__enter__


@pytest.mark.parametrize("finish", [*ENDS, MiraiFuture.end_cancelled])
def test_whatever_an_interrupt_leaves_locked_holds_up_neither_the_host_nor_others(
    finish: Callable[[MiraiFuture[int]], None],
) -> None:
    # "with lock:" in the main thread, and a KeyboardInterrupt after its __enter__.
    future = new_future()
    for enter in left_in(future):
        enter()
    told: list[object] = []
    future.add_done_callback(told.append)
    host = threading.Thread(target=end, args=(future, finish), daemon=True)
    host.start()
    host.join(PATIENCE)
    assert not host.is_alive()
    assert told == [future]
    for _ in range(2):  # and the main thread can go on with it
        done, not_done = concurrent.futures.wait([future], PATIENCE)
        assert (done, not_done) == ({future}, set())
        assert list(concurrent.futures.as_completed([future], PATIENCE)) == [future]
    assert future.cancelled() == (finish is MiraiFuture.end_cancelled)


def test_the_package_makes_no_lock_that_is_not_accounted_for() -> None:
    # A lock of the main thread's that the host thread takes, too, may stay locked for ever.
    makers = {"Lock", "RLock", "allocate_lock", "Condition", "Event", "Semaphore", "Barrier"}
    found = {
        f"{path.relative_to(PACKAGE)}: {ast.unparse(node)}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in makers
    }
    assert found == {
        "_host/_host_thread.py: threading.Lock()",  # the host thread's own, never waited for
        "_host/_jobs.py: threading.Event()",  # of the host thread and one of an engine
        "_host/_registry.py: threading.RLock()",  # the main thread takes it in C, around a fork
        "_local/_relay.py: threading.Lock()",  # of the relay thread and the host thread
        "launchers/_dask_tasks.py: threading.Lock()",  # of threads of Dask's and its own
        "launchers/_kubectl.py: threading.Lock()",  # who cancels pods waits for seconds at most
        "_waiting.py: threading.Lock()",  # each of one thread, and others only release it
    }


class Race:
    """Futures that end one by one on a thread, while others wait for all of them."""

    def __init__(self, moments: random.Random, finish: Callable[[MiraiFuture[int]], None]) -> None:
        self.futures = [new_future() for _ in range(4)]
        self._delays = [moments.randrange(40) for _ in self.futures]
        self._cancelled = moments.choice(self.futures)
        self._finish = finish
        self._gate = threading.Barrier(3)
        self.came: list[Future[int]] = []
        self.first: set[Future[int]] = set()
        self.done: set[Future[int]] = set()

    def run(self) -> None:
        threads = [threading.Thread(target=each) for each in (self._end, self._follow)]
        for thread in threads:
            thread.start()
        self._gate.wait(PATIENCE)
        first = concurrent.futures.FIRST_COMPLETED
        self.first = concurrent.futures.wait(self.futures, PATIENCE, first).done
        self.done = concurrent.futures.wait(self.futures, PATIENCE).done
        for thread in threads:
            thread.join(PATIENCE)

    def _end(self) -> None:
        self._gate.wait(PATIENCE)
        for future, delay in zip(self.futures, self._delays, strict=True):
            for _ in range(delay):
                threading.get_ident()
            if future is self._cancelled:
                future.cancel()
            end(future, self._finish)

    def _follow(self) -> None:
        self._gate.wait(PATIENCE)
        self.came.extend(concurrent.futures.as_completed(self.futures, PATIENCE))


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("finish", ENDS)
def test_wait_and_as_completed_see_each_end_once_whenever_it_comes(
    finish: Callable[[MiraiFuture[int]], None],
) -> None:
    moments = random.Random(11)
    for _ in range(150):
        race = Race(moments, finish)
        race.run()
        assert race.first
        assert race.done == set(race.futures)
        assert sorted(race.came, key=id) == sorted(race.futures, key=id)


class Ending(MiraiFuture[int]):
    """Ends when it is looked at, or word is left with it, for the n-th time."""

    at, looks = 0, 0

    def look(self) -> None:
        self.looks += 1
        if self.looks == self.at:
            thread = threading.Thread(target=self.finish)
            thread.start()
            thread.join(PATIENCE)

    def finish(self) -> None:
        self.set_value(7)

    @property
    def _state(self) -> str:  # type: ignore[override]
        self.look()
        return super()._state

    @property
    def _waiters(self) -> Any:  # type: ignore[override]
        self.look()
        return self._condition


class Failing(Ending):
    def finish(self) -> None:
        self.set_exception(ValueError())


@pytest.mark.parametrize("kind", [Ending, Failing])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_end_between_two_looks_of_wait_is_not_missed(kind: type[Ending], at: int) -> None:
    how = (
        concurrent.futures.FIRST_EXCEPTION if kind is Failing else concurrent.futures.ALL_COMPLETED
    )
    for others in (0, 2):
        future = kind(TaskId(1), Nobody())
        future.at = at
        beside = [new_future() for _ in range(others)]
        if kind is Ending:
            for other in beside:
                other.set_value(7)
        result = concurrent.futures.wait([future, *beside], PATIENCE, how)
        assert future.looks >= at, "it did not end while wait looked"
        assert future in result.done
        assert not result.not_done - set(beside)
        future = kind(TaskId(1), Nobody())
        future.at = min(at, 2)  # it does not count
        waiting: list[MiraiFuture[int]] = [future]
        assert list(concurrent.futures.as_completed(waiting, PATIENCE)) == waiting


class Listener:
    """A waiter that is not of the standard library."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def add_result(self, future: Any) -> None:
        self.heard.append(future)


def test_a_waiter_is_not_taken_for_one_that_was_at_the_same_address() -> None:
    future: Any = new_future()
    first, second = Listener(), Listener()
    future._waiters.append(first)
    future.set_value(7)
    assert first.heard == [future]
    future._waiters.remove(first)
    # As if it had been made in the place of the first one, which is gone.
    future._audience._told[id(second)] = future._audience._told[id(first)]
    future._waiters.append(second)  # it looked before the end came, and was made after it
    assert second.heard == [future]


def test_wait_wakes_up_for_an_error_if_asked_and_else_for_the_last() -> None:
    for return_when, ended in (
        (concurrent.futures.FIRST_EXCEPTION, 2),
        (concurrent.futures.ALL_COMPLETED, 3),
    ):
        waiting = [new_future() for _ in range(3)]
        results: list[Any] = []
        thread = threading.Thread(
            target=lambda waiting=waiting, how=return_when, results=results: results.append(
                concurrent.futures.wait(waiting, PATIENCE, how)
            )
        )
        thread.start()
        while not all(future._audience for future in waiting):
            threading.Event().wait(0.001)
        waiting[0].set_value(7)
        waiting[1].set_exception(ValueError())
        if ended == 3:
            waiting[2].set_value(7)
        thread.join(PATIENCE)
        assert results == [(set(waiting[:ended]), set(waiting[ended:]))]


def test_wait_takes_ours_beside_those_of_the_standard_library() -> None:
    for order in itertools.permutations(range(4)):
        ours = [new_future(), new_future()]
        theirs: list[Future[int]] = [Future(), Future()]
        mixed: list[Future[int]] = [*ours, *theirs]
        results: list[Any] = []
        thread = threading.Thread(
            target=lambda mixed=mixed, results=results: results.append(
                concurrent.futures.wait(mixed, PATIENCE)
            )
        )
        thread.start()
        for i in order:
            mixed[i].set_result(i)
        thread.join(PATIENCE)
        assert results == [(set(mixed), set())]


def test_a_wait_that_times_out_says_what_has_ended() -> None:
    ended, open_ = new_future(), new_future()
    ended.set_value(7)
    assert concurrent.futures.wait([ended, open_], 0.01) == ({ended}, {open_})
    with pytest.raises(TimeoutError):
        list(concurrent.futures.as_completed([ended, open_], 0.01))
    with pytest.raises(TimeoutError):
        open_.result(0.01)
    assert open_._audience == []


def test_two_threads_that_decode_at_once_get_the_same_object() -> None:
    gate = threading.Barrier(2)

    def decode(_: object) -> object:
        gate.wait(PATIENCE)  # both are here
        return object()

    future: MiraiFuture[object] = MiraiFuture(TaskId(1), Nobody())
    future.set_outcome(decode, None, failed=False)
    got: list[object] = []
    threads = [threading.Thread(target=lambda: got.append(future.result())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert got[0] is got[1] is future.result()


def test_a_task_that_was_cancelled_before_it_started_never_starts() -> None:
    for _ in range(200):
        future: MiraiFuture[int] = MiraiFuture(TaskId(1), Nobody(), cancel_running=False)
        gate = threading.Barrier(2)
        started: list[bool] = []

        def start(
            future: MiraiFuture[int] = future,
            gate: threading.Barrier = gate,
            started: list[bool] = started,
        ) -> None:
            gate.wait(PATIENCE)
            started.append(future.start())

        thread = threading.Thread(target=start)
        thread.start()
        gate.wait(PATIENCE)
        cancelled = future.cancel()
        thread.join(PATIENCE)
        assert started == [not cancelled]
        assert future.cancelled() == cancelled
        assert future.running() != cancelled


def test_the_base_class_called_by_name_sees_what_ours_see() -> None:
    future = new_future()
    ending = threading.Thread(target=end, args=(future, with_bytes))
    assert not Future.done(future)
    with pytest.raises(TimeoutError):
        Future.result(future, 0.01)
    ending.start()
    assert Future.result(future, PATIENCE) == 7
    assert Future.exception(future) is None
    assert Future.done(future)
    ending.join(PATIENCE)


def test_a_future_is_told_to_run_as_one_of_the_standard_library() -> None:
    future = new_future()
    assert future.set_running_or_notify_cancel()
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    future = new_future()
    future.cancel()
    done: list[object] = []
    future.add_done_callback(done.append)
    assert not future.set_running_or_notify_cancel()
    assert concurrent.futures.wait([future], 0).done == {future}
    assert done == [future]


# cancel_on_interrupt


class Interrupted:
    """Has whoever waits struck by a KeyboardInterrupt, and notes what is cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []

    def cancel(self, task: TaskId, *, running: bool) -> None:
        if running:
            self.cancelled.append(task)

    def owns_this_thread(self) -> bool:
        raise KeyboardInterrupt

    def futures(self, *, cancel: bool = True) -> list[MiraiFuture[int]]:
        return [MiraiFuture(TaskId(n), self, cancel_on_interrupt=cancel) for n in range(3)]


WAITS: dict[str, Callable[[list[MiraiFuture[int]]], object]] = {
    "result": lambda futures: futures[0].result(),
    "exception": lambda futures: futures[0].exception(),
    "map": lambda futures: next(MapResults(iter([*futures, None]).__next__, None, None)),
    "collect": collect,
    "wait": concurrent.futures.wait,
    "as_completed": lambda futures: next(concurrent.futures.as_completed(futures)),
}
CANCELLED = {way: {0, 1, 2} for way in WAITS} | {"result": {0}, "exception": {0}}


@pytest.mark.parametrize("way", WAITS)
def test_an_interrupt_cancels_what_was_waited_for_if_that_is_asked_for(way: str) -> None:
    struck = Interrupted()
    futures = struck.futures()
    with pytest.raises(KeyboardInterrupt):
        WAITS[way](futures)
    assert set(struck.cancelled) == CANCELLED[way]
    assert {future.id for future in futures if future.cancelled()} == CANCELLED[way]


@pytest.mark.parametrize("way", WAITS)
def test_an_interrupt_stops_nothing_that_runs_unless_that_is_asked_for(way: str) -> None:
    struck = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        WAITS[way](struck.futures(cancel=False))
    assert struck.cancelled == []


@pytest.mark.parametrize("shell", [None, object()])
def test_interrupts_cancel_by_default_where_ipython_runs(
    shell: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    ipython: Any = ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with MiraiExecutor(mode="inline") as executor:
        assert executor.submit(abs, -1)._cancels_on_interrupt is (shell is not None)
        view = executor.with_options(cancel_on_interrupt=False)
        assert not view.submit(abs, -1)._cancels_on_interrupt
