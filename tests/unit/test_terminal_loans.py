"""Programs to which a daemon lends the terminal are told to go on: by one thread for each loan."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from mirai_executor.daemon import _terminal
from mirai_executor.daemon._terminal import Visit

PROGRAM = 4321


class Programs:
    """What is in the group of a daemon, and what is done to it.

    Attributes:
        threads: The functions of those that were started, with their arguments.
        told: The processes that were told to go on, each by itself.
        pauses: What happens while a thread waits, one after the other.
    """

    def __init__(self) -> None:
        self.threads: list[tuple[Any, tuple[Any, ...]]] = []
        self.told: list[int] = []
        self.pauses: list[Callable[[], object]] = []

    def start(self, function: Any, args: tuple[Any, ...]) -> None:
        self.threads.append((function, args))

    def kill(self, pid: int, number: int) -> None:
        assert number == signal.SIGCONT
        self.told.append(pid)

    def sleep(self, _: float) -> None:
        if self.pauses:
            self.pauses.pop(0)()

    def run(self, number: int) -> None:
        function, args = self.threads[number]
        function(*args)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs()
    monkeypatch.setattr("_thread.start_new_thread", made.start)
    monkeypatch.setattr("time.sleep", made.sleep)
    monkeypatch.setattr(_terminal, "_stopped", lambda group: [PROGRAM])
    monkeypatch.setattr(os, "kill", made.kill)
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: None)
    monkeypatch.setattr(os, "killpg", lambda group, number: None)
    monkeypatch.setattr(os, "setpgid", lambda pid, group: None)
    return made


def lend(visit: Visit) -> None:
    visit._borrow(group=1, front=os.getpid())  # it is in front already, and tells them once more


def visit_of(host: int = 0) -> Visit:
    return Visit(host, -1, lambda *_: None)


def test_programs_that_stop_themselves_are_told_again_some_times(programs: Programs) -> None:
    lend(visit_of())
    programs.run(0)
    assert programs.told == [PROGRAM] * len(_terminal._PAUSES)


def test_a_ctrl_z_between_two_looks_is_not_taken_back(programs: Programs) -> None:
    visit = visit_of()
    lend(visit)
    programs.pauses = [lambda: None, lambda: stop(visit)]
    programs.run(0)
    assert programs.told == [PROGRAM]


def test_nor_is_one_that_comes_while_a_thread_looks(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = visit_of()
    lend(visit)

    def stopped(_: int) -> list[int]:
        stop(visit)
        return [PROGRAM]

    monkeypatch.setattr(_terminal, "_stopped", stopped)
    programs.run(0)
    assert programs.told == []


def test_a_ctrl_z_whose_handler_waits_for_another_signal_is_heard_before_a_look(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = visit_of()
    woken: list[int] = []

    def wake(thread: int, number: int) -> None:
        assert thread == threading.get_ident(), "the one that is told of signals"
        woken.append(number)
        stop(visit)

    monkeypatch.setattr(signal, "pthread_kill", wake)
    lend(visit)
    programs.run(0)
    assert programs.told == []
    assert woken == [signal.SIGURG]


def test_a_new_loan_is_insisted_on_while_the_thread_of_an_old_one_is_about_to_end(
    programs: Programs,
) -> None:
    visit = visit_of()
    lend(visit)
    programs.pauses = [lambda: lend(visit)]
    programs.run(0)  # ends without a word: the other one goes on
    assert programs.told == []
    programs.run(1)
    assert programs.told == [PROGRAM] * len(_terminal._PAUSES)


def stop(visit: Visit) -> None:
    visit._host_stops = lambda: False  # type: ignore[method-assign]  # there is none
    visit._pass_stop_on(signal.SIGTSTP, None)
