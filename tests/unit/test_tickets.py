"""The tickets that decide who has a task."""

import os
import random
import threading
from collections.abc import Iterator

import pytest

from mirai_executor._shared import TicketOffice, Tickets

Sides = tuple[TicketOffice, Tickets]


@pytest.fixture
def sides() -> Iterator[Sides]:
    office, fd = TicketOffice.create()
    yield office, Tickets(fd)
    office.close()
    os.close(fd)


def test_a_daemon_takes_the_tickets_of_its_tasks_in_order(sides: Sides) -> None:
    office, tickets = sides
    office.issue([3, 1, 2**63 - 1])
    assert [tickets.take(task) for task in (3, 1, 2**63 - 1)] == [True] * 3
    assert office.take_back() == ()


def test_what_the_host_has_taken_back_is_never_begun(sides: Sides) -> None:
    office, tickets = sides
    office.issue([1, 2, 3])
    assert tickets.take(1)
    assert office.take_back() == (2, 3)
    assert not tickets.take(2)
    assert not tickets.take(3)


def test_a_daemon_skips_to_the_task_whose_ticket_it_finds(sides: Sides) -> None:
    office, tickets = sides
    office.issue([1, 2, 3])
    office.take_back()
    office.issue([2, 4])  # 1 and 3 have gone elsewhere
    old_frame_and_new = [1, 2, 3, 2, 4]
    assert [tickets.take(task) for task in old_frame_and_new] == [False, True, False, False, True]


@pytest.mark.parametrize("tasks", [500, pytest.param(3000, marks=pytest.mark.chaos)])
def test_each_task_has_one_owner_when_both_sides_take_at_once(sides: Sides, tasks: int) -> None:
    office, tickets = sides
    office._write = os.write  # two threads stand for two processes: one lets the other run
    chance = random.Random(1)
    begun: list[int] = []
    sent: list[int] = []
    more, done = threading.Semaphore(0), threading.Event()

    def daemon() -> None:
        at = 0
        while not done.is_set() or at < len(sent):
            more.acquire()
            for task in sent[at:]:
                begun.extend([task] if tickets.take(task) else [])
                at += 1

    thread = threading.Thread(target=daemon)
    thread.start()
    waiting, returned = list(range(1, tasks + 1)), 0
    while waiting:
        frame, waiting = waiting[:7], waiting[7:]
        office.issue(frame)
        sent.extend(frame)
        more.release()
        if chance.random() < 0.5:
            back = office.take_back()
            returned += len(back)
            waiting = [*back, *waiting]
    done.set()
    more.release()
    thread.join()
    assert begun == list(range(1, tasks + 1)), "each once, and in order"
    assert returned, "nothing was ever taken back"
