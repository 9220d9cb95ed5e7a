"""Live: maps of elements on daemons, and what becomes of the others when one fails."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from live import mischief
from live.mischief import SOON, Bell
from mirai_executor import (
    DaemonLostError,
    DaemonsNotSetError,
    MiraiExecutor,
    TaskTimeoutError,
    daemons,
    mirai_map,
)

FOREVER = 1000.0


@pytest.fixture
def executor() -> Iterator[MiraiExecutor]:
    with mischief.running(2, cancel_grace=0.5) as executor:
        yield executor


def half_or_crash(x: int) -> int:
    if x == 0:
        mischief.exit_at_once()
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x // 2


def ring_and_nap(seconds: float, bell: Path) -> None:
    mischief.ring(bell)
    time.sleep(seconds)


def test_each_element_has_an_end_of_its_own(executor: MiraiExecutor) -> None:
    ends = executor.mirai_map([2, 3, 0, 4], half_or_crash).collect(stop=False)
    assert [ends[0], ends[3]] == [1, 2]
    assert [type(ends[1]), type(ends[2])] == [ValueError, DaemonLostError]


def test_the_first_error_stops_what_runs_and_what_waits(executor: MiraiExecutor) -> None:
    naps = executor.mirai_map([FOREVER, "x", FOREVER], time.sleep)
    with pytest.raises(TypeError) as raised:
        naps.collect()
    assert raised.value.__notes__ == ["This is of element 1 of mirai_map()."]
    assert [future.cancelled() for future in naps.futures] == [True, False, True]
    assert executor.submit(abs, -1).result(SOON) == 1  # a daemon is free again


def test_an_element_that_runs_too_long_is_stopped_and_no_other(executor: MiraiExecutor) -> None:
    naps = executor.mirai_map([0, FOREVER, 0], time.sleep, timeout=0.2)
    ends = naps.collect(stop=False)
    assert [ends[0], ends[2]] == [None, None]
    assert isinstance(ends[1], TaskTimeoutError)
    assert list(naps.failed()) == [1]


def test_a_map_that_runs_is_cancelled_as_one(executor: MiraiExecutor, bell: Bell) -> None:
    naps = executor.mirai_map([FOREVER] * 4, ring_and_nap, args=(bell.path,))
    bell.wait()
    assert naps.cancel() == 4
    assert {type(end) for end in naps.collect(stop=False)} == {CancelledError}
    assert executor.submit(abs, -1).result(SOON) == 1


def test_a_view_has_maps_with_its_limits(executor: MiraiExecutor) -> None:
    view = executor.with_options(timeout=0.2)
    (end,) = view.mirai_map([FOREVER], time.sleep).collect(stop=False)
    assert isinstance(end, TaskTimeoutError)


def test_who_stops_awaiting_a_map_stops_its_work(executor: MiraiExecutor, bell: Bell) -> None:
    async def give_up() -> None:
        naps = executor.mirai_map([FOREVER], ring_and_nap, args=(bell.path,))

        async def wait() -> None:
            await naps

        waiting = asyncio.ensure_future(wait())
        await asyncio.to_thread(bell.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert naps.done()

    asyncio.run(give_up())
    assert executor.submit(abs, -1).result(SOON) == 1


def test_a_map_goes_to_the_current_profile_and_nowhere_without_one() -> None:
    with pytest.raises(DaemonsNotSetError):
        mirai_map([1], abs)
    with daemons(1):
        assert mirai_map({"a": -1}, abs).collect() == {"a": 1}
