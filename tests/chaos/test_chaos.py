"""Chaos: the storms of ``live.storms`` at length; ``tox -e chaos`` runs them.

Each goes on for ``--minutes``, or with ``--full`` to its last round.
"""

import functools
import os
import random
from pathlib import Path

import pytest

from budget import Budget
from live import mischief
from live.map_storms import storm
from live.mischief import SOON, Tally, running
from live.storms import Soak, cancel_at_random, kill_at_random
from mirai_executor import MiraiExecutor

pytestmark = [pytest.mark.chaos, pytest.mark.live]


@pytest.fixture
def seed() -> int:
    """Of this run; MIRAI_CHAOS_SEED repeats another one."""
    seed = int(os.environ.get("MIRAI_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"MIRAI_CHAOS_SEED={seed}")  # pytest shows it if the test fails
    return seed


def test_cancels_by_the_thousand_touch_no_other_task_and_no_daemon(
    tally: Tally, seed: int, budget: Budget
) -> None:
    with running(2) as executor:
        cancel_at_random(executor, tally, rounds=budget.rounds(10_000), seed=seed)


def test_elements_of_maps_by_the_hundred_thousand_end_once_each_and_run_once_at_most(
    tmp_path: Path, seed: int, budget: Budget
) -> None:
    with running(2, cancel_grace=0.2, output=False) as executor:
        storm(executor, tmp_path, rounds=budget.rounds(2000), seed=seed)


def test_kills_by_the_hundred_cost_at_most_one_task_each(
    tally: Tally, seed: int, budget: Budget
) -> None:
    with running(4, output=False) as executor:
        kill_at_random(executor, tally, kills=budget.rounds(500), seed=seed)


@pytest.mark.parametrize("dispatcher", [True, False])
def test_a_long_soak_ends_each_future_once_and_runs_each_task_at_most_once(
    tally: Tally, seed: int, budget: Budget, dispatcher: bool
) -> None:
    options = {"output": False, "cancel_grace": 0.2, "dispatcher": dispatcher}
    with running(3, **options) as executor:
        soak = Soak(executor, tally, seed)
        soak.run(budget.rounds(10_000), rate=150.0)
        soak.check()


@pytest.mark.parametrize("limit", [1, 2])
def test_no_task_is_lost_to_daemons_that_leave_after_a_few(
    tally: Tally, budget: Budget, limit: int
) -> None:
    work = functools.partial(mischief.count_and_return, tally.path)
    asked_for: list[int] = []
    with running(2, max_tasks_per_child=limit) as executor:
        for n in budget.rounds(10):
            batch = range(20 * n, 20 * n + 20)
            futures = [executor.submit(work, str(m), m) for m in batch]
            assert [future.result(4 * SOON) for future in futures] == list(batch)
            asked_for += batch
        assert tally.counts() == {str(m): 1 for m in asked_for}


def test_no_task_is_lost_to_daemons_that_leave_when_idle_in_many_rounds(
    tally: Tally, seed: int, budget: Budget
) -> None:
    chance = random.Random(seed)
    idle = 0.02
    asked_for: list[int] = []
    with MiraiExecutor(2, idle_time=idle) as executor:
        for n in budget.rounds(200):
            mischief.wait_for(idle * chance.uniform(0.9, 1.1))
            future = executor.submit(mischief.count_and_return, tally.path, str(n), n)
            assert future.result(SOON) == n
            asked_for.append(n)
        assert tally.counts() == {str(n): 1 for n in asked_for}
