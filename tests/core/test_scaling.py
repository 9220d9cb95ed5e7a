"""How many daemons to ask for, and to let go: one story at a time, and any load at all."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirai_executor._core import Change, Load, ScalePolicy, Scaler

NOTHING = Change()


def load(demand: int, connected: int = 0, *, came: int | None = None, completed: int = 0) -> Load:
    return Load(demand, connected, connected if came is None else came, completed)


@pytest.fixture
def scaler() -> Scaler:
    return Scaler(ScalePolicy(minimum=1, maximum=10, idle_time=60.0, patience=600.0))


def test_the_minimum_is_asked_for_though_there_is_no_work(scaler: Scaler) -> None:
    assert scaler.decide(load(0), 0) == Change(launch=1)


def test_all_that_are_missing_are_asked_for_at_once_up_to_the_maximum(scaler: Scaler) -> None:
    assert scaler.decide(load(1000), 0) == Change(launch=10)


def test_what_is_coming_is_not_asked_for_again(scaler: Scaler) -> None:
    scaler.decide(load(3), 0)
    assert scaler.decide(load(3), 1) == NOTHING
    assert scaler.decide(load(5), 2) == Change(launch=2)
    assert scaler.decide(load(5, connected=4), 3) == NOTHING


def test_those_who_come_are_not_counted_twice(scaler: Scaler) -> None:
    scaler.decide(load(3), 0)
    assert scaler.decide(load(9, connected=3), 1) == Change(launch=6)


def test_who_has_gone_is_not_replaced_while_its_keeper_is_about_to_bring_another(
    scaler: Scaler,
) -> None:
    scaler.decide(load(2), 0)
    assert scaler.decide(load(2, connected=2), 1) == NOTHING
    scaler.expect_back(10)
    assert scaler.decide(load(2, connected=1, came=2), 10) == NOTHING
    assert scaler.next_look(load(2, connected=1, came=2), 10) == 15
    scaler.note_back(14)
    assert scaler.decide(load(2, connected=1, came=2), 20) == NOTHING  # it takes long to start
    assert scaler.decide(load(2, connected=2, came=3), 30) == NOTHING
    assert (scaler.coming, scaler.returning) == (0, 0)


def test_a_keeper_that_does_not_come_back_in_time_is_no_failure_and_another_is_asked_for(
    scaler: Scaler,
) -> None:
    scaler.decide(load(2), 0)
    scaler.decide(load(2, connected=2), 1)
    scaler.expect_back(10)
    assert scaler.decide(load(2, connected=1, came=2), 15) == Change(launch=1)
    assert scaler.failures == 0
    scaler.note_back(16)  # started by hand: nobody expects it
    assert scaler.coming == 1


def test_who_does_not_come_in_time_is_asked_for_again_after_a_pause(scaler: Scaler) -> None:
    scaler.decide(load(2), 0)
    assert scaler.next_look(load(2), 0) == 600
    assert scaler.decide(load(2), 600) == NOTHING
    assert scaler.next_look(load(2), 600) == 601
    assert scaler.decide(load(2), 601) == Change(launch=2)


def test_what_waits_in_a_queue_is_asked_for_again_and_again_and_is_no_refusal(
    scaler: Scaler,
) -> None:
    scaler.decide(load(2), 0)
    for n in range(1, 20):
        now = 601.0 * n
        assert scaler.decide(load(2), now - 1) == NOTHING
        assert scaler.decide(load(2), now) == Change(launch=2)  # who launches looks into the queue
        scaler.note_queued()
        assert not scaler.is_refused


def test_after_each_refusal_the_pause_doubles(scaler: Scaler) -> None:
    now, pauses = 0.0, []
    for _ in range(11):
        assert scaler.decide(load(2), now) == Change(launch=2)
        scaler.refuse(2, now)
        look = scaler.next_look(load(2), now)
        assert look is not None
        assert scaler.decide(load(2), look - 0.1) == NOTHING
        pauses.append(look - now)
        now = look
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_task_that_was_done_ends_the_pause(scaler: Scaler) -> None:
    for now in (0, 1, 3):
        assert scaler.decide(load(2), now).launch
        scaler.refuse(2, now)
    assert scaler.decide(load(2, connected=1, completed=1), 7) == Change(launch=1)
    scaler.refuse(1, 7)
    assert scaler.next_look(load(2, connected=1), 7) == 8


def test_what_others_do_does_not_end_the_pause_of_a_machine_from_which_none_comes(
    scaler: Scaler,
) -> None:
    looks: list[float] = []
    scaler.decide(load(2, connected=1), 0)
    for completed in range(1, 4):
        scaler.refuse(1, looks[-1] if looks else 0)
        busy = load(2, connected=1, completed=completed)
        look = scaler.next_look(busy, looks[-1] if looks else 0)
        assert look is not None
        looks.append(look)
        assert scaler.decide(busy, look) == Change(launch=1)
    assert looks == [1, 3, 7]


def test_four_refusals_in_a_row_are_a_refusal(scaler: Scaler) -> None:
    refused = []
    for now in (0, 1, 3, 7):
        assert scaler.decide(load(2), now).launch
        scaler.refuse(2, now)
        refused.append(scaler.is_refused)
    assert refused == [False, False, False, True]


def test_daemons_that_come_and_do_nothing_are_asked_for_ever_more_seldom(scaler: Scaler) -> None:
    requests, came, now = [], 0, 0.0
    while now < 1000:
        change = scaler.decide(load(1, came=came), now)
        if change.launch:
            requests.append(now)
            came += change.launch
        now += 1
    assert len(requests) < 150
    assert requests[-1] - requests[-12] > 100


def test_what_is_not_needed_for_a_while_is_let_go_but_for_the_minimum(scaler: Scaler) -> None:
    scaler.decide(load(5), 0)
    assert scaler.decide(load(0, connected=5), 10) == NOTHING
    assert scaler.next_look(load(0, connected=5), 10) == 70
    assert scaler.decide(load(0, connected=5), 69) == NOTHING
    assert scaler.decide(load(0, connected=5), 70) == Change(dismiss=4)


def test_what_was_needed_for_a_moment_is_kept(scaler: Scaler) -> None:
    scaler.decide(load(5), 0)
    scaler.decide(load(0, connected=5), 10)
    scaler.decide(load(3, connected=5), 40)
    assert scaler.decide(load(0, connected=5), 70) == Change(dismiss=2)


def test_who_is_needed_ends_the_wait(scaler: Scaler) -> None:
    scaler.decide(load(5), 0)
    scaler.decide(load(0, connected=5), 10)
    scaler.decide(load(5, connected=5), 69)
    assert scaler.decide(load(0, connected=5), 70) == NOTHING
    assert scaler.decide(load(0, connected=5), 130) == Change(dismiss=4)


def test_at_rest_time_changes_nothing(scaler: Scaler) -> None:
    scaler.decide(load(1), 0)
    assert scaler.decide(load(0, connected=1), 1) == NOTHING
    assert scaler.next_look(load(0, connected=1), 1) is None


@pytest.mark.parametrize("wrong", [(-1, 2), (3, 2), (0, 0)])
def test_numbers_that_cannot_be_are_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="minimum"):
        ScalePolicy(*wrong)


@settings(deadline=None)  # a busy machine is no error
@given(st.data())
def test_there_are_never_more_than_the_maximum_and_work_is_never_forgotten(
    data: st.DataObject,
) -> None:
    scaler = Scaler(ScalePolicy(minimum=1, maximum=5, idle_time=10.0, patience=50.0))
    now, connected, came, completed = 0.0, 0, 0, 0
    for _ in range(data.draw(st.integers(1, 60))):
        demand = data.draw(st.integers(0, 9))
        state = Load(demand, connected, came, completed)
        change = scaler.decide(state, now)
        assert not (change.launch and change.dismiss)
        assert change.dismiss <= max(0, connected - max(1, min(5, demand)))
        assert connected + scaler.coming <= max(5, connected)
        look = scaler.next_look(state, now)
        if demand > connected + scaler.coming and connected + scaler.coming < 5:
            assert look is not None, "nobody will ask again"
        connected -= change.dismiss
        arrivals = data.draw(st.integers(0, scaler.coming))
        if change.launch and data.draw(st.booleans()):
            scaler.refuse(change.launch, now)
            arrivals = 0
        lost = data.draw(st.integers(0, connected))
        connected += arrivals - lost
        came += arrivals
        completed += data.draw(st.integers(0, 3)) if connected else 0
        now += data.draw(st.sampled_from([0.5, 1.0, 20.0, 60.0]))


# Keeping a number of daemons


@pytest.fixture
def keeper() -> Scaler:
    """Two daemons were asked for, and are kept."""
    scaler = Scaler(ScalePolicy(minimum=2, maximum=2, idle_time=math.inf))
    scaler.expect(2, 0)
    return scaler


def test_who_is_lost_is_asked_for_again(keeper: Scaler) -> None:
    assert keeper.decide(load(0), 1) == NOTHING
    assert keeper.decide(load(0, connected=2), 2) == NOTHING
    assert keeper.decide(load(0, connected=1, came=2), 3) == Change(launch=1)
    assert keeper.decide(load(0, connected=1, came=2), 4) == NOTHING


def test_more_that_were_asked_for_are_kept_as_well(keeper: Scaler) -> None:
    keeper.decide(load(0, connected=2), 1)
    keeper.grow(3, 2)
    assert keeper.decide(load(0, connected=2), 2) == NOTHING
    assert keeper.decide(load(0, connected=5), 3) == NOTHING
    assert keeper.decide(load(0, connected=4, came=5), 4) == Change(launch=1)


def test_who_comes_and_is_never_ready_is_asked_for_again_after_a_pause(keeper: Scaler) -> None:
    lost = Load(1, connected=1, cumulative=1, completed=0, lost_early=1)
    assert keeper.decide(lost, 1) == NOTHING
    assert keeper.next_look(lost, 1) == 2
    assert keeper.decide(lost, 2) == Change(launch=1)
    assert keeper.failures == 1


def test_at_the_end_only_what_is_left_to_do_is_a_reason_to_ask(keeper: Scaler) -> None:
    keeper.decide(load(0, connected=2), 1)
    ending = Load(0, 0, 2, 0, is_closing=True)
    assert keeper.decide(ending, 2) == NOTHING
    assert keeper.decide(ending.changed(demand=5), 3) == Change(launch=2)


def test_where_daemons_leave_when_idle_they_are_replaced_for_work_alone() -> None:
    lazy = Scaler(ScalePolicy(minimum=0, maximum=2, idle_time=math.inf))
    lazy.expect(2, 0)
    lazy.decide(load(0, connected=2), 1)
    assert lazy.decide(load(0, connected=0, came=2), 2) == NOTHING
    assert lazy.decide(load(3, connected=0, came=2), 3) == Change(launch=2)


def test_what_was_asked_for_and_is_not_needed_any_more_is_cancelled(scaler: Scaler) -> None:
    scaler.decide(load(5), 0)
    assert scaler.decide(load(2), 10) == NOTHING
    assert scaler.next_look(load(2), 10) == 70
    assert scaler.decide(load(2), 70) == Change(cancel=3)
    scaler.forget(3)
    assert scaler.coming == 2
    assert scaler.decide(load(3), 71) == Change(launch=1)
