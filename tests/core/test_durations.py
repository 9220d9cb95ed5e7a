"""What the dispatcher learns about how long tasks take."""

import pytest

from mirai_executor._core._matching import Durations


def test_nothing_is_expected_before_three_tasks_have_ended() -> None:
    durations = Durations()
    for _ in range(2):
        durations.note(1, 0.5)
    assert durations.expected(1) is None
    durations.note(1, 0.5)
    assert durations.expected(1) == 0.5


def test_one_slow_task_is_believed_at_once_and_forgotten_in_ten_steps() -> None:
    durations = Durations()
    for _ in range(10):
        durations.note(1, 0.001)
    durations.note(1, 1.0)
    assert durations.expected(1) == 1.0
    durations.note(1, 0.001)
    assert durations.expected(1) == 0.5
    for _ in range(9):
        durations.note(1, 0.001)
    assert durations.expected(1) == pytest.approx(0.00176, rel=0.01)


def test_the_average_follows_tasks_that_are_a_little_shorter_slowly() -> None:
    durations = Durations()
    for _ in range(3):
        durations.note(1, 1.0)
    durations.note(1, 0.6)
    assert durations.expected(1) == pytest.approx(0.92)


def test_a_kind_that_is_distrusted_has_to_prove_itself_again() -> None:
    durations = Durations()
    for _ in range(3):
        durations.note(1, 0.001)
    durations.distrust(1)
    assert durations.expected(1) is None


def test_tasks_without_a_kind_teach_nothing() -> None:
    durations = Durations()
    for _ in range(9):
        durations.note(None, 0.1)
        durations.note(1, None)
    assert durations.expected(None) is None
    assert durations.expected(1) is None


def test_the_memory_is_bounded_and_keeps_what_is_in_use() -> None:
    durations = Durations()
    for n in range(100_000):
        durations.note(n, 0.001)
        durations.note(-1, 0.001)
    assert durations.expected(-1) is not None
    assert len(durations._known) <= 1024
