"""How many elements make a chunk, and what is expected of them."""

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirai_executor._core import Paces, chunk_size

CHUNK_COST = 0.2e-3  # seconds that a chunk costs beside its work, host and daemon together


@pytest.mark.parametrize(
    ("seconds", "count", "daemons", "expected"),
    [
        (None, 1000, 2, 1),  # nobody knows
        (50e-6, 1000, 2, 50),  # at most 2.5 ms of work
        (1e-6, 100_000, 2, 256),  # no more than is worth it
        (0.0, 100_000, 2, 256),
        (50e-6, 100, 2, 12),  # four chunks for each daemon
        (50e-6, 1000, 64, 3),
        (50e-6, 5, 2, 1),
        (50e-6, 0, 2, 1),
        (50e-6, 1000, 0, 50),  # none is connected
        (1.25e-3, 1000, 2, 2),
        (2e-3, 1000, 2, 1),
        (10.0, 1000, 2, 1),
    ],
)
def test_a_chunk_holds_little_work_and_leaves_some_for_each_daemon(
    seconds: float | None, count: int, daemons: int, expected: int
) -> None:
    assert chunk_size(seconds, count, daemons) == expected


def sizes_of(seconds: float, count: int, daemons: int) -> list[int]:
    """Return the sizes of all chunks, as they are sent one after the other."""
    left, sizes = count, []
    while left:
        sizes.append(chunk_size(seconds, count, daemons, left))
        left -= sizes[-1]
    return sizes


def test_the_last_chunks_become_shorter_and_shorter_down_to_what_they_are_worth() -> None:
    assert sizes_of(50e-6, 1000, 2) == [50] * 17 + [37, 28, 21, 16, 12, 11, 11, 11, 3]
    assert sizes_of(1e-6, 32, 1) == [8] * 4


@given(
    seconds=st.floats(0.0, 0.1),
    count=st.integers(1, 5000),
    daemons=st.integers(0, 100),
)
def test_all_elements_are_in_a_chunk_and_none_is_longer_than_the_one_before(
    seconds: float, count: int, daemons: int
) -> None:
    sizes = sizes_of(seconds, count, daemons)
    assert sum(sizes) == count
    assert min(sizes) >= 1
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= max(1, min(256, count // 4))
    assert max(sizes) == 1 or max(sizes) * seconds <= 2.5e-3


def makespan(sizes: list[int], daemons: int, draw: Callable[[], float]) -> tuple[float, float]:
    """Have simulated daemons take one chunk after the other.

    Args:
        sizes: Of the chunks.
        daemons: How many there are.
        draw: Returns how long the next element takes.

    Returns:
        When the last one ends, and how much earlier the first one has nothing left.
    """
    free_at = [0.0] * daemons
    for size in sizes:
        begins = heapq.heappop(free_at)
        work = sum(draw() for _ in range(size))
        heapq.heappush(free_at, begins + CHUNK_COST + work)
    return max(free_at), max(free_at) - min(free_at)


@pytest.mark.parametrize("daemons", [1, 2, 4])
def test_daemons_end_at_about_the_same_time_and_chunks_cost_little(daemons: int) -> None:
    elements = random.Random(1)
    for _ in range(20):
        end, idle = makespan(
            sizes_of(50e-6, 1000, daemons), daemons, lambda: elements.expovariate(1 / 50e-6)
        )
        assert end < 1.3 * 1000 * 50e-6 / daemons
        assert idle < 1.5e-3


def test_what_is_expected_falls_at_once_and_rises_slowly() -> None:
    paces = Paces()
    assert paces.expected(7) is None
    seen = []
    for seconds in (1e-3, 1e-4, 2e-4, 1.0):
        paces.note(7, seconds)
        seen.append(paces.expected(7))
    assert seen == pytest.approx([1e-3, 1e-4, 1.1e-4, 1.43e-4])


def test_elements_that_stay_slow_are_believed() -> None:
    paces = Paces()
    paces.note(7, 1e-4)
    for _ in range(30):
        paces.note(7, 1e-3)
    expected = paces.expected(7)
    assert expected is not None
    assert expected > 0.9e-3


def test_nothing_is_known_of_what_has_no_kind() -> None:
    paces = Paces()
    paces.note(None, 1e-4)
    assert paces.expected(None) is None


def test_what_was_heard_of_first_is_forgotten_first() -> None:
    paces = Paces()
    for kind in range(1025):
        paces.note(kind, 1e-4)
    assert (paces.expected(0), paces.expected(1)) == (None, 1e-4)
