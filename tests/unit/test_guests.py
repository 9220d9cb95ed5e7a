"""Which peers that have proved nothing are kept, and which go when others come."""

import logging
import random
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from mirai_executor._host import _guests
from mirai_executor._host._guests import (
    Refusals,
    is_reserved,
    most_guests,
    network_of,
    who_goes,
)
from mirai_executor._waiting import Reactor
from mirai_executor.credentials import WrongSecretError


@dataclass
class Guest:
    network: str
    has_greeted: bool = False


FAR = 0  # the descriptor of a daemon that is far away


@pytest.mark.parametrize(
    ("daemon", "arrivals"),
    [
        pytest.param(Guest("192.0.2.2"), 10_000, id="from another address"),
        pytest.param(Guest("192.0.2.1", has_greeted=True), 10_000, id="that has greeted"),
    ],
)
def test_a_crowd_of_one_address_sends_no_daemon_away(daemon: Guest, arrivals: int) -> None:
    guests = {FAR: daemon} | {fd: Guest("192.0.2.1") for fd in range(1, 128)}
    for fd in range(128, 128 + arrivals):
        del guests[who_goes(guests)]
        guests[fd] = Guest("192.0.2.1")
    assert FAR in guests


def test_of_those_that_are_alike_one_goes_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "choice", random.Random(7).choice)
    guests = {fd: Guest("192.0.2.1") for fd in range(128)}
    assert len({who_goes(guests) for _ in range(1000)}) > 100


def test_a_network_is_what_one_stranger_has() -> None:
    assert network_of("192.0.2.1") != network_of("192.0.2.2")
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:192.0.2.1") != network_of("::ffff:192.0.2.2")
    assert network_of("this machine") == "this machine"


@pytest.mark.parametrize(
    ("limit", "places", "reserved"),
    [(64, 8, 56), (256, 32, 240), (1024, 128, 1008), (1 << 20, 128, (1 << 20) - 16)],
)
def test_guests_leave_most_descriptors_to_the_program(
    limit: int, places: int, reserved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert most_guests() == places
    assert is_reserved(reserved)
    assert not is_reserved(reserved - 1)


class Later:
    """Takes what is to be called later."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def call_in(self, _: float, call: Callable[[], object]) -> "Later":
        self.calls.append(call)
        return self

    def cancel(self) -> None:
        self.calls.clear()


def test_the_log_has_ten_lines_of_refusals_and_then_sums_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    later = Later()
    refusals = Refusals(cast("Reactor", later))
    with caplog.at_level(logging.WARNING, "mirai_executor"):
        for number in range(_guests._LINES + 500):
            refusals.note("192.0.2.1", WrongSecretError(f"wrong, for the {number}th time"))
            refusals.note("192.0.2.1", OSError("gone"))
        assert refusals.count == 2 * _guests._LINES + 1000
        assert len(caplog.messages) == _guests._LINES
        [sum_up] = later.calls
        sum_up()
        assert len(caplog.messages) == _guests._LINES + 1
        assert caplog.messages[-1].startswith("more connections were refused: 500, ")
        assert "wrong, for the 509th time" in caplog.messages[-1]
        refusals.note("192.0.2.9", WrongSecretError("once more"))
        refusals.close()
        assert caplog.messages[-1].startswith("more connections were refused: 1, ")
