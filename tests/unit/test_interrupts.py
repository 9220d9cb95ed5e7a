"""The window in which signals interrupt a task, and what is done once as it opens or closes."""

from typing import cast

import pytest

from mirai_executor._shared import Page
from mirai_executor.daemon._interrupts import Interrupts


class QuietPage:
    def must_stop(self, _: int) -> bool:
        return False


@pytest.fixture
def interrupts() -> Interrupts:
    return Interrupts(cast("Page", QuietPage()), lambda: None)


def test_a_step_for_the_end_of_a_task_is_taken_once_outside_the_window(
    interrupts: Interrupts,
) -> None:
    was_open: list[bool] = []
    assert interrupts.enter(1)
    interrupts.on_next("leave", lambda: was_open.append(interrupts.is_open))
    assert (interrupts.is_open, was_open) == (True, [])
    interrupts.leave()
    assert interrupts.enter(2)
    interrupts.leave()
    assert (interrupts.is_open, was_open) == (False, [False])


def test_a_step_for_the_next_task_is_taken_once_before_it(interrupts: Interrupts) -> None:
    was_open: list[bool] = []
    interrupts.on_next("enter", lambda: was_open.append(interrupts.is_open))
    assert interrupts.enter(1)
    assert (interrupts.is_open, interrupts.task, was_open) == (True, 1, [False])
    interrupts.leave()
    assert interrupts.enter(2)
    assert was_open == [False]


def test_a_task_for_which_no_step_is_taken_calls_nothing_more(interrupts: Interrupts) -> None:
    interrupts.on_next("leave", lambda: None)
    interrupts.on_next("enter", lambda: None)
    interrupts.enter(1)
    interrupts.leave()
    assert not {"enter", "leave"} & vars(interrupts).keys()
