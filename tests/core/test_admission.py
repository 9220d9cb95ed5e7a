"""Whose call is queued, and whose waits, where the queue has room for so many bytes."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirai_executor._core import Admission, TaskId, WaitingCall

A, B, C, D = (TaskId(n) for n in range(4))


def asked(now: Admission, task: TaskId, size: int, *, stays: bool = True) -> Admission:
    """Return what follows where a call asks for so many bytes."""
    if not now.fits(size):
        return now.with_waiting(WaitingCall(task, size, stays))
    return now.with_call(size) if stays else now


def queued(capacity: int, *sizes: int) -> Admission:
    """Return an admission whose first tasks, A, B and so on, ask for so many bytes."""
    now = Admission(capacity)
    for number, size in enumerate(sizes):
        now = asked(now, TaskId(number), size)
    return now


def names(calls: tuple[WaitingCall, ...]) -> list[TaskId]:
    return [call.task for call in calls]


def test_calls_are_queued_as_long_as_they_fit() -> None:
    now = queued(10, 4, 6, 1)
    assert (now.used, now.peak, names(now.waiting)) == (10, 10, [C])


def test_who_waits_is_queued_first_in_first_out() -> None:
    now, admitted = queued(10, 10, 8, 1, 9).without(10)
    assert (now.used, names(admitted)) == (9, [B, C])
    now, admitted = now.without(8)
    assert (now.used, names(admitted), now.waiting) == (10, [D], ())


def test_nobody_overtakes_who_waits() -> None:
    now = queued(10, 6, 8)
    assert not now.fits(1)
    assert names(asked(now, C, 1).waiting) == [B, C]


def test_a_call_larger_than_all_the_room_is_queued_alone() -> None:
    now, admitted = queued(10, 1, 25, 1).without(1)
    assert (now.used, now.fits(1), names(admitted)) == (25, False, [B])
    assert names(now.without(25)[1]) == [C]


def test_who_gives_up_lets_the_next_one_in() -> None:
    now, admitted = queued(10, 6, 8, 4).without(0, {B})
    assert (now.used, names(admitted), now.waiting) == (10, [C], ())
    now, admitted = now.without(6, {A})
    assert (now.used, admitted) == (4, ())


def test_where_nobody_waits_any_more_all_hear_of_it_and_none_is_queued() -> None:
    now = queued(10, 6, 8, 4).closed()
    assert (now.fits(100), names(now.waiting)) == (True, [B, C])
    now, admitted = now.without(0)
    assert (names(admitted), now.used, now.waiting) == ([B, C], 6, ())


def test_who_only_asks_when_there_is_room_takes_none() -> None:
    now = asked(queued(10, 6), B, 4, stays=False)
    assert (now.used, now.waiting) == (6, ())
    now = asked(asked(now, C, 5, stays=False), D, 10)
    now, admitted = now.without(6)
    assert (names(admitted), now.used) == ([C, D], 10)


def test_a_call_can_be_forced_in_and_the_bound_holds_again_when_it_has_left() -> None:
    now = queued(10, 9).with_call(9)
    assert (now.used, now.fits(1)) == (18, False)
    now, _ = now.without(9)
    assert (now.fits(1), now.fits(2)) == (True, False)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["ask", "look", "leave"]), st.integers(1, 15))))
def test_the_bound_holds_and_nobody_waits_without_a_reason(
    steps: list[tuple[str, int]],
) -> None:
    now, inside = Admission(10), dict[TaskId, int]()
    for number, (step, size) in enumerate(steps):
        if step == "leave":
            left = TaskId(size)
            now, admitted = now.without(inside.pop(left, 0), {left})
            inside |= {call.task: call.size for call in admitted if call.stays}
        else:
            if step == "ask" and now.fits(size):
                inside[TaskId(number)] = size
            now = asked(now, TaskId(number), size, stays=step == "ask")
        assert now.used == sum(inside.values())
        assert now.used <= 10 or len(inside) == 1
        assert now.peak >= now.used
        if now.waiting:
            assert inside
            assert now.used + now.waiting[0].size > 10
