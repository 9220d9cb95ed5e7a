"""An executor from its constructor to its end: what there is at each moment, and what is left."""

import functools
import gc
import inspect
import logging
import os
import signal
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import pytest

import elsewhere
from live.hosts import PATIENCE, run, script
from live.mischief import wait_for_ever
from mirai_executor import DaemonLostError, Info, MiraiExecutor, Status
from mirai_executor._core import Dispatcher

AFTER_SHUTDOWN = "^cannot schedule new futures after shutdown$"


class Gate:
    """A FIFO that tasks wait at, until it is opened."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        os.mkfifo(self.path)
        self._held = os.open(self.path, os.O_RDWR)  # so that nobody waits for a writer

    def open(self, tasks: int = 1) -> None:
        os.write(self._held, b"x" * tasks)

    def close(self) -> None:
        os.close(self._held)


def pass_gate(path: Path, value: Any = None) -> Any:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.read(fd, 1)
    finally:
        os.close(fd)
    return value


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.close()


# Before anything runs


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_the_constructor_starts_nothing() -> None:
    ended = run("""
        def belongings():
            return threading.active_count(), len(os.listdir("/proc/self/fd"))

        before = belongings()
        executor = MiraiExecutor(4, None, say, ("never",), idle_time=1)
        view = executor.with_options(timeout=5)
        say(belongings() == before, "pynng" in sys.modules, "cloudpickle" in sys.modules)
        executor.status(), executor.info(), repr(executor), executor.size, view.size
        executor.shutdown()
        say(belongings() == before, "pynng" in sys.modules)
    """)
    assert (ended.out, ended.err) == ("True False False\nTrue False\n", "")


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_nothing_is_the_status_of_an_executor_before_its_first_task() -> None:
    executor = MiraiExecutor(2)
    assert executor.status() == Status(0, None, 0, 0, 0, ())
    assert executor.info() == Info(0, 0, 0, 0, 0)
    executor.shutdown()


def test_the_first_status_counts_what_was_just_submitted(gate: Gate) -> None:
    with MiraiExecutor(1) as executor:
        futures = [executor.submit(pass_gate, gate.path) for _ in range(3)]
        status = executor.status()
        assert status.awaiting + status.executing == 3
        gate.open(3)
        wait(futures)


# Daemons


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_one_task_after_the_other_needs_one_daemon() -> None:
    with MiraiExecutor(4) as executor:
        pids = {executor.submit(os.getpid).result(PATIENCE) for _ in range(10)}
        assert len(pids) == executor.info().cumulative == len(executor.status().rows) == 1


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_there_are_as_many_daemons_as_tasks_at_once_and_no_more(gate: Gate) -> None:
    with MiraiExecutor(4) as executor:
        futures = [executor.submit(pass_gate, gate.path) for _ in range(2)]
        assert len(executor.status().rows) == 2
        futures += [executor.submit(pass_gate, gate.path) for _ in range(9)]
        assert len(executor.status().rows) == 4
        gate.open(len(futures))
        wait(futures)
        assert len(executor.status().rows) <= 4


def test_wait_ready_starts_all_daemons_and_returns_when_they_are_connected() -> None:
    with MiraiExecutor(3) as executor:
        executor.wait_ready(PATIENCE)
        status = executor.status()
        assert status.connections == len(status.rows) == 3
        assert {row.state for row in status.rows} == {"ready"}
        executor.wait_ready(0.0)


@pytest.mark.local_link("daemons elsewhere do not start by themselves")
def test_wait_ready_gives_up_after_its_timeout_and_the_daemons_come_all_the_same(
    gate: Gate,
) -> None:
    with MiraiExecutor(1, None, pass_gate, (gate.path,)) as executor:
        with pytest.raises(TimeoutError):
            executor.wait_ready(0.01)
        assert [row.state for row in executor.status().rows] == ["starting"]
        gate.open()
        executor.wait_ready(PATIENCE)
        assert executor.info().cumulative == 1


@pytest.mark.local_link("daemons elsewhere are not replaced")
def test_wait_ready_waits_for_no_daemon_whose_end_is_noticed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with MiraiExecutor(2) as executor:
        executor.wait_ready(PATIENCE)
        pid = executor.status().rows[0].pid
        put = executor._host._put

        def put_and_lose_a_daemon(item: Any) -> None:
            put(item)
            monkeypatch.undo()
            os.kill(pid, signal.SIGKILL)
            while pid in {row.pid for row in executor.status().rows}:
                pass

        monkeypatch.setattr(executor._host, "_put", put_and_lose_a_daemon)
        executor.wait_ready(PATIENCE)
        executor.wait_ready(PATIENCE)
        assert executor.status().connections == 2


def test_wait_ready_in_a_callback_is_an_error_and_no_deadlock() -> None:
    raised: Future[BaseException] = Future()

    def ask(_: Future[int]) -> None:
        try:
            executor.wait_ready()
        except RuntimeError as error:
            raised.set_result(error)

    with MiraiExecutor(1) as executor:
        executor.submit(abs, -1).add_done_callback(ask)
        assert "callback" in str(raised.result(PATIENCE))


def ask_for_the_next(executor: MiraiExecutor) -> int:
    return executor.submit(abs, -1).result()


@pytest.mark.parametrize(
    "wait_in_vain",
    [
        ask_for_the_next,
        lambda executor: executor.submit(abs, -1).result(3600),
        lambda executor: executor.with_options(retries=1).submit(abs, -1).exception(),
        lambda executor: next(executor.map(abs, [1])),
        lambda executor: executor.everywhere(abs, 1)[0].result(),
        lambda executor: Future.result(executor.submit(abs, -1)),
        lambda executor: wait([executor.submit(abs, -1)]),
        lambda executor: wait([Future(), executor.submit(abs, -1)]),
        lambda executor: next(as_completed([executor.submit(abs, -1)])),
    ],
)
def test_to_wait_for_a_task_in_a_callback_is_an_error_and_no_deadlock(
    wait_in_vain: Callable[[MiraiExecutor], object],
) -> None:
    raised: Future[str] = Future()

    def ask(_: Future[int]) -> None:
        try:
            wait_in_vain(executor)
        except RuntimeError as error:
            raised.set_result(str(error))

    with MiraiExecutor(1) as executor:
        executor.submit(abs, -1).add_done_callback(ask)
        assert "in a callback of a future, this would wait for itself" in raised.result(PATIENCE)
        assert executor.submit(abs, -2).result(PATIENCE) == 2


def test_a_callback_may_look_at_futures_and_wait_for_those_of_others() -> None:
    with MiraiExecutor(1) as executor, MiraiExecutor(1) as other:
        seen: Future[object] = Future()

        def look(done: Future[int]) -> None:
            pending = executor.submit(abs, -1)
            theirs = other.submit(abs, -3)
            ended, _ = wait([pending, done], 0)
            first, _ = wait([pending, theirs], PATIENCE, FIRST_COMPLETED)
            try:
                pending.result(timeout=0)
            except TimeoutError:
                seen.set_result((done.result(), ended == {done}, first == {theirs}))

        executor.submit(abs, -2).add_done_callback(look)
        assert seen.result(PATIENCE) == (2, True, True)


def test_wait_ready_after_shutdown_is_an_error() -> None:
    executor = MiraiExecutor(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
        executor.wait_ready()


def test_the_counts_add_up_during_and_after(gate: Gate) -> None:
    with MiraiExecutor(1) as executor:
        done = executor.submit(abs, -1)
        assert done.result(PATIENCE) == 1
        futures = [executor.submit(pass_gate, gate.path) for _ in range(3)]
        status = executor.status()
        assert (status.awaiting, status.executing, status.completed) == (2, 1, 1)
        assert [(row.state, row.tasks) for row in status.rows] == [("busy", 1)]
        assert executor.info() == Info(1, 1, 2, 1, 1)
        gate.open(3)
        wait(futures)
    url = executor.url if elsewhere.is_chosen() else None
    after = executor.status()
    assert all("not needed any more" in text for text in after.departures)
    assert after == Status(0, url, 0, 0, 4, (), departures=after.departures)
    assert executor.info() == Info(0, 1, 0, 0, 4)


def test_a_status_is_a_frozen_picture() -> None:
    with MiraiExecutor(1) as executor:
        status = executor.status()
        with pytest.raises(AttributeError):
            status.awaiting = 5  # type: ignore[misc]  # the error under test


# Signatures


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("submit", "(self, fn, /, *args, **kwargs)"),
        # The last keywords are ours; all others are as there.
        (
            "map",
            "(self, fn, *iterables, timeout=None, chunksize=1, buffersize=None, progress=False)",
        ),
        ("shutdown", "(self, wait=True, *, cancel_futures=False, cancel_running=False)"),
        ("terminate_workers", "(self)"),
        ("kill_workers", "(self)"),
    ],
)
def test_signatures_are_those_of_python_3_14(method: str, signature: str) -> None:
    theirs = inspect.signature(getattr(MiraiExecutor, method))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in theirs.parameters.values()]
    assert str(inspect.Signature(bare)) == signature


# Shutdown


@pytest.mark.parametrize("cancel", [False, True], ids=["", "cancel_futures"])
@pytest.mark.parametrize("waits", [True, False], ids=["wait", "no wait"])
def test_a_shutdown_ends_what_was_accepted(gate: Gate, waits: bool, cancel: bool) -> None:
    executor = MiraiExecutor(1)
    executor.wait_ready(PATIENCE)
    running = executor.submit(pass_gate, gate.path, "ran")
    queued = [executor.submit(abs, -n) for n in range(5)]

    def open_gate() -> None:
        if cancel:  # else the daemon could be done with all of them before it comes to that
            wait(queued[1:], PATIENCE)
        gate.open()

    opener = threading.Thread(target=open_gate)
    if waits:
        opener.start()
    executor.shutdown(waits, cancel_futures=cancel)
    if waits:
        assert all(future.done() for future in (running, *queued))
        opener.join()
    else:
        open_gate()
    with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
        executor.submit(abs, -1)
    assert running.result(PATIENCE) == "ran"
    if cancel:
        assert not wait(queued, PATIENCE).not_done
        assert all(future.cancelled() for future in queued[1:])
    else:
        assert [future.result(PATIENCE) for future in queued] == list(range(5))
    executor.shutdown()


def test_a_shutdown_may_be_repeated_and_come_from_many_threads() -> None:
    executor = MiraiExecutor(2)
    futures = [executor.submit(abs, -n) for n in range(100)]
    threads = [threading.Thread(target=executor.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [future.result(0) for future in futures] == list(range(100))
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)


def test_a_later_shutdown_may_cancel_what_an_earlier_one_has_let_run(gate: Gate) -> None:
    executor = MiraiExecutor(1)
    executor.wait_ready(PATIENCE)
    running = executor.submit(pass_gate, gate.path)
    queued = [executor.submit(abs, -n) for n in range(5)]
    executor.shutdown(wait=False)
    executor.shutdown(wait=False, cancel_futures=True)
    assert not wait(queued, PATIENCE).not_done
    assert all(future.cancelled() for future in queued)
    gate.open()
    executor.shutdown()
    assert running.done()


@pytest.mark.parametrize("cancel", [False, True], ids=["", "cancel_futures"])
def test_a_shutdown_while_daemons_start_hangs_for_nobody(cancel: bool) -> None:
    executor = MiraiExecutor(2)
    futures = [executor.submit(abs, -n) for n in range(20)]
    executor.shutdown(cancel_futures=cancel)
    assert all(future.done() for future in futures)
    if not cancel:
        assert [future.result() for future in futures] == list(range(20))


def test_a_shutdown_drains_thousands() -> None:
    executor = MiraiExecutor(2)
    futures = [executor.submit(abs, -n) for n in range(5000)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == list(range(5000))


def test_a_shutdown_cancels_thousands(gate: Gate) -> None:
    executor = MiraiExecutor(1)
    executor.wait_ready(PATIENCE)
    running = executor.submit(pass_gate, gate.path, "ran")
    futures = [executor.submit(abs, -n) for n in range(5000)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert not wait(futures, PATIENCE).not_done
    assert all(future.cancelled() for future in futures)
    gate.open()
    assert running.result(PATIENCE) == "ran"
    executor.shutdown()


def test_a_shutdown_in_a_callback_returns_and_ends_the_executor() -> None:
    returned: Future[str] = Future()

    def end(_: Future[int]) -> None:
        executor.shutdown(wait=True)
        returned.set_result("returned")

    executor = MiraiExecutor(1)
    executor.submit(abs, -1).add_done_callback(end)
    assert returned.result(PATIENCE) == "returned"
    with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
        executor.submit(abs, -1)
    executor.shutdown()


def test_a_view_shuts_nothing_down() -> None:
    with MiraiExecutor(1) as executor:
        with executor.with_options(timeout=60) as view:
            assert view.submit(abs, -1).result(PATIENCE) == 1
        assert view.submit(abs, -2).result(PATIENCE) == 2
    with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
        view.submit(abs, -3)


@pytest.mark.parametrize(
    ("end", "signum"),
    [
        (MiraiExecutor.terminate_workers, signal.SIGTERM),
        (MiraiExecutor.kill_workers, signal.SIGKILL),
    ],
)
def test_workers_can_be_ended_by_force(
    tmp_path: Path, end: Callable[[MiraiExecutor], None], signum: int
) -> None:
    executor = MiraiExecutor(1)
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    running = executor.submit(report_and_wait, begun)
    assert begun.read_text() == "begun"
    queued = executor.submit(abs, -1)
    end(executor)
    error = running.exception(PATIENCE)
    assert isinstance(error, DaemonLostError)
    assert error.exitcode == -signum
    with pytest.raises(CancelledError):
        queued.result(PATIENCE)
    with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
        executor.submit(abs, -1)
    executor.shutdown()
    end(executor)


def report_and_wait(path: Path) -> None:
    path.write_text("begun")
    wait_for_ever()


@pytest.mark.parametrize("end", [MiraiExecutor.terminate_workers, MiraiExecutor.kill_workers])
def test_ending_workers_that_never_were_is_a_shutdown(
    end: Callable[[MiraiExecutor], None],
) -> None:
    executor = MiraiExecutor(1)
    end(executor)
    with pytest.raises(RuntimeError, match=AFTER_SHUTDOWN):
        executor.submit(abs, -1)


@pytest.mark.parametrize("end", [MiraiExecutor.terminate_workers, MiraiExecutor.kill_workers])
def test_ending_workers_whose_host_thread_has_failed_is_no_error(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[MiraiExecutor], None]
) -> None:
    executor = MiraiExecutor(1)
    executor.wait_ready(PATIENCE)

    def fail(*_: object) -> None:
        raise AssertionError("a mistake of ours")

    monkeypatch.setattr(Dispatcher, "handle_all", fail)
    assert isinstance(executor.submit(abs, -1).exception(PATIENCE), RuntimeError)
    end(executor)  # while the thread ends, or after that
    executor.shutdown()
    end(executor)


def test_an_error_leaves_the_with_block_after_all_tasks() -> None:
    with pytest.raises(ZeroDivisionError), MiraiExecutor(2) as executor:  # noqa: PT012 - as users
        futures = [executor.submit(abs, -n) for n in range(50)]
        1 / 0  # noqa: B018 - the error
    assert [future.result(0) for future in futures] == list(range(50))


# Dropped without shutdown


def test_an_executor_that_is_dropped_finishes_and_leaves_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        futures = [MiraiExecutor(1).submit(abs, -n) for n in range(3)]
        assert [future.result(PATIENCE) for future in futures] == [0, 1, 2]
        gc.collect()


def test_an_executor_in_a_cycle_ends_when_it_is_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.me = self
            self.executor = MiraiExecutor(1)

    future = Owner().executor.submit(abs, -1)
    assert future.result(PATIENCE) == 1
    gc.collect()


def test_a_map_outlives_the_executor_that_was_dropped() -> None:
    results = MiraiExecutor(1).map(abs, range(-50, 0))
    assert next(results) == 50
    assert list(results) == list(range(49, 0, -1))


def test_executors_that_are_dropped_by_the_dozen_are_all_gone() -> None:
    ended = run("""
        futures = []
        for n in range(12):
            futures.append(MiraiExecutor(1).submit(abs, -n))
        say(sorted(future.result() for future in futures) == list(range(12)))
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join(20)
        say(threading.active_count())
    """)
    assert (ended.out, ended.err) == ("True\n1\n", "")


# References


class Payload:
    """Something that can be pickled, and watched."""


def give(value: Any) -> Any:
    return value


def let_go(watched: "weakref.ref[Any]") -> bool:
    """Collect, until the object is gone or patience ends."""
    gone = threading.Event()
    if (value := watched()) is None:
        return True
    weakref.finalize(value, gone.set)
    del value
    gc.collect()
    return gone.wait(5.0)


def test_an_argument_is_let_go_when_its_task_has_ended() -> None:
    with MiraiExecutor(1) as executor:
        payload = Payload()
        watched = weakref.ref(payload)
        future = executor.submit(give, payload)
        del payload
        future.result(PATIENCE)
        assert let_go(watched)


def test_a_submitted_object_is_let_go_though_its_future_is_dropped() -> None:
    with MiraiExecutor(1) as executor:
        payload = Payload()
        watched = weakref.ref(payload)
        executor.submit(give, payload)
        del payload
        assert let_go(watched)


def test_a_result_is_let_go_with_its_future() -> None:
    with MiraiExecutor(1) as executor:
        future = executor.submit(give, Payload())
        watched = weakref.ref(future.result(PATIENCE))
        del future
        assert let_go(watched)


class WatchedError(Exception):
    """An error that can be watched."""


def fail() -> None:
    raise WatchedError


def test_an_exception_is_let_go_with_its_future() -> None:
    with MiraiExecutor(1) as executor:
        future = executor.submit(fail)
        watched = weakref.ref(future.exception(PATIENCE))
        del future
        assert let_go(watched)


def test_a_cancelled_task_lets_go_of_its_callback(gate: Gate) -> None:
    with MiraiExecutor(1) as executor:
        busy = executor.submit(pass_gate, gate.path)
        future = executor.submit(abs, -1)
        payload = Payload()
        watched = weakref.ref(payload)
        future.add_done_callback(functools.partial(lambda _, __: None, payload))
        future.cancel()
        del payload, future
        gate.open()
        busy.result(PATIENCE)
        assert let_go(watched)


@pytest.mark.parametrize("options", [{}, {"buffersize": 2}, {"chunksize": 2}])
def test_a_map_keeps_no_result_that_it_has_yielded(options: dict[str, Any]) -> None:
    with MiraiExecutor(1) as executor:
        for result in executor.map(give, [Payload() for _ in range(6)], **options):
            watched = weakref.ref(result)
            del result
            assert let_go(watched)


def test_a_dropped_executor_is_collected_though_a_future_of_its_is_kept() -> None:
    executor = MiraiExecutor(1)
    future = executor.submit(abs, -1)
    watched = weakref.ref(executor)
    del executor
    assert let_go(watched)
    assert future.result(PATIENCE) == 1


# Callbacks


def test_callbacks_may_do_all_that_users_do_in_them() -> None:
    done: Future[int] = Future()

    def first(future: Future[int]) -> None:
        other = executor.submit(wait_for_ever)
        other.add_done_callback(second)
        assert executor.status().completed >= 1
        assert repr(future)
        assert other.cancel()

    def second(future: Future[None]) -> None:
        assert future.cancelled()
        executor.submit(abs, -7).add_done_callback(lambda last: done.set_result(last.result()))

    with MiraiExecutor(2) as executor:
        executor.submit(abs, -1).add_done_callback(first)
        assert done.result(PATIENCE) == 7


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_error_of_a_callback_is_logged_once_and_stops_nothing(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def raise_it(_: Future[int]) -> None:
        raise error("in a callback")

    with MiraiExecutor(1) as executor, caplog.at_level(logging.ERROR):
        future = executor.submit(abs, -1)
        after: Future[None] = Future()
        future.add_done_callback(raise_it)
        future.add_done_callback(lambda _: after.set_result(None))
        after.result(PATIENCE)
        assert executor.submit(abs, -2).result(PATIENCE) == 2
    assert [record.getMessage().split()[:2] for record in caplog.records] in (
        [["exception", "calling"]],
        [],  # the callbacks were added when it was done already: the standard library's business
    )
    caplog.clear()


def test_no_lock_is_held_in_a_callback() -> None:
    free: Future[list[bool]] = Future()

    def look(future: Future[int]) -> None:
        # Another thread can do all there is to do, while this one waits for it.
        thread = threading.Thread(target=use_everything, args=(future,))
        thread.start()
        thread.join(PATIENCE)
        free.set_result([not thread.is_alive()])

    def use_everything(future: Future[int]) -> None:
        future.done(), future.result(0), future.cancel(), repr(future)
        future.add_done_callback(lambda _: None)
        executor.submit(abs, -1).cancel()
        executor.shutdown(wait=False)

    executor = MiraiExecutor(1)
    executor.submit(abs, -1).add_done_callback(look)
    assert free.result(PATIENCE) == [True]
    executor.shutdown()


class Flood:
    """Submits from many threads, and once more from the callback of each task."""

    def __init__(self, executor: MiraiExecutor, threads: int, each: int) -> None:
        self._executor = executor
        self._each = each
        self._expected = 2 * threads * each
        self.heard: list[int] = []
        self.all_heard = threading.Event()
        self.threads = [threading.Thread(target=self._submit, args=(n,)) for n in range(threads)]

    def _submit(self, thread: int) -> None:
        for n in range(thread * self._each, (thread + 1) * self._each):
            self._executor.submit(abs, -n).add_done_callback(self._submit_again)

    def _submit_again(self, future: Future[int]) -> None:
        self._hear(future)
        self._executor.submit(abs, -future.result()).add_done_callback(self._hear)
        if future.result() % 7 == 0:
            raise ValueError("in a callback")

    def _hear(self, future: Future[int]) -> None:
        self.heard.append(future.result())
        if len(self.heard) == self._expected:
            self.all_heard.set()


def test_a_flood_of_submits_from_sixty_four_threads_and_their_callbacks_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("concurrent.futures"), "disabled", True)
    with MiraiExecutor(2) as executor:
        flood = Flood(executor, threads=64, each=20)
        for thread in flood.threads:
            thread.start()
        for thread in flood.threads:
            thread.join(PATIENCE)
        assert flood.all_heard.wait(PATIENCE)
    assert sorted(flood.heard) == sorted(2 * list(range(64 * 20)))


def test_a_shutdown_amid_submits_of_many_threads_refuses_or_runs_each() -> None:
    executor = MiraiExecutor(2)
    accepted: list[Future[int]] = []
    begun = threading.Barrier(9)

    def submit_until_refused() -> None:
        begun.wait()
        try:
            while True:
                accepted.append(executor.submit(abs, -1))
        except RuntimeError:
            return

    threads = [threading.Thread(target=submit_until_refused) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait()
    executor.submit(abs, -1).result(PATIENCE)
    executor.shutdown(wait=False, cancel_futures=True)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    executor.shutdown()
    assert not wait(accepted, PATIENCE).not_done
    for future in accepted:
        # Accepted, cancelled, or refused a moment too late to be told by submit itself.
        assert future.cancelled() or future.exception() is None or refused(future)


def refused(future: Future[int]) -> bool:
    return str(future.exception()) == "cannot schedule new futures after shutdown"


def test_everywhere_that_a_shutdown_drops_is_cancelled(gate: Gate) -> None:
    executor = MiraiExecutor(1)
    executor.wait_ready(PATIENCE)
    running = executor.submit(pass_gate, gate.path, "ran")
    (future,) = executor.everywhere("never = 1")
    executor.shutdown(wait=False, cancel_futures=True)
    executor.status()  # is answered after the shutdown has been heard
    gate.open()
    assert running.result(PATIENCE) == "ran"
    executor.shutdown()
    assert future.cancelled()


def test_nothing_of_the_machinery_of_process_pool_executor_runs() -> None:
    with MiraiExecutor(1) as executor:
        assert isinstance(executor, Executor)
        executor.submit(abs, -1).result(PATIENCE)
        assert not hasattr(executor, "_executor_manager_thread")


@pytest.mark.local_link("processes on other machines are nothing to look at here")
def test_who_monitors_it_finds_its_processes_and_counts_its_tasks(gate: Gate) -> None:
    executor = MiraiExecutor(2)
    assert (dict(executor._processes), len(executor._pending_work_items)) == ({}, 0)
    futures = [executor.submit(pass_gate, gate.path, n) for n in range(5)]
    executor.wait_ready(PATIENCE)
    assert len(executor._pending_work_items) == 5
    pids = {row.pid for row in executor.status().rows}
    processes = executor._processes
    assert set(processes) == processes.keys() == pids
    assert len(processes) == 2
    assert {each.name for each in processes.values()} == {"MiraiDaemon-1", "MiraiDaemon-2"}
    for pid, process in processes.items():
        assert (process.pid, process.is_alive(), process.exitcode) == (pid, True, None)
    gate.open(5)
    assert [future.result(PATIENCE) for future in futures] == list(range(5))
    assert not executor._pending_work_items
    executor.shutdown()
    assert [(each.is_alive(), each.exitcode) for each in processes.values()] == [(False, 0)] * 2
    assert (dict(executor._processes), len(executor._pending_work_items)) == ({}, 0)


def test_a_script_that_is_stopped_and_continued_goes_on() -> None:
    with script("""
        executor = MiraiExecutor(1)
        executor.wait_ready()
        say("ready")
        sys.stdin.readline()
        say(executor.submit(abs, -4).result())
    """) as host:
        assert host.line() == "ready"
        host.kill(signal.SIGSTOP)
        host.kill(signal.SIGCONT)
        host.go_on()
        assert host.line() == "4"
        assert host.end().code == 0


@pytest.mark.local_link("the commands that start daemons elsewhere have pipes of their own")
def test_an_error_that_was_looked_at_on_the_host_thread_keeps_no_descriptor_open() -> None:
    def pipes() -> set[str]:
        entries = [entry for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
        return {str(entry.readlink()) for entry in entries if entry.is_fifo()}

    before = pipes()
    errors: list[BaseException | None] = []
    looked = threading.Event()
    with MiraiExecutor(1) as executor:
        future: Future[Any] = executor.submit(lambda: int("no number"))
        wait([future], PATIENCE)

        def look() -> None:
            errors.append(future.exception())
            looked.set()

        executor._host._put(look)  # its wake-up is the last thing that the host thread heard
        assert looked.wait(PATIENCE)
    assert isinstance(errors[0], ValueError)
    assert pipes() <= before
