"""Dispatchers that look themselves over after every step."""

from collections.abc import Iterator

import pytest

from mirai_executor._core import Command, Dispatcher, Event, Policy

from .shorthand import Dispatch, start


class CheckedDispatcher(Dispatcher):
    """A dispatcher that looks itself over after every step."""

    def handle(self, event: Event, now: float) -> list[Command]:
        commands = super().handle(event, now)
        self.check_invariants()
        return commands

    def expire(self, now: float) -> list[Command]:
        commands = super().expire(now)
        self.check_invariants()
        return commands


@pytest.fixture
def dispatch() -> Iterator[Dispatch]:
    """Make dispatchers, of two daemons unless told; they are checked once more at the end."""
    made: list[Dispatcher] = []

    def make(max_daemons: int = 2, **options: object) -> Dispatcher:
        made.append(CheckedDispatcher(Policy(max_daemons, **options)))  # type: ignore[arg-type]
        return made[-1]  # options are those of Policy, each test names its own

    yield make
    for dispatcher in made:
        dispatcher.check_invariants()


@pytest.fixture
def dispatcher(dispatch: Dispatch) -> Dispatcher:
    """Two daemons at most, none of them started."""
    return dispatch()


@pytest.fixture
def single(dispatch: Dispatch) -> Dispatcher:
    """One daemon at most, and it is ready."""
    dispatcher = dispatch(1)
    start(dispatcher)
    return dispatcher
