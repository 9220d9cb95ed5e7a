"""Live: ``timeout`` and ``run_timeout`` are kept whatever the task does, and stop its work."""

import functools
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, as_completed, wait
from typing import Any

import psutil
import pytest

from live import mischief
from live.mischief import SOON, AtUnpickle, Bell, Tally, pid_of, running
from mirai_executor import DaemonLostError, MiraiError, MiraiExecutor, TaskTimeoutError


def assert_timed_out(future: "Future[Any]", begun: float, seconds: float) -> None:
    error = future.exception(SOON)
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, MiraiError)
    assert error.code == 5
    assert future.code == 5  # type: ignore[attr-defined]  # a MiraiFuture
    assert str(seconds) in str(error)
    assert time.monotonic() - begun >= seconds


def test_a_running_task_ends_at_its_timeout_and_its_work_stops(bell: Bell) -> None:
    with running() as executor:
        pid = pid_of(executor)
        begun = time.monotonic()
        future = executor.with_options(timeout=1.0).submit(mischief.sleep_and_tell, bell.path)
        assert_timed_out(future, begun, 1.0)
        assert bell.wait() == "interrupted"
        assert pid_of(executor) == pid


def test_a_running_task_ends_at_its_run_timeout_and_its_work_stops(bell: Bell) -> None:
    with running() as executor:
        pid = pid_of(executor)
        begun = time.monotonic()
        future = executor.with_options(run_timeout=1.0).submit(mischief.sleep_and_tell, bell.path)
        assert_timed_out(future, begun, 1.0)
        assert bell.wait() == "interrupted"
        assert pid_of(executor) == pid


def test_a_queued_task_ends_at_its_timeout_and_never_runs(bell: Bell, tally: Tally) -> None:
    with running() as executor:
        busy = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        bell.wait()
        begun = time.monotonic()
        view = executor.with_options(timeout=0.2)
        future = view.submit(mischief.count_and_return, tally.path, "late")
        assert_timed_out(future, begun, 0.2)
        assert busy.running()
        busy.cancel()
        assert executor.submit(mischief.answer).result(SOON) == 42
        assert not tally.counts()


def test_the_run_timeout_does_not_count_the_time_in_the_queue(bell: Bell) -> None:
    with running() as executor:
        busy = executor.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        bell.wait()
        future = executor.with_options(run_timeout=1.0).submit(mischief.answer)
        done, _ = wait([future], 1.2)
        assert not done
        busy.cancel()
        assert future.result(SOON) == 42


STUBBORN: dict[str, Callable[..., Any]] = {
    "holds the GIL": mischief.hold_the_gil,
    "never looks at signals": mischief.raise_a_huge_power,
    "swallows every exception": mischief.swallow_everything,
}


@pytest.mark.parametrize("option", ["timeout", "run_timeout"])
@pytest.mark.parametrize("name", STUBBORN)
def test_a_timeout_is_kept_by_a_task_that(name: str, option: str, bell: Bell) -> None:
    with running(cancel_grace=2.0) as executor:
        pid = pid_of(executor)
        begun = time.monotonic()
        limit: dict[str, Any] = {option: 0.5}
        future = executor.with_options(**limit).submit(STUBBORN[name], bell.path)
        assert_timed_out(future, begun, 0.5)
        # The future did not wait for the end of the daemon, which the next task does.
        assert psutil.pid_exists(pid)
        assert pid_of(executor) != pid


SLOW_ON_THE_WAY = ["unpickling its argument", "pickling its result", "showing its error"]


@pytest.mark.parametrize("when", SLOW_ON_THE_WAY)
def test_a_timeout_is_kept_by_a_task_that_hangs_while(when: str) -> None:
    with running(cancel_grace=0.2) as executor:
        view = executor.with_options(run_timeout=0.3)
        begun = time.monotonic()
        if when == SLOW_ON_THE_WAY[0]:
            future: Future[Any] = view.submit(id, AtUnpickle(mischief.sleep_long))
        elif when == SLOW_ON_THE_WAY[1]:
            future = view.submit(mischief.give_at_pickle, mischief.sleep_long)
        else:
            future = view.submit(mischief.raise_slow_error)
        assert_timed_out(future, begun, 0.3)
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_a_task_that_ends_in_time_is_not_touched_by_its_timeout() -> None:
    with running() as executor:
        pid = pid_of(executor)
        view = executor.with_options(timeout=0.2, run_timeout=0.2)
        assert view.submit(mischief.answer).result(SOON) == 42
        # Its moment passes while another task runs on the same daemon.
        assert executor.submit(mischief.spin_and_return, 0.4, "whole").result(SOON) == "whole"
        assert pid_of(executor) == pid


def test_of_two_limits_the_first_one_counts() -> None:
    with running() as executor:
        begun = time.monotonic()
        view = executor.with_options(timeout=60, run_timeout=0.2)
        assert_timed_out(view.submit(mischief.sleep_long), begun, 0.2)
        begun = time.monotonic()
        view = executor.with_options(timeout=0.3, run_timeout=60)
        assert_timed_out(view.submit(mischief.sleep_long), begun, 0.3)


def test_many_timeouts_at_once_lose_no_daemon_and_touch_no_other_task(tally: Tally) -> None:
    with running(2) as executor:
        wait(executor.everywhere("import live.mischief"), SOON)
        pids = {row.pid for row in executor.status().rows}
        view = executor.with_options(run_timeout=0.005)
        futures = []
        for n in range(200):
            futures.append(view.submit(mischief.spin_and_return, 0.005, n))
            futures.append(executor.submit(mischief.count_and_return, tally.path, str(n), n))
        for n, future in enumerate(futures):
            error = future.exception(SOON)
            if n % 2:
                assert future.result() == n // 2
            else:
                assert error is None or isinstance(error, TaskTimeoutError)
        assert tally.counts() == {str(n): 1 for n in range(200)}
        assert {row.pid for row in executor.status().rows} == pids


def test_a_timeout_is_not_retried(tally: Tally) -> None:
    with running() as executor:
        pid_of(executor)  # it has imported what it needs
        view = executor.with_options(run_timeout=1.0, retries=3)
        future = view.submit(mischief.count_and_spin, tally.path, "once", 600.0)
        assert isinstance(future.exception(SOON), TaskTimeoutError)
        assert executor.submit(mischief.answer).result(SOON) == 42
        assert tally.counts()["once"] == 1


def test_a_timeout_counts_over_all_retries(tally: Tally) -> None:
    with running(output=False) as executor:
        # It dies at once each time, but the last time, when it stays.
        view = executor.with_options(timeout=5.0, retries=1)
        begun = time.monotonic()
        future = view.submit(mischief.die_then_stay, tally.path)
        assert_timed_out(future, begun, 5.0)
        assert tally.counts()["try"] == 2


def test_a_timeout_that_meets_the_end_of_the_daemon_ends_the_future_once(bell: Bell) -> None:
    with running(2, output=False) as executor:
        for n in range(10):
            view = executor.with_options(run_timeout=0.02)
            die = functools.partial(mischief.spin_and_return, 0.018 + n * 0.0004, 1)
            future: Any = view.submit(mischief.call_and_exit, die)
            assert isinstance(future.exception(SOON), (TaskTimeoutError, DaemonLostError))
        assert executor.submit(mischief.answer).result(SOON) == 42


def test_a_finalizer_that_hangs_is_not_paid_for_by_the_task_before_it(bell: Bell) -> None:
    with running(cancel_grace=0.2) as executor:
        # What a daemon imports for its first functions takes its time, too.
        for first in (lambda: 42, mischief.answer):
            assert executor.submit(first).result(SOON) == 42
        left = executor.with_options(run_timeout=0.5).submit(mischief.leave_a_slow_finalizer)
        assert left.result(SOON) == 42
        executor.kill_workers()


def test_each_call_of_a_map_has_a_limit_of_its_own() -> None:
    with MiraiExecutor(1) as executor:
        results = executor.with_options(run_timeout=0.5).map(time.sleep, [0, 3600, 0])
        assert next(results) is None
        with pytest.raises(TaskTimeoutError):
            next(results)
        assert executor.submit(abs, -1).result(SOON) == 1


def test_a_view_that_has_a_timeout_leaves_other_views_without() -> None:
    with running() as executor:
        short = executor.with_options(run_timeout=0.1)
        longer = short.with_options(run_timeout=None)
        assert longer.submit(mischief.spin_and_return, 0.3, 1).result(SOON) == 1
        assert executor.submit(mischief.spin_and_return, 0.3, 1).result(SOON) == 1


@pytest.mark.parametrize("option", ["timeout", "run_timeout"])
def test_a_limit_must_be_positive(option: str) -> None:
    with MiraiExecutor(1) as executor:
        for wrong in (0, -1.0):
            limit: dict[str, Any] = {option: wrong}
            with pytest.raises(ValueError, match=option):
                executor.with_options(**limit)


FAR = [30 * 86400, 1e12, math.inf]  # a month, and what no call of the system takes


@pytest.mark.parametrize("seconds", FAR)
@pytest.mark.parametrize("option", ["timeout", "run_timeout"])
def test_a_limit_may_lie_far_ahead(option: str, seconds: float) -> None:
    limits: dict[str, Any] = {option: seconds}
    with running() as executor:
        view = executor.with_options(**limits)
        assert view.submit(abs, -1).result(seconds) == 1
        assert list(view.map(abs, [-1, -2], timeout=seconds)) == [1, 2]


@pytest.mark.parametrize("seconds", FAR)
def test_an_option_of_an_executor_may_lie_far_ahead(seconds: float) -> None:
    names = ("idle_time", "start_timeout", "cancel_grace")
    options: dict[str, Any] = dict.fromkeys(names, seconds)
    with running(**options) as executor:
        executor.wait_ready(seconds)
        future = executor.submit(time.sleep, 3600)
        assert future.cancel()
        assert executor.submit(abs, -1).result(SOON) == 1


@pytest.mark.parametrize("seconds", FAR)
def test_a_wait_may_be_longer_than_the_system_takes(seconds: float) -> None:
    with running() as executor:
        first, second, third = (
            executor.submit(mischief.spin_and_return, 0.2, n) for n in range(3)
        )
        assert first.result(seconds) == 0
        assert wait([second], seconds).done == {second}
        assert list(as_completed([third], seconds)) == [third]


def test_a_cancelled_task_does_not_time_out_later(bell: Bell) -> None:
    with running() as executor:
        pid_of(executor)  # it has imported what it needs
        view = executor.with_options(timeout=1.0, run_timeout=1.0)
        future = view.submit(mischief.ring_and, bell.path, mischief.sleep_long)
        pid = int(bell.wait())
        future.cancel()
        assert executor.submit(mischief.spin_and_return, 1.2, os.getpid()).result(SOON)
        assert future.cancelled()
        assert pid_of(executor) == pid
