"""How many elements make a chunk, and what is expected of them."""

import pytest

from mirai_executor._core import Paces, chunk_size


@pytest.mark.parametrize(
    ("seconds", "count", "daemons", "expected"),
    [
        (None, 1000, 2, 1),  # nobody knows
        (50e-6, 1000, 2, 32),  # at most 2.5 ms of work, and a power of two
        (1e-6, 100_000, 2, 256),  # no more than is worth it
        (0.0, 100_000, 2, 256),
        (50e-6, 100, 2, 8),  # four chunks for each daemon
        (50e-6, 1000, 64, 2),
        (50e-6, 5, 2, 1),
        (50e-6, 0, 2, 1),
        (50e-6, 1000, 0, 32),  # none is connected
        (1.25e-3, 1000, 2, 2),
        (2e-3, 1000, 2, 1),
        (10.0, 1000, 2, 1),
    ],
)
def test_a_chunk_holds_little_work_and_leaves_some_for_each_daemon(
    seconds: float | None, count: int, daemons: int, expected: int
) -> None:
    assert chunk_size(seconds, count, daemons) == expected


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
