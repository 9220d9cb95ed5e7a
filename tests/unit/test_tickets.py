"""The tickets that decide who has a task."""

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from mirai_executor import _nameless
from mirai_executor._shared import Page, Pages, TicketOffice, Tickets

SOON = 30  # seconds


class Other:
    """Another process, which takes tickets when it is told to: locks are between processes."""

    def __init__(self, fd: int) -> None:
        self._here, there = Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                self._here.close()
                _take(Tickets(Page.inherited(fd).tickets, fd), there)
            os._exit(0)
        there.close()

    def order(self, count: int) -> None:
        self._here.send(count)

    def taken(self) -> list[bool]:
        assert self._here.poll(SOON)
        taken: list[bool] = self._here.recv()
        return taken

    def take(self, count: int) -> list[bool]:
        self.order(count)
        return self.taken()

    def end(self, signum: int = signal.SIGKILL) -> None:
        if self.pid:
            os.kill(self.pid, signum)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self._here.close()


def _take(tickets: Tickets, there: Connection) -> None:
    counters: Any = tickets._counters
    while True:
        count = there.recv()
        slow: Any = Slow(counters, there)
        tickets._counters = slow if count < 0 else counters
        there.send([tickets.take() for _ in range(abs(count))])


class Slow:
    """Counters that are looked at only when the other side has been told, and has gone on."""

    def __init__(self, counters: Any, there: Connection) -> None:
        self._counters = counters
        self._there = there

    def __getitem__(self, index: int) -> int:
        self._there.send([])
        self._there.recv()
        value: int = self._counters[index]
        return value

    def __setitem__(self, index: int, value: int) -> None:
        self._counters[index] = value


@pytest.fixture
def pages() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


@contextlib.contextmanager
def side_by_side(pages: Pages) -> Iterator[tuple[TicketOffice, Other]]:
    page, office, fd = pages.create()
    daemon = Other(fd)
    os.close(fd)
    yield office, daemon
    daemon.end()
    pages.release(page)


Sides = tuple[TicketOffice, Other]


@pytest.fixture
def sides(pages: Pages) -> Iterator[Sides]:
    with side_by_side(pages) as sides:
        yield sides


def test_a_daemon_takes_the_tickets_of_its_tasks_in_order(sides: Sides) -> None:
    office, daemon = sides
    office.issue([3, 1, 2**63 - 1])
    assert daemon.take(3) == [True] * 3
    assert office.take_back() == ()


def test_what_the_host_has_taken_back_is_never_begun(sides: Sides) -> None:
    office, daemon = sides
    office.issue([1, 2, 3])
    assert daemon.take(1) == [True]
    assert office.take_back() == (2, 3)
    assert office.take_back() == ()
    office.issue([2])
    assert daemon.take(3) == [False, False, True]


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_task_whose_ticket_is_locked_is_the_daemons_whenever_it_looks_at_the_page(
    sides: Sides, before: int
) -> None:
    office, daemon = sides
    office.issue([1, 2, 3])
    assert daemon.take(before) == [True] * before
    assert office.take_back() == (1, 2, 3)[before:]
    office.issue([4, 5, 6])
    office.issue([7])
    assert daemon.take(3 - before) == [False] * (3 - before)
    daemon.order(-1)
    assert daemon.taken() == []  # it has locked the ticket of 4, and nothing else
    assert office.take_back() == (5, 6, 7)
    assert daemon.take(1) == [True]
    assert office.take_back() == ()
    assert daemon.take(3) == [False] * 3
    office.issue([8])
    assert daemon.take(1) == [True]


def test_what_was_taken_back_twice_in_a_row_is_never_begun(sides: Sides) -> None:
    office, daemon = sides
    office.issue([1, 2])
    assert daemon.take(1) == [True]
    assert office.take_back() == (2,)
    office.issue([3, 4])
    assert office.take_back() == (3, 4)
    office.issue([5])
    assert daemon.take(4) == [False, False, False, True]


def test_what_was_left_out_is_neither_begun_nor_taken_back(sides: Sides) -> None:
    office, daemon = sides
    office.issue([1, 2, 3, 4, 5], without={2, 4})
    assert daemon.take(3) == [True, False, True]
    assert office.take_back() == (5,)
    office.issue([6])
    assert daemon.take(3) == [False, False, True]


def test_of_a_daemon_that_has_died_what_it_had_begun_does_not_come_back(sides: Sides) -> None:
    office, daemon = sides
    office.issue([1, 2, 3])
    daemon.take(2)
    daemon.end()
    assert office.take_back() == (3,)


def test_a_page_issues_tickets_from_the_start_though_it_was_anothers(pages: Pages) -> None:
    for _ in range(20):  # more than a sheet has
        with side_by_side(pages) as (office, daemon):
            office.issue([1, 2, 3])
            assert daemon.take(1) == [True]
            assert office.take_back() == (2, 3)


@pytest.mark.parametrize("has_proc", [True, False])
def test_the_daemons_of_a_sheet_do_not_take_each_others(
    pages: Pages, has_proc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, _: int) -> int:
        raise FileNotFoundError(f"no /proc/self/fd/{fd}")

    if not has_proc:
        monkeypatch.setattr(_nameless, "reopen", refuse)
    with side_by_side(pages) as (one, its), side_by_side(pages) as (other, others):
        one.issue([1, 2])
        other.issue([3, 4])
        assert its.take(2) == [True, True]
        assert other.take_back() == (3, 4)
        other.issue([5])
        assert others.take(3) == [False, False, True]


def test_an_office_remembers_no_more_than_the_last_hundreds(sides: Sides) -> None:
    office, daemon = sides
    for first in range(1, 5001, 100):
        office.issue(range(first, first + 100))
        assert all(daemon.take(100))
    assert len(office._tasks) < 500
    office.issue([7])
    assert office.take_back() == (7,)


def test_each_task_has_one_owner_when_both_sides_take_at_once(sides: Sides) -> None:
    office, daemon = sides
    chance = random.Random(1)
    waiting, begun, returned = list(range(1, 3001)), [], 0
    while waiting:
        frame, waiting = waiting[:7], waiting[7:]
        office.issue(frame)
        daemon.order(len(frame))
        back = office.take_back() if chance.random() < 0.5 else ()
        begun += [task for task, is_its in zip(frame, daemon.taken(), strict=True) if is_its]
        returned += len(back)
        waiting = [*back, *waiting]
    assert begun == list(range(1, 3001)), "each once, and in order"
    assert returned, "nothing was ever taken back"
