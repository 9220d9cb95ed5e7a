"""Whose call is queued, and whose waits, where the queue has room for so many bytes."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirai_executor._core import Admission, TaskId

A, B, C, D = (TaskId(n) for n in range(4))


def queued(capacity: int, *sizes: int) -> Admission:
    """Return an admission whose first tasks, A, B and so on, ask for so many bytes."""
    admission = Admission(capacity)
    for number, size in enumerate(sizes):
        admission.ask(TaskId(number), size)
    return admission


def test_calls_are_queued_as_long_as_they_fit() -> None:
    admission = Admission(10)
    assert [admission.ask(A, 4), admission.ask(B, 6), admission.ask(C, 1)] == [True, True, False]
    assert (admission.used, admission.peak) == (10, 10)


def test_who_waits_is_queued_first_in_first_out() -> None:
    admission = queued(10, 10, 8, 1, 9)
    assert admission.leave([A]) == [B, C]
    assert (admission.used, admission.leave([B]), admission.used) == (9, [D], 10)


def test_nobody_overtakes_who_waits() -> None:
    admission = queued(10, 6, 8)
    assert not admission.fits(1)
    assert not admission.ask(C, 1)


def test_a_call_larger_than_all_the_room_is_queued_alone() -> None:
    admission = queued(10, 1, 25, 1)
    assert admission.leave([A]) == [B]
    assert (admission.used, admission.fits(1)) == (25, False)
    assert admission.leave([B]) == [C]


def test_who_gives_up_lets_the_next_one_in() -> None:
    admission = queued(10, 6, 8, 4)
    assert admission.give_up(B) == [C]
    assert admission.give_up(A) == []
    assert (admission.used, admission.leave([B]), admission.is_queued(C)) == (4, [], True)


def test_who_was_turned_away_is_not_queued_when_there_is_room() -> None:
    admission = queued(10, 6, 8, 4)
    assert admission.turn_away() == [B, C]
    assert (admission.leave([A]), admission.used) == ([], 0)


def test_who_only_asks_when_there_is_room_takes_none() -> None:
    admission = queued(10, 6)
    assert admission.ask(B, 4, stays=False)
    assert not admission.ask(C, 5, stays=False)
    assert not admission.ask(D, 10)
    assert admission.leave([A]) == [C, D]
    assert admission.used == 10


def test_a_call_can_be_forced_in_and_the_bound_holds_again_when_it_has_left() -> None:
    admission = queued(10, 9)
    admission.force(B, 9)
    assert (admission.used, admission.fits(1), admission.leave([B]), admission.fits(1)) == (
        *(18, False),
        *([], True),
    )


def test_what_an_interrupt_has_left_half_done_is_put_right() -> None:
    admission = queued(10, 4)
    admission.used += 5  # struck before the call was noted
    admission.give_up(B)
    assert admission.used == 4


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["ask", "look", "leave", "give"]), st.integers(1, 15))))
def test_the_bound_holds_and_nobody_waits_without_a_reason(
    steps: list[tuple[str, int]],
) -> None:
    admission, sizes = Admission(10), dict[TaskId, int]()
    for number, (step, size) in enumerate(steps):
        task = TaskId(number)
        match step:
            case "ask" | "look":
                sizes[task] = size
                admission.ask(task, size, stays=step == "ask")
            case "leave":
                admission.leave([TaskId(size)])
            case _:
                admission.give_up(TaskId(size))
        inside = {task: size for task, size in sizes.items() if admission.is_queued(task)}
        assert admission.used == sum(inside.values())
        assert admission.used <= 10 or len(inside) == 1
        assert admission.peak >= admission.used
        if first := next(iter(admission._waiting), None):
            assert inside
            assert admission.used + sizes[first] > 10
