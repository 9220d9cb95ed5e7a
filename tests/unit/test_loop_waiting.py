"""How the host thread waits: when it spins for a result, and what it sees meanwhile."""

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from mirai_executor._host._loop import Loop


class Selector:
    """Has nothing ready; something else may happen during a look."""

    def __init__(self, meanwhile: Any = lambda: None) -> None:
        self._meanwhile = meanwhile

    def select(self, timeout: float) -> list[Any]:
        assert timeout == 0
        self._meanwhile()
        return []


def test_an_item_that_comes_during_a_look_ends_it() -> None:
    inbox: deque[int] = deque()
    loop: Any = SimpleNamespace(_inbox=inbox, _selector=Selector())
    assert Loop._look(loop) is None
    loop._selector = Selector(lambda: inbox.append(1))
    assert Loop._look(loop) == []


@pytest.mark.parametrize(("count", "spins"), [(0, False), (1, True), (2, False)])
@pytest.mark.parametrize("comes", [True, False])
def test_only_the_result_of_a_single_task_is_spun_for(
    count: int, spins: bool, comes: bool
) -> None:
    happened: list[str] = []

    def spin(look: Any) -> list[Any] | None:
        happened.append("spin")
        return [] if comes else None

    spinner = SimpleNamespace(spin=spin, learn=lambda seconds: happened.append("learn"))

    def sleep() -> list[Any]:
        happened.append("sleep")
        return []

    loop: Any = SimpleNamespace(
        _open=dict.fromkeys(range(count)),
        _inbox=deque(),
        _selector=Selector(),
        _spinner=spinner,
        _look=None,
        _sleep=sleep,
    )
    assert Loop._wait(loop) == []
    sleeps = not (spins and comes)
    assert happened == ["spin"] * spins + ["sleep"] * sleeps + ["learn"] * spins
