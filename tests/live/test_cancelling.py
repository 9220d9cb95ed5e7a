"""Live: ``cancel()`` ends the work, and touches no other task."""

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, as_completed, wait
from pathlib import Path
from typing import Any

import pytest

from live import loops, mischief
from live.mischief import SOON, AtUnpickle, Bell, Tally, pid_of, running
from live.storms import Soak, cancel_at_random
from mirai_executor import MiraiExecutor, MiraiInterrupt


def assert_cancelled(future: "Future[Any]") -> None:
    assert future.cancelled()
    assert future.done()
    with pytest.raises(CancelledError):
        future.result(SOON)
    with pytest.raises(CancelledError):
        future.exception(SOON)


@contextlib.contextmanager
def ending_soon() -> Iterator[MiraiExecutor]:
    """Make an executor whose daemon does not take the ten seconds that it may take to end."""
    with running() as executor:
        yield executor
        begun = time.monotonic()
    assert time.monotonic() - begun < 6.0


# Queued


def test_a_cancelled_task_of_the_queue_never_runs(bell: Bell, tally: Tally) -> None:
    with running() as executor:
        busy = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        bell.wait()
        queued = [executor.submit(mischief.count_and_return, tally.path, str(n)) for n in range(9)]
        assert all(future.cancel() for future in queued[::2])
        busy.cancel()
        wait(queued, SOON)
        for future in queued[::2]:
            assert_cancelled(future)
        assert sorted(tally.counts()) == [str(n) for n in range(1, 9, 2)]


# Running


SOFT: dict[str, Callable[..., Any]] = {
    "a blocking sleep": mischief.sleep_long,
    "a loop in Python": mischief.loop_for_ever,
    "a regular expression": mischief.match_for_ever,
    "a wait for a lock": mischief.wait_for_a_lock,
    "a wait for a child": mischief.wait_for_a_child,
    "a read of a pipe": mischief.read_a_pipe,
    "an event loop": loops.run_an_event_loop,
}


@pytest.mark.parametrize("name", SOFT)
def test_cancel_stops_the_work_and_the_daemon_goes_on(name: str, bell: Bell) -> None:
    with running() as executor:
        pid = pid_of(executor)
        future = executor.submit(mischief.ring_and, bell.path, SOFT[name])
        bell.wait()
        assert future.running()
        assert future.cancel()
        assert_cancelled(future)
        assert pid_of(executor) == pid


HARD: dict[str, Callable[..., Any]] = {
    "a C function that holds the GIL": mischief.hold_the_gil,
    "a C function that never looks": mischief.raise_a_huge_power,
}


@pytest.mark.parametrize("name", HARD)
def test_a_daemon_that_does_not_let_go_is_killed_after_its_grace(name: str, bell: Bell) -> None:
    with running(cancel_grace=0.3) as executor:
        pid = pid_of(executor)
        future = executor.submit(HARD[name], bell.path)
        bell.wait_for_byte()
        begun = time.monotonic()
        assert future.cancel()
        assert_cancelled(future)
        assert pid_of(executor) != pid
        assert time.monotonic() - begun >= 0.3


def test_a_task_that_swallows_every_exception_is_killed_after_its_grace(bell: Bell) -> None:
    with running(cancel_grace=0.3) as executor:
        future = executor.submit(mischief.swallow_everything, bell.path)
        pid = int(bell.wait())
        assert future.cancel()
        assert_cancelled(future)
        assert bell.wait() == "swallowed"
        assert pid_of(executor) != pid


def test_a_task_that_swallows_the_interrupt_and_ends_keeps_its_daemon(bell: Bell) -> None:
    with running() as executor:
        future = executor.submit(mischief.swallow_once, bell.path)
        pid = int(bell.wait())
        assert future.cancel()
        assert_cancelled(future)
        assert pid_of(executor) == pid


def test_a_process_that_a_cancelled_task_has_forked_dies_with_a_killed_daemon(
    bell: Bell, tmp_path: Path
) -> None:
    children = Bell(tmp_path, "children")
    with running(cancel_grace=0.2) as executor:
        hold = functools.partial(mischief.hold_the_gil, bell.path)
        future = executor.submit(mischief.fork_and, hold, children.path)
        child = os.pidfd_open(int(children.wait()))
        try:
            bell.wait()
            assert future.cancel()
            mischief.wait_for_end(child)
        finally:
            os.close(child)
            children.close()


def write_slow_module(folder: Path, bell: Bell) -> None:
    source = f"from live.mischief import ring, sleep_long\nring({str(bell.path)!r})\nsleep_long()"
    (folder / "slow_to_import.py").write_text(source)


def test_a_daemon_interrupted_in_the_middle_of_an_import_is_replaced(
    bell: Bell, tmp_path: Path
) -> None:
    write_slow_module(tmp_path, bell)
    with running() as executor:
        pid = pid_of(executor)
        future = executor.submit(mischief.import_from, tmp_path, "slow_to_import")
        bell.wait()
        assert future.cancel()
        assert_cancelled(future)
        assert pid_of(executor) != pid


def test_a_daemon_interrupted_while_it_looks_up_a_module_that_is_there_is_kept(bell: Bell) -> None:
    with running() as executor:
        executor.submit_source("import json.decoder").result(SOON)
        pid = pid_of(executor)
        for _ in range(30):
            future = executor.submit(mischief.look_modules_up, bell.path)
            bell.wait()
            assert future.cancel()
            assert pid_of(executor) == pid


def test_a_daemon_interrupted_while_an_argument_imports_is_replaced(
    bell: Bell, tmp_path: Path
) -> None:
    write_slow_module(tmp_path, bell)
    with running() as executor:
        pid = pid_of(executor)
        load = functools.partial(mischief.import_from, tmp_path, "slow_to_import")
        future = executor.submit(id, AtUnpickle(load))
        bell.wait()
        assert future.cancel()
        assert pid_of(executor) != pid


PICKLING = ["unpickling its argument", "pickling its result"]


@pytest.mark.parametrize("when", PICKLING)
def test_a_task_can_be_cancelled_while_it_is(when: str, bell: Bell) -> None:
    slow = functools.partial(mischief.ring_and, bell.path, mischief.sleep_long)
    with running() as executor:
        if when == PICKLING[0]:
            future: Future[Any] = executor.submit(id, AtUnpickle(slow))
        else:
            future = executor.submit(mischief.give_at_pickle, slow)
        bell.wait()
        assert future.cancel()
        assert_cancelled(future)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_a_cancelled_task_is_not_held_back_by_another(bell: Bell) -> None:
    """With two daemons, the other one's task never notices."""
    with running(2) as executor:
        one = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        first = bell.wait()
        other = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        second = bell.wait()
        assert first != second
        one.cancel()
        assert pid_of(executor) == int(first)
        assert other.running()
        other.cancel()


# The contract of cancel()


@pytest.mark.parametrize("stop", ["cancel", "run_timeout"])
def test_a_shutdown_does_not_wait_for_what_a_stopped_task_has_submitted(
    bell: Bell, stop: str
) -> None:
    with ending_soon() as executor:
        executor.submit(mischief.delegate, abs, -1).result(SOON)  # imports what that needs
        view = executor.with_options(run_timeout=1.0 if stop == "run_timeout" else None)
        task = mischief.ring_and, bell.path, mischief.sleep_long
        future = view.submit(mischief.delegate, *task)
        bell.wait()
        if stop == "cancel":
            assert future.cancel()
        assert executor.submit(abs, -1).result(SOON) == 1


def test_a_shutdown_waits_for_what_later_tasks_have_submitted(bell: Bell, tally: Tally) -> None:
    with ending_soon() as executor:
        future = executor.submit(
            mischief.delegate, mischief.ring_and, bell.path, mischief.sleep_long
        )
        bell.wait()
        future.cancel()
        later = mischief.count_and_spin, tally.path, "later", 0.5
        executor.submit(mischief.delegate_and_forget, *later).result(SOON)
    assert tally.counts() == {"later": 1}


def test_a_shutdown_waits_for_what_a_task_has_left_to_the_exit_of_its_daemon(tally: Tally) -> None:
    with running() as executor:
        executor.submit(mischief.count_at_exit, tally.path, "late", 0.7).result(SOON)
    assert tally.counts() == {"late": 1}


def test_cancelling_twice_is_true_twice_and_cancelling_what_is_done_is_false(bell: Bell) -> None:
    with running() as executor:
        done = executor.submit(mischief.answer)
        assert done.result(SOON) == 42
        assert not done.cancel()
        assert done.result(SOON) == 42
        future = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        bell.wait()
        assert future.cancel()
        assert future.cancel()
        assert_cancelled(future)
        assert future.code == 20


def test_a_failed_task_cannot_be_cancelled_any_more() -> None:
    with running() as executor:
        future: Any = executor.submit(mischief.fail)
        assert isinstance(future.exception(SOON), ArithmeticError)
        assert not future.cancel()
        assert not future.cancelled()


def test_callbacks_of_a_cancelled_future_run_once(bell: Bell) -> None:
    with running() as executor:
        future = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        bell.wait()
        calls: list[bool] = []
        future.add_done_callback(lambda f: calls.append(f.cancelled()))
        future.cancel()
        future.cancel()
        assert executor.submit(mischief.answer).result(SOON) == 42
        assert calls == [True]


def test_a_callback_may_cancel_other_tasks_and_itself(bell: Bell) -> None:
    with running(2) as executor:
        others = [
            executor.submit(mischief.ring_and, bell.path, mischief.sleep_long),
            executor.submit(mischief.sleep_long),
            executor.submit(mischief.sleep_long),
        ]

        def cancel_all(_: "Future[Any]") -> None:
            for future in others:
                future.cancel()

        others[0].add_done_callback(cancel_all)
        bell.wait()
        others[0].cancel()
        wait(others, SOON)
        for future in others:
            assert_cancelled(future)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_waiters_see_a_cancelled_task_end(bell: Bell) -> None:
    with running(2) as executor:
        sleepers = [
            executor.submit(mischief.ring_and, bell.path, mischief.sleep_long) for _ in range(2)
        ]
        bell.wait(), bell.wait()
        thread = threading.Thread(target=sleepers[0].cancel)
        thread.start()
        done, rest = wait(sleepers, SOON, return_when=FIRST_COMPLETED)
        assert (done, rest) == ({sleepers[0]}, {sleepers[1]})
        thread.join()
        thread = threading.Thread(target=sleepers[1].cancel)
        thread.start()
        assert set(as_completed(sleepers, SOON)) == set(sleepers)
        thread.join()


def test_a_thread_that_waits_for_a_result_hears_of_the_cancel(bell: Bell) -> None:
    with running() as executor:
        future = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        bell.wait()
        heard: list[BaseException] = []

        def ask() -> None:
            try:
                future.result(SOON)
            except CancelledError as error:
                heard.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        future.cancel()
        thread.join(SOON)
        assert len(heard) == 1


def test_cancelling_an_awaitable_stops_the_work(bell: Bell) -> None:
    async def main(executor: MiraiExecutor) -> None:
        pid = pid_of(executor)
        loop = asyncio.get_running_loop()
        sleep = functools.partial(mischief.ring_and, bell.path, mischief.sleep_long)
        awaited = loop.run_in_executor(executor, sleep)
        await asyncio.to_thread(bell.wait)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(awaited, 0.01)
        assert await loop.run_in_executor(executor, mischief.own_pid) == pid
        future = executor.submit(sleep)
        wrapped = asyncio.wrap_future(future)
        await asyncio.to_thread(bell.wait)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        assert await loop.run_in_executor(executor, mischief.own_pid) == pid
        assert_cancelled(future)

    with running() as executor:
        asyncio.run(main(executor))


def test_a_future_cancelled_at_the_host_is_cancelled_for_asyncio_too(bell: Bell) -> None:
    async def main(executor: MiraiExecutor) -> None:
        future = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        wrapped = asyncio.wrap_future(future)
        await asyncio.to_thread(bell.wait)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped

    with running() as executor:
        asyncio.run(main(executor))


# All at once


def test_cancel_all_ends_what_runs_and_waits_and_the_executor_goes_on(bell: Bell) -> None:
    with running() as executor:
        pid = pid_of(executor)
        view = executor.with_options(cancel_running=False)
        busy = view.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        queued = [executor.submit(mischief.answer) for _ in range(3)]
        bell.wait()
        executor.cancel_all()
        for future in (busy, *queued):
            wait([future], SOON)
            assert_cancelled(future)
        assert pid_of(executor) == pid


def test_shutdown_with_cancel_running_waits_for_no_task(bell: Bell) -> None:
    with running() as executor:
        busy = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        queued = executor.submit(mischief.answer)
        bell.wait()
        executor.shutdown(cancel_running=True)
        assert_cancelled(busy)
        assert_cancelled(queued)


# cancel_running=False


def test_with_cancel_running_false_a_running_task_is_left_alone(
    tmp_path: Path, bell: Bell
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with running() as executor:
        view = executor.with_options(cancel_running=False)
        future = view.submit(mischief.ring_and, bell.path, mischief.block_until_open, gate)
        queued = view.submit(mischief.answer)
        bell.wait()
        assert not future.cancel()
        assert queued.cancel()
        assert not future.cancelled()
        gate.write_bytes(b"open")
        assert future.result(SOON) == b"open"
        assert_cancelled(queued)


def test_with_cancel_running_false_a_cancelled_task_has_not_run(tally: Tally) -> None:
    with running() as executor:
        view = executor.with_options(cancel_running=False)
        for n in range(200):
            future = view.submit(mischief.count_and_return, tally.path, str(n), n)
            if future.cancel():
                assert_cancelled(future)
            else:
                assert future.result(SOON) == n
            view.submit(mischief.answer).result(SOON)
            assert tally.counts()[str(n)] == (not future.cancelled())


def test_a_map_that_is_closed_cancels_only_what_has_not_started(
    tmp_path: Path, bell: Bell, tally: Tally
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with running() as executor:
        work = functools.partial(mischief.ring_wait_and_count, bell.path, gate, tally.path)
        results = executor.map(work, map(str, range(5)))
        bell.wait()
        results.close()  # type: ignore[attr-defined]  # as generators have it
        gate.write_bytes(b"open")
        assert executor.submit(mischief.answer).result(SOON) == 42
        assert tally.counts() == {"0": 1}


# SIGINT


def test_sigint_to_an_idle_daemon_changes_nothing() -> None:
    with running() as executor:
        pid = pid_of(executor)
        for n in range(100):
            os.kill(pid, signal.SIGINT)
            assert executor.submit(mischief.give, n).result(SOON) == n
            os.kill(pid, signal.SIGINT)
        assert pid_of(executor) == pid


def test_sigint_to_a_busy_daemon_ends_its_task_in_mirai_interrupt(bell: Bell) -> None:
    with running() as executor:
        future = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        pid = int(bell.wait())
        os.kill(pid, signal.SIGINT)
        error = future.exception(SOON)
        assert isinstance(error, MiraiInterrupt)
        assert not isinstance(error, KeyboardInterrupt)
        assert pid_of(executor) == pid


def test_sigints_at_random_moments_end_one_task_each_and_no_daemon() -> None:
    with running() as executor:
        pid = pid_of(executor)
        interrupted = 0
        for n in range(300):
            future = executor.submit(mischief.spin_and_return, 0.001, n)
            if n % 3 == 0:
                os.kill(pid, signal.SIGINT)
            error = future.exception(SOON)
            assert error is None or isinstance(error, MiraiInterrupt)
            interrupted += error is not None
        assert interrupted <= 100
        assert pid_of(executor) == pid


@pytest.mark.parametrize("when", PICKLING)
def test_sigint_while_a_task_is(when: str, bell: Bell) -> None:
    slow = functools.partial(mischief.ring_and, bell.path, mischief.sleep_long)
    with running() as executor:
        if when == PICKLING[0]:
            future: Future[Any] = executor.submit(id, AtUnpickle(slow))
        else:
            future = executor.submit(mischief.give_at_pickle, slow)
        os.kill(int(bell.wait()), signal.SIGINT)
        assert isinstance(future.exception(SOON), MiraiInterrupt)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_a_task_that_has_changed_its_signal_handlers_can_be_cancelled_and_so_can_the_next(
    bell: Bell,
) -> None:
    with running() as executor:
        for _ in range(3):
            future = executor.submit(mischief.ignore_signals_and_sleep, bell.path)
            pid = int(bell.wait())
            future.cancel()
            assert pid_of(executor) == pid


# The race


@pytest.mark.parametrize("rounds", [250, pytest.param(1000, marks=pytest.mark.chaos)])
def test_a_cancel_at_a_random_moment_touches_no_other_task_and_no_daemon(
    tally: Tally, rounds: int
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    with running(2) as executor:
        cancel_at_random(executor, tally, rounds=range(rounds), seed=seed)


def test_a_storm_of_cancels_from_many_threads_leaves_every_daemon(tally: Tally) -> None:
    def storm(seed: int) -> None:
        chance = random.Random(seed)
        for n in range(50):
            futures = [executor.submit(mischief.spin_and_return, 0.001, n) for _ in range(5)]
            for future in futures:
                if chance.random() < 0.5:
                    future.cancel()
            for future in futures:
                if not future.cancelled():
                    assert future.result(SOON) == n

    with running(2) as executor:
        # Who is interrupted in an import is replaced, rightly: that is another test.
        concurrent.futures.wait(executor.everywhere("import live.mischief"), SOON)
        pids = {row.pid for row in executor.status().rows}
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            list(threads.map(storm, range(4)))
        assert {row.pid for row in executor.status().rows} == pids


@pytest.mark.parametrize("dispatcher", [True, False])
@pytest.mark.parametrize("rounds", [200, pytest.param(700, marks=pytest.mark.chaos)])
def test_a_soak_ends_each_future_once_and_runs_each_task_at_most_once(
    tally: Tally, dispatcher: bool, rounds: int
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    options = {"output": False, "cancel_grace": 0.2, "dispatcher": dispatcher}
    with running(2, **options) as executor:
        soak = Soak(executor, tally, seed)
        soak.run(range(rounds), rate=150.0)
        soak.check()


def test_an_interrupt_of_a_host_that_waits_ends_the_task_it_cancels(tmp_path: Path) -> None:
    """A program that cancels in its handler of SIGALRM, as supervisors do."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import signal, time
            from mirai_executor import MiraiExecutor

            with MiraiExecutor(1) as executor:
                executor.wait_ready(20)
                future = executor.submit(time.sleep, 600)
                signal.signal(signal.SIGALRM, lambda *_: future.cancel())
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                try:
                    future.result(20)
                except BaseException as error:
                    print(type(error).__name__)
                print(executor.submit(abs, -1).result(20))
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=SOON + 10,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout, done.stderr) == ("CancelledError\n1\n", "")
