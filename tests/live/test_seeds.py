"""With a seed, a task's random numbers depend on its place in the order of submission alone."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import draws
from live.draws import Draws
from live.mischief import SOON, Bell, ring, running
from mirai_executor import MiraiExecutor, local_url, rng

SEED = 20_26


def expected(*key: int) -> Draws:
    """Return what a task draws, by what the documentation says of its stream."""
    return in_a_row(1, *key)[0]


def in_a_row(count: int, *key: int) -> list[Draws]:
    """Return what it draws if it does so several times."""
    sequence = np.random.SeedSequence(SEED, spawn_key=key)
    own = random.Random(":".join(map(str, (SEED, *key))))
    old = np.random.RandomState(sequence.generate_state(8))
    new = np.random.default_rng(sequence)
    return [(own.random(), old.random(), new.random(), new.random()) for _ in range(count)]


def draw_all(executor: MiraiExecutor) -> list[Any]:
    futures = [executor.submit(draws.draw) for _ in range(3)]
    view = executor.with_options(timeout=SOON)
    futures.append(view.submit(draws.draw, "of a view"))
    code: Any = executor.submit_source("from live.draws import draw; draw(x)", x=1)
    mapped = list(executor.map(draws.draw, range(4), buffersize=1))
    chunks = list(view.map(draws.draw, range(5), range(5), chunksize=2))
    chunks += list(executor.map(draws.draw, range(3), chunksize=2))
    elements = executor.mirai_map(range(9), draws.draw).collect()
    last = executor.submit(draws.draw)
    drawn = [it.result(SOON) for it in (*futures, code)]
    return [*drawn, mapped, chunks, elements, last.result(SOON)]


def draw_twice() -> Iterator[Draws]:
    try:
        yield draws.draw()
        yield draws.draw()
    finally:
        draws.draw()  # these are its own, too


async def draw_twice_in_a_loop() -> AsyncIterator[Draws]:
    for draw in draw_twice():
        await asyncio.sleep(0)
        yield draw


async def draw_in_a_loop(*_: object) -> Draws:
    await asyncio.sleep(0)
    return draws.draw()


def draw_in_steps(executor: MiraiExecutor) -> list[Any]:
    """Have streams and coroutines draw; between their steps, this process does."""

    async def mapped() -> list[Draws]:
        return [drawn async for drawn in executor.stream_map(draw_in_a_loop, range(3))]

    by_turns = list(zip(*(executor.stream(draw_twice) for _ in range(2)), strict=True))
    executor.everywhere(len, "abc")
    with executor.stream(draw_twice) as stream:
        by_turns.append(next(stream))
    return [
        *by_turns,
        list(executor.with_options(buffer=1).stream(draw_twice_in_a_loop)),
        executor.submit(draw_in_a_loop).result(SOON),
        list[Any](executor.map(draw_in_a_loop, range(3))),
        executor.mirai_map(range(3), draw_in_a_loop).collect(),
        asyncio.run(mapped()),
    ]


PLACES = pytest.mark.parametrize(
    ("daemons", "options"),
    [
        (1, {}),
        (3, {"dispatcher": False, "cleanup": False}),
        (1, {"mode": "inline"}),
    ],
    ids=["1 daemon", "3 directly", "inline"],
)


def generators_here() -> Any:
    return random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[index]


@PLACES
def test_a_task_draws_the_same_numbers_wherever_it_runs(
    daemons: int, options: dict[str, Any]
) -> None:
    before = generators_here()
    with running(daemons, seed=SEED, **options) as executor:
        drawn = draw_all(executor)
    assert drawn == [
        *(expected(index) for index in range(5)),
        [expected(5, element) for element in range(4)],
        [*(expected(6, element) for element in range(5)), *(expected(7, i) for i in range(3))],
        [expected(index) for index in range(8, 17)],
        expected(17),
    ]
    assert generators_here() == before


@PLACES
def test_what_runs_in_steps_goes_on_with_its_own_numbers(
    daemons: int, options: dict[str, Any]
) -> None:
    before = generators_here()
    with running(daemons, seed=SEED, **options) as executor:
        drawn = draw_in_steps(executor)
    assert drawn == [
        *zip(in_a_row(2, 0), in_a_row(2, 1), strict=True),
        expected(2),
        in_a_row(2, 3),
        expected(4),
        [expected(5, element) for element in range(3)],
        [expected(index) for index in range(6, 9)],
        [expected(index) for index in range(9, 12)],
    ]
    assert generators_here() == before


def draw_with_others(bell: Path, start: Path) -> tuple[int, Draws]:
    ring(bell)
    descriptor = os.open(start, os.O_RDONLY)
    os.read(descriptor, 1)
    os.close(descriptor)
    return os.getpid(), draws.draw()


def test_seven_daemons_draw_the_numbers_that_one_does(tmp_path: Path) -> None:
    bell, start = Bell(tmp_path), Bell(tmp_path, "start")
    with running(7, seed=SEED) as executor:
        futures = [executor.submit(draw_with_others, bell.path, start.path) for _ in range(7)]
        for _ in futures:
            bell.wait()  # each has a daemon of its own
        ring(start.path, "started")  # a byte for each
        rest = [executor.submit(draws.draw) for _ in range(14)]
        pids, drawn = zip(*[future.result(SOON) for future in futures], strict=True)
        assert len(set(pids)) == 7
        together = [*drawn, *(future.result(SOON) for future in rest)]
    assert together == [expected(index) for index in range(21)]
    bell.close()
    start.close()


def test_a_task_that_runs_again_draws_the_same_numbers(tmp_path: Path) -> None:
    with running(1, seed=SEED) as executor:
        again = executor.with_options(retries=1)
        futures = [
            again.submit(draws.draw_unless_first, tmp_path / "flag"),
            again.submit(draws.draw),
        ]
        assert [it.result(SOON) for it in futures] == [expected(0), expected(1)]


def test_a_pool_draws_the_same_numbers_whatever_its_size() -> None:
    drawn: list[Any] = []
    for size in (1, 2):
        with running(size, seed=SEED) as executor:
            pool: Any = executor.as_pool()
            drawn.append([pool.map(draws.draw, range(6)), pool.apply(draws.draw)])
    assert drawn[0] == drawn[1]
    assert len({str(each) for each in (*drawn[0][0], drawn[0][1])}) == 7


@pytest.mark.own_url
def test_daemons_that_connect_draw_the_same_numbers() -> None:
    with MiraiExecutor(url=local_url(), seed=SEED) as executor:
        executor.launch_local(2)
        drawn = [executor.submit(draws.draw).result(SOON) for _ in range(3)]
    assert drawn == [expected(index) for index in range(3)]


def test_everywhere_takes_no_stream_and_next_stream_takes_one() -> None:
    with running(1, seed=SEED) as executor:
        executor.everywhere(draws.draw_plainly)
        first = executor.submit(draws.draw)
        executor.everywhere("import random; random.seed(1)")
        sequence = executor.next_stream()
        second = executor.submit(draws.draw)
        assert (first.result(SOON), second.result(SOON)) == (expected(0), expected(2))
        assert sequence is not None
        assert np.random.default_rng(sequence).random() == expected(1)[2]


def test_threads_of_a_task_draw_from_the_stream_of_the_task() -> None:
    with running(1, seed=SEED) as executor:
        assert executor.submit(draws.draw_in_a_thread).result(SOON) == expected(0)[2]


def test_without_a_seed_nothing_is_seeded_or_imported() -> None:
    with running(1) as executor:
        assert executor.next_stream() is None
        executor.submit_source("import random; random.seed(1)").result(SOON)
        assert executor.submit(draws.draw_plainly).result(SOON) == random.Random(1).random()
        assert not executor.submit(draws.has_numpy).result(SOON)
        drawn = {executor.submit(draws.draw_in_a_thread).result(SOON) for _ in range(3)}
    assert len(drawn) == 3
    assert rng().random() != rng().random()
