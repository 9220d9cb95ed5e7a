"""Short tasks share frames: what happens to those beside one that is slow, stopped or deadly."""

import functools
import threading
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest

from live import mischief
from live.mischief import SOON, Bell, Tally, running
from mirai_executor import DaemonLostError, MiraiExecutor, MiraiFuture


def prove_short(executor: MiraiExecutor, tally: Tally) -> None:
    """Have it see that the function is quick."""
    for n in range(20):
        name = f"proof{n}"
        executor.submit(mischief.count_and_call, tally.path, name).result(SOON)


def submit_behind(
    executor: MiraiExecutor, tally: Tally, whats: dict[int, Any], count: int = 40
) -> list[MiraiFuture[Any]]:
    """Submit many quick tasks at once, some of which do something else."""
    bundle = [(str(n), whats.get(n)) for n in range(count)]
    return [
        executor.submit(mischief.count_and_call, tally.path, name, what) for name, what in bundle
    ]


@pytest.mark.parametrize("dispatcher", [True, False])
@pytest.mark.parametrize("ordering", ["bounded", "strict"])
def test_each_of_thousands_of_short_tasks_runs_once(
    tally: Tally, dispatcher: bool, ordering: Any
) -> None:
    with running(2, dispatcher=dispatcher, ordering=ordering) as executor:
        futures = [
            executor.submit(mischief.count_and_return, tally.path, str(n), n) for n in range(3000)
        ]
        assert [future.result(SOON) for future in futures] == list(range(3000))
    assert tally.counts() == {str(n): 1 for n in range(3000)}


def test_a_slow_task_holds_no_result_back_and_no_task_up(
    tally: Tally, bell: Bell, gate: Path
) -> None:
    with running(2) as executor:
        prove_short(executor, tally)
        slow = functools.partial(mischief.ring_and, bell.path, mischief.block_until_open, gate)
        futures = submit_behind(executor, tally, {3: slow})
        bell.wait()
        others = [future for n, future in enumerate(futures) if n != 3]
        assert not wait(others, SOON).not_done, "they wait for the slow one"
        assert not futures[3].done()
        gate.write_bytes(b"go")
        assert futures[3].result(SOON) == b"go"
    assert tally.counts() == {
        **{f"proof{n}": 1 for n in range(20)},
        **{str(n): 1 for n in range(40)},
    }


def test_a_crash_costs_what_had_begun_and_everything_else_runs_once(tally: Tally) -> None:
    with running(1, output=False) as executor:
        prove_short(executor, tally)
        futures = submit_behind(executor, tally, {11: mischief.exit_at_once})
        errors = {n: future.exception(SOON) for n, future in enumerate(futures)}
        lost = [n for n, error in errors.items() if error is not None]
        assert 11 in lost
        assert lost == list(range(lost[0], 12)), "only results in hand go down with it"
        assert all(isinstance(errors[n], DaemonLostError) for n in lost)
    counts = tally.counts()
    assert [counts[str(n)] for n in range(40)] == [1] * 40


@pytest.mark.parametrize("deadly", range(8, 12))  # wherever it stands in its frame of two
def test_a_crash_costs_no_task_of_a_millisecond_that_was_before_it_in_its_frame(
    tally: Tally, deadly: int
) -> None:
    takes_long = functools.partial(mischief.spin, 0.8e-3)
    whats = {**dict.fromkeys(range(12), takes_long), deadly: mischief.exit_at_once}
    with running(1, output=False) as executor:
        for n in range(20):
            name = f"proof{n}"
            call = executor.submit(mischief.count_and_call, tally.path, name, takes_long)
            call.result(SOON)
        futures = submit_behind(executor, tally, whats, 12)
        errors = [future.exception(SOON) for future in futures]
    assert [n for n, error in enumerate(errors) if error is not None] == [deadly]


def test_a_crash_may_be_survived_by_retries_inside_frames(tally: Tally, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with running(1, output=False) as executor:
        prove_short(executor, tally)
        view = executor.with_options(retries=1)
        deadly = functools.partial(mischief.die_unless_second, flag)
        futures = [
            view.submit(mischief.count_and_call, tally.path, str(n), deadly if n == 5 else None)
            for n in range(40)
        ]
        assert all(future.exception(SOON) is None for future in futures)
    assert all(tally.counts()[str(n)] <= 2 for n in range(40))


def test_a_task_behind_another_one_can_be_cancelled_and_never_begins(
    tally: Tally, bell: Bell, gate: Path
) -> None:
    with running(1) as executor:
        prove_short(executor, tally)
        slow = functools.partial(mischief.ring_and, bell.path, mischief.block_until_open, gate)
        futures = submit_behind(executor, tally, {3: slow})
        bell.wait()
        victims = [n for n in range(4, 40) if n % 3]
        for n in victims:
            assert futures[n].cancel()
        executor.status()  # the host thread has heard of them all
        gate.write_bytes(b"go")
        assert futures[3].result(SOON) == b"go"
        assert [n for n, future in enumerate(futures) if future.cancelled()] == victims
        for n in set(range(40)) - set(victims):
            futures[n].result(SOON)
    assert not {str(n) for n in victims} & tally.counts().keys()


def test_the_running_task_of_a_frame_can_be_stopped_without_the_others(
    tally: Tally, bell: Bell
) -> None:
    with running(1) as executor:
        prove_short(executor, tally)
        pid = executor.status().rows[0].pid
        slow = functools.partial(mischief.ring_and, bell.path, mischief.sleep_long)
        futures = submit_behind(executor, tally, {3: slow})
        bell.wait()
        assert futures[3].cancel()
        assert [f.result(SOON) for n, f in enumerate(futures) if n != 3] == [
            str(n) for n in range(40) if n != 3
        ]
        assert executor.status().rows[0].pid == pid, "the daemon was replaced"


def test_a_frame_behind_code_that_holds_the_gil_is_taken_back(tally: Tally, bell: Bell) -> None:
    with running(2, cancel_grace=0.2, output=False) as executor:
        prove_short(executor, tally)
        stuck = functools.partial(mischief.hold_the_gil, bell.path)
        futures = submit_behind(executor, tally, {3: stuck})
        bell.wait()
        assert not wait(futures[4:], SOON).not_done, "they wait for what never lets go"
        assert all(future.exception() is None for future in futures[4:])
        assert futures[3].cancel()


@pytest.mark.parametrize("rounds", [15, pytest.param(50, marks=pytest.mark.chaos)])
def test_tasks_that_are_stopped_one_after_the_other_stop_no_other(
    tally: Tally, rounds: int
) -> None:
    with running(2) as executor:
        prove_short(executor, tally)
        # A daemon that is interrupted in an import leaves: both have imported before.
        assert not wait(executor.everywhere(mischief.by_value), SOON).not_done
        pids = {row.pid for row in executor.status().rows}
        for round_ in range(rounds):
            futures = [
                executor.submit(mischief.count_and_call, tally.path, f"{round_}.{n}")
                for n in range(30)
            ]
            victims = futures[round_ % 7 :: 3]
            for future in victims:
                future.cancel()
            for n, future in enumerate(futures):
                if not future.cancelled():
                    assert future.result(SOON) == f"{round_}.{n}"
        assert {row.pid for row in executor.status().rows} == pids
    assert max(tally.counts().values()) == 1


def test_a_burst_of_submissions_lets_the_host_thread_run(monkeypatch: pytest.MonkeyPatch) -> None:
    sleepers: list[str] = []
    monkeypatch.setattr(time, "sleep", lambda _: sleepers.append(threading.current_thread().name))
    held, free, over = threading.Event(), threading.Event(), threading.Event()
    futures: list[MiraiFuture[int]] = []

    def hold_up() -> None:
        held.set()
        free.wait(SOON)

    def submit_many() -> None:
        futures.extend(executor.submit(abs, -n) for n in range(1000))

    def submit_many_there() -> None:
        submit_many()
        over.set()

    with running(1) as executor:
        for n in range(300):  # one at a time: nothing to let go of
            assert executor.submit(abs, -n).result(SOON) == n
        assert not sleepers
        executor._host._put(hold_up)
        assert held.wait(SOON)
        submit_many()
        assert len(sleepers) in (6, 7), "after 16, 32, 64, ... and then once in 256 submissions"
        executor._host._put(submit_many_there)
        free.set()
        assert over.wait(SOON)
        assert [future.result(SOON) for future in futures] == [*range(1000), *range(1000)]
        assert set(sleepers) == {threading.current_thread().name}
