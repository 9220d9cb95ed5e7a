"""Thousands of daemons, links that drop, processes that die: the promises hold for every seed."""

import math
import os
import random
from collections.abc import Iterable

import pytest

from budget import Budget
from mirai_executor._core import BroadcastId, Failure, Policy, TaskId

from .simulation import Faults, Simulation, Work

# A failing run names its seed, and simulate(seed) repeats it.
SEEDS = int(os.environ.get("MIRAI_SIMULATION_SEEDS", "400"))
CHAOS_SEEDS = int(os.environ.get("MIRAI_SIMULATION_SEEDS", "20000"))

pytestmark = pytest.mark.once  # the core alone decides


def some_policy(rng: random.Random) -> Policy:
    return Policy(
        max_daemons=rng.randint(1, 8),
        launches=rng.random() < 0.8,
        direct=rng.random() < 0.2,
        max_tasks=rng.choice([None, None, 1, 5]),
        idle_time=rng.choice([None, None, 0.05, 3.0]),
        start_timeout=20.0,
        cancel_grace=rng.choice([0.2, 2.0]),
        leave_grace=rng.choice([0.2, 10.0]),
        failed_starts=rng.choice([5, 50]),
        frame_time=rng.choice([0.0, 400e-6, 2.5e-3, 0.1, 1.0]),
        frame_size=rng.choice([2, 64]),
        far_frame_size=rng.choice([4, 1024]),
        ahead_below=rng.choice([5e-3, 1.0]),
    )


def some_faults(rng: random.Random) -> Faults:
    return Faults(
        dies_at_start=rng.choice([0.0, 0.0, 0.1, 0.6]),
        hangs_at_start=rng.choice([0.0, 0.0, 0.1]),
        mean_life=rng.choice([math.inf, 0.3, 2.0, 10.0]),
        loses_last_words=rng.choice([0.0, 0.5, 1.0]),
        is_remote=rng.choice([0.0, 0.5, 1.0]),
        ignores_interrupts=rng.choice([0.0, 0.3, 1.0]),
        ignores_dismissal=rng.choice([0.0, 0.3]),
        is_spoilt_by_interrupts=rng.choice([0.0, 0.3]),
        asks_to_leave=rng.choice([0.0, 0.0, 0.3]),
        slowness=rng.choice([1.0, 1.0, 50.0]),
    )


def some_work(rng: random.Random, task: TaskId, *, is_calm: bool) -> Work:
    start = rng.choice([0.0, rng.uniform(0, 10)])
    mean = rng.choice([1e-5, 0.001, 0.1, 2.0])
    duration = rng.expovariate(1 / mean)
    # Mostly, tasks of a kind take equally long; now and then one takes a thousand times as long.
    # Not of those that are long already: in an hour, a daemon may by chance start too slowly.
    kind = rng.choice([None, hash(mean), hash(mean)])
    if kind is not None and mean < 0.01 and rng.random() < 0.05:
        duration *= 1000
    concurrency = rng.choice([1, 1, 2, 5])
    if is_calm:
        return Work(task, start, duration, kind=kind, concurrency=concurrency)
    timeout = rng.choice([None, None, rng.uniform(0, 10)])
    run_timeout = rng.choice([None, None, rng.uniform(0, 5)])
    if (timeout, run_timeout) != (None, None) and rng.random() < 0.1:
        duration = math.inf  # code that never returns
    cancelled_at = start + rng.expovariate(1) if rng.random() < 0.2 else None
    retries = rng.choice([0, 0, 0, 1, 3])
    limits = (timeout, run_timeout, retries, cancelled_at)
    return Work(task, start, duration, *limits, kind, concurrency)


def simulate(seed: int) -> None:
    """Live through the story that a seed tells, and check it."""
    rng = random.Random(seed)
    is_calm = seed % 5 == 0
    policy = some_policy(rng)
    world = Simulation(seed, policy, Faults() if is_calm else some_faults(rng))
    for n in range(rng.randint(1, 80)):
        world.submit(some_work(rng, TaskId(n), is_calm=is_calm))
    for n in range(rng.choice([0, 0, 1, 3])):
        world.at(rng.uniform(0, 10), lambda n=n: world.everywhere(BroadcastId(n)))  # type: ignore[misc]  # mypy and n=n
    if rng.random() < 0.3:
        world.at(rng.uniform(0, 10), lambda: world.request_daemons(rng.randint(1, 8)))
    if not policy.launches or rng.random() < 0.1:
        world.let_daemons_join(every=rng.choice([0.5, 3.0]), most=policy.max_daemons)
    plan_the_end(world, rng, is_calm=is_calm)
    world.run().check(is_calm=is_calm)


def plan_the_end(world: Simulation, rng: random.Random, *, is_calm: bool) -> None:
    world.at(
        rng.uniform(5, 15) if is_calm else rng.uniform(0, 15),
        lambda: world.shut_down(
            cancel_queued=not is_calm and rng.random() < 0.3,
            cancel_running=not is_calm and rng.random() < 0.2,
        ),
    )
    if not is_calm and rng.random() < 0.1:
        world.at(rng.uniform(0, 15), world.kill)


def simulate_all(seeds: Iterable[int]) -> None:
    for seed in seeds:
        try:
            simulate(seed)
        except BaseException as error:
            error.add_note(f"This was seed {seed}: simulate({seed}) repeats it.")
            raise


def test_the_promises_hold_whatever_fails() -> None:
    simulate_all(range(SEEDS))


@pytest.mark.chaos
def test_the_promises_hold_whatever_fails_at_length(budget: Budget) -> None:
    # From 0 on, the plain tests have them.
    first = random.SystemRandom().randrange(SEEDS, 1 << 32)
    simulate_all(first + n for n in budget.rounds(CHAOS_SEEDS))


def test_a_seed_tells_the_same_story_twice() -> None:
    def story() -> str:
        world = Simulation(7, Policy(max_daemons=4), Faults(mean_life=1.0, is_remote=0.5))
        for n in range(50):
            world.submit(Work(TaskId(n), submitted_at=n / 10, duration=0.3))
        world.at(6, world.shut_down)
        return repr(world.run().tasks)

    assert story() == story()


def test_thousands_of_daemons_come_and_go() -> None:
    faults = Faults(dies_at_start=0.02, mean_life=60.0, is_remote=1.0, slowness=20.0)
    world = Simulation(1, Policy(max_daemons=3000, failed_starts=1000), faults)
    for n in range(9000):
        world.submit(Work(TaskId(n), submitted_at=n / 1000, duration=10.0, retries=n % 2))
    world.at(1, lambda: world.everywhere(BroadcastId(1)))
    world.at(10, world.shut_down)
    history = world.run(check_every=20_000)
    history.check()
    ends = history.ends()
    assert ends.keys() == {None, Failure.DAEMON_LOST}
    assert ends[Failure.DAEMON_LOST] <= len(history.losses)
    assert ends[None] > 7000
    assert world.now < 300


@pytest.mark.parametrize("victims", [1, 3, 4])
def test_killed_daemons_cost_one_task_each_of_a_long_queue(victims: int) -> None:
    world = Simulation(2, Policy(max_daemons=4), Faults())
    for n in range(2000):
        world.submit(Work(TaskId(n), submitted_at=0, duration=0.05))

    def strike() -> None:
        for process in list(world.processes.values())[:victims]:
            process.die()

    world.at(2.0, strike)
    world.at(3.0, world.shut_down)
    history = world.run(check_every=500)
    history.check()
    assert len(history.losses) - 4 == victims, "the four that were dismissed at the end"
    assert history.ends()[Failure.DAEMON_LOST] <= victims
    assert history.ends()[None] >= 2000 - victims
    assert world.now < 60, "the queue did not move on"


def test_daemons_that_never_start_fail_the_tasks_instead_of_letting_them_wait() -> None:
    world = Simulation(3, Policy(max_daemons=4, failed_starts=5), Faults(dies_at_start=1.0))
    for n in range(100):
        world.submit(Work(TaskId(n), submitted_at=0, duration=1.0))
    world.at(1000, world.shut_down)
    history = world.run()
    history.check()
    assert history.ends() == {Failure.BROKEN: 100}
    assert len(history.daemons) < 5 + 4
    assert all(ended_at < 60 for story in history.tasks.values() for ended_at, *_ in story.ends)
