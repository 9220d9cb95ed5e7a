"""Live: elements that share a chunk end each as a task of its own would, and run once at most."""

import asyncio
import contextlib
import gc
import os
import pickle
import queue
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live import mischief
from live.map_storms import storm
from live.mischief import SOON, Bell, Tally
from mirai_executor import (
    DaemonLostError,
    MiraiExecutor,
    MiraiMap,
    PayloadError,
    Progress,
    progress,
    report,
)
from mirai_executor._core import Paces
from mirai_executor._host import kind_of
from mirai_executor._maps import _chunks

FOREVER = 1000.0
COUNT = 32  # elements: with one daemon, four chunks of eight


@pytest.fixture
def executor() -> Iterator[MiraiExecutor]:
    with mischief.running(1, cancel_grace=0.3) as executor:
        yield executor


def mapped(
    executor: MiraiExecutor, fn: Callable[..., Any], xs: Any, **options: Any
) -> MiraiMap[Any]:
    """Map over elements that are known to be short, whether they are or not."""
    paces = _chunks._known.setdefault(executor._host, Paces())
    kind = kind_of(fn, ())
    assert kind is not None
    paces.note(kind, 1e-6)
    return executor.mirai_map(xs, fn, **options)


def count_and_do(what: Any, tally: Path) -> Any:
    place, do, *args = what
    with tally.open("a") as file:
        file.write(f"{place}\n")
    return do(*args)


def ring_and_resist(bell: Path) -> None:
    has_rung = False
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            if not has_rung:
                has_rung = True
                mischief.ring(bell)
            time.sleep(FOREVER)


def work(special: dict[int, tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return what each element does: something special, or else to return its place."""
    return [(place, *special.get(place, (abs, place))) for place in range(COUNT)]


def test_short_elements_are_found_to_be_short_and_sent_in_chunks(
    executor: MiraiExecutor, sizes: list[int]
) -> None:
    for _ in range(20):  # a machine under load may take too long to answer the probes
        assert executor.mirai_map(range(200), abs).collect() == list(range(200))
        if max(sizes) > 1:
            break
    assert max(sizes) > 1


def test_errors_and_results_that_cannot_be_pickled_are_those_of_elements(
    executor: MiraiExecutor, sizes: list[int], tally: Tally
) -> None:
    special = {3: (int, "three"), 4: (open, os.devnull), 5: (mischief.exit_python,), 6: (dict,)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,)).collect(stop=False)
    assert sizes[:4] == [8] * 4
    assert [type(ends[place]) for place in special] == [ValueError, PayloadError, SystemExit, dict]
    assert all(ends[place] == place for place in range(COUNT) if place not in special)
    assert set(tally.counts().values()) == {1}


def test_a_crash_is_that_of_one_element_and_those_behind_it_run(
    executor: MiraiExecutor, tally: Tally
) -> None:
    special: dict[int, tuple[Any, ...]] = {13: (mischief.exit_at_once,)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,)).collect(stop=False)
    lost = [place for place, end in enumerate(ends) if isinstance(end, DaemonLostError)]
    assert lost == [8, 9, 10, 11, 12, 13]  # five results were in hand
    assert len({id(ends[place]) for place in lost}) == 6
    assert all(ends[place] == place for place in range(COUNT) if place not in lost)
    assert tally.counts() == {str(place): 1 for place in range(COUNT)}


def test_what_takes_long_keeps_none_behind_it_in_its_chunk(
    executor: MiraiExecutor, tally: Tally, sizes: list[int]
) -> None:
    executor.launch_local(1)
    executor.wait_ready(SOON)
    special = {0: (time.sleep, 0.05)}
    values = mapped(executor, count_and_do, work(special), args=(tally.path,)).collect()
    assert values == [None, *range(1, COUNT)]
    assert tally.counts() == {str(place): 1 for place in range(COUNT)}


def test_an_element_that_runs_is_cancelled_alone(
    executor: MiraiExecutor, bell: Bell, tally: Tally
) -> None:
    special = {12: (mischief.ring_and, bell.path, time.sleep, FOREVER)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,))
    bell.wait()
    assert not ends.futures[12].cancel_queued()  # type: ignore[attr-defined]  # it is one of ours
    assert ends.futures[12].cancel()
    found = ends.collect(stop=False)
    assert isinstance(found[12], CancelledError)
    assert [*found[:12], *found[13:]] == [*range(12), *range(13, COUNT)]
    assert tally.counts() == {str(place): 1 for place in range(COUNT)}


def test_an_element_that_does_not_stop_costs_its_daemon_and_none_behind_it(
    executor: MiraiExecutor, bell: Bell, tally: Tally
) -> None:
    special = {12: (ring_and_resist, bell.path)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,))
    bell.wait()
    assert ends.futures[12].cancel()
    found = ends.collect(stop=False)
    assert isinstance(found[12], CancelledError)
    assert {type(end) for end in found[8:12]} == {DaemonLostError}  # their results were in hand
    assert [*found[:8], *found[13:]] == [*range(8), *range(13, COUNT)]
    assert tally.counts() == {str(place): 1 for place in range(COUNT)}


def test_progress_counts_each_element_once_whatever_becomes_of_it(
    executor: MiraiExecutor, bell: Bell, tally: Tally
) -> None:
    special = {3: (int, "three"), 12: (ring_and_resist, bell.path), 20: (time.sleep, 0.05)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,))
    bell.wait()
    assert ends.futures[12].cancel()
    assert ends.futures[25].cancel()
    told: list[Any] = []
    found = ends.collect(stop=False, progress=lambda *numbers: told.append(numbers))
    assert told == [(done, COUNT) for done in range(1, COUNT + 1)]
    assert isinstance(found[3], ValueError)
    assert isinstance(found[25], CancelledError)


def test_an_element_that_waits_is_cancelled_alone_and_never_runs(
    executor: MiraiExecutor, bell: Bell, tally: Tally
) -> None:
    special = {0: (mischief.ring_and, bell.path, time.sleep, FOREVER)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,))
    bell.wait()
    waiting = [3, 25, 27]  # in the chunk that runs, and in one that has not begun
    assert all(ends.futures[place].cancel() for place in waiting)
    assert ends.futures[0].cancel()
    found = ends.collect(stop=False)
    assert all(isinstance(found[place], CancelledError) for place in [0, *waiting])
    others = set(range(COUNT)) - {0, *waiting}
    assert [found[place] for place in sorted(others)] == sorted(others)
    assert tally.counts() == {str(place): 1 for place in {0} | others}


def test_chunks_are_cancelled_as_one(executor: MiraiExecutor, bell: Bell, tally: Tally) -> None:
    special = {0: (mischief.ring_and, bell.path, time.sleep, FOREVER)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,))
    bell.wait()
    assert ends.cancel() == COUNT
    assert {type(end) for end in ends.collect(stop=False)} == {CancelledError}
    assert executor.submit(abs, -1).result(SOON) == 1
    assert set(tally.counts()) == {"0"}


def test_a_chunk_that_runs_and_is_cancelled_is_not_sent_again(
    executor: MiraiExecutor, bell: Bell, tally: Tally
) -> None:
    special = {12: (mischief.ring_and, bell.path, time.sleep, FOREVER)}
    ends = mapped(executor, count_and_do, work(special), args=(tally.path,))
    bell.wait()
    assert not ends.futures[14].cancel_queued()  # type: ignore[attr-defined]  # it is one of ours
    executor._host.cancel_all()
    found = ends.collect(stop=False)
    assert executor.submit(abs, -1).result(SOON) == 1
    assert found[:8] == [*range(8)]
    assert {type(end) for end in found[8:]} == {CancelledError}
    assert tally.counts() == {str(place): 1 for place in range(13)}


def test_whatever_befalls_elements_each_ends_once_and_runs_once_at_most(
    executor: MiraiExecutor, tmp_path: Path
) -> None:
    executor.launch_local(1)
    storm(executor, tmp_path, rounds=range(60), seed=1)


class AtUnpickle:
    def __reduce__(self) -> Any:
        return pickle.loads, (b"",)


def test_an_argument_that_cannot_travel_fails_alone(executor: MiraiExecutor) -> None:
    xs: list[Any] = list(range(COUNT))
    with Path(os.devnull).open() as unpicklable:
        xs[3], xs[25] = unpicklable, AtUnpickle()
        ends = mapped(executor, repr, xs).collect(stop=False)
    assert isinstance(ends[3], PayloadError)
    assert isinstance(ends[25], EOFError | PayloadError)
    assert [end for place, end in enumerate(ends) if place not in (3, 25)] == [
        str(place) for place in range(COUNT) if place not in (3, 25)
    ]


def test_what_a_chunk_has_left_runs_though_the_executor_shuts_down(tally: Tally) -> None:
    special = {COUNT - 8: (time.sleep, 0.2)}  # the first of the last chunk
    with MiraiExecutor(1) as executor:
        executor.wait_ready(SOON)
        ends = mapped(executor, count_and_do, work(special), args=(tally.path,))
    assert [end is None or end == place for place, end in enumerate(ends)] == [True] * COUNT
    assert tally.counts() == {str(place): 1 for place in range(COUNT)}


def set_and_look(place: int) -> bool:
    was_there = "CHUNK_WAS_HERE" in os.environ
    os.environ["CHUNK_WAS_HERE"] = str(place)
    return was_there


def test_elements_are_cleaned_up_behind(executor: MiraiExecutor) -> None:
    assert mapped(executor, set_and_look, range(COUNT)).collect() == [False] * COUNT


KEPT: list[int] = []


def keep(place: int) -> list[int]:
    KEPT.append(place)
    return KEPT


def test_a_value_is_as_it_was_when_its_element_returned_it(executor: MiraiExecutor) -> None:
    found = mapped(executor, keep, range(COUNT)).collect()
    assert [end[-1] for end in found] == [*range(COUNT)]
    assert len({id(end) for end in found}) == COUNT


def made_of(place: int) -> Any:
    kinds: list[Callable[[], Any]] = [
        *(lambda: place, lambda: (place, "b", None), lambda: [place], lambda: {"a": {place}}),
        *(lambda: np.full(3, place), lambda: np.full(1 << 15, place), lambda: lambda: place),
        lambda: "a" * place,
    ]
    return kinds[place % len(kinds)]()


def test_values_of_all_kinds_arrive_as_they_are(executor: MiraiExecutor) -> None:
    found = mapped(executor, made_of, range(COUNT)).collect()
    for place, value in enumerate(found):
        expected = made_of(place)
        if callable(expected):
            value, expected = value(), expected()
        assert type(value) is type(expected)
        assert np.array_equal(value, expected)
    assert found[5].flags.writeable


class NotHere:
    """Can be unpickled on daemons only."""

    def __reduce__(self) -> Any:
        return load_elsewhere, (os.getpid(),)


def load_elsewhere(pid: int) -> None:
    if pid != os.getpid():
        raise ValueError("made elsewhere")


def odd_one(place: int) -> Any:
    return NotHere() if place == 5 else [place]


def test_a_value_that_cannot_be_unpickled_fails_alone(executor: MiraiExecutor) -> None:
    ends = mapped(executor, odd_one, range(COUNT))
    found = ends.collect(stop=False)
    assert isinstance(found[5], PayloadError | ValueError)
    assert [*found[:5], *found[6:]] == [[place] for place in range(COUNT) if place != 5]
    assert list(ends.failed()) == [5]
    with pytest.raises(type(found[5])) as raised:
        ends.collect()
    assert raised.value is found[5]


def test_no_future_is_made_that_nobody_asks_for(executor: MiraiExecutor) -> None:
    ends = mapped(executor, abs, range(COUNT))
    told: list[Any] = []
    assert ends.collect() == ends.collect(progress=lambda *it: told.append(it)) == [*range(COUNT)]
    assert told == [(done, COUNT) for done in range(1, COUNT + 1)]
    assert (ends.done(), ends.failed(), ends.cancel()) == (True, {}, 0)
    assert ends._futures._made == {}  # type: ignore[union-attr]  # they are late ones
    assert list(mapped(executor, abs, range(COUNT))) == [*range(COUNT)]
    assert [future.result() for future in ends.futures] == [*range(COUNT)]


class Big:
    """An element whose end can be noticed."""

    def __int__(self) -> int:
        return 1


def test_elements_are_gone_with_their_map(executor: MiraiExecutor) -> None:
    xs = [Big() for _ in range(COUNT)]
    gone = weakref.ref(xs[0])
    gc.disable()
    try:
        ends = mapped(executor, int, xs)
        assert ends.collect() == [1] * COUNT
        assert ends.futures[3].result() == 1
        assert executor.submit(abs, -1).result(SOON) == 1  # the host thread has turned to others
        del xs, ends
        assert gone() is None
    finally:
        gc.enable()


def test_coroutines_take_what_has_come_and_wait_for_the_rest(executor: MiraiExecutor) -> None:
    async def take() -> None:
        assert await mapped(executor, abs, range(COUNT)) == [*range(COUNT)]
        ends = mapped(executor, odd_one, range(COUNT))
        values = aiter(ends)
        assert [await anext(values) for _ in range(5)] == [[place] for place in range(5)]
        with pytest.raises((PayloadError, ValueError)) as raised:
            await anext(values)
        assert raised.value.__notes__[-1] == "This is of element 5 of mirai_map()."
        with pytest.raises(ValueError, match="three"):
            await mapped(executor, int, ["1", "three", *"2" * (COUNT - 2)])

    mischief.run(take())


def say_and_return(place: int) -> int:
    progress(place, COUNT)
    report(f"{place} begins")
    return place


def test_what_an_element_reports_reaches_its_own_future(executor: MiraiExecutor) -> None:
    said: queue.SimpleQueue[Any] = queue.SimpleQueue()
    ends = mapped(executor, say_and_return, range(COUNT))
    ends.futures[12].on_report(said.put)  # type: ignore[attr-defined]  # it is one of ours
    assert ends.collect() == [*range(COUNT)]
    assert {said.get(timeout=SOON), said.get(timeout=SOON)} == {
        Progress(12, COUNT),
        "12 begins",
    }
    assert said.empty()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_who_is_interrupted_cancels_all_where_that_was_asked_for(executor: MiraiExecutor) -> None:
    special = {8: (time.sleep, FOREVER)}  # the first of the second chunk
    view: Any = executor.with_options(cancel_on_interrupt=True)
    ends = mapped(view, count_and_do, work(special), args=(Path(os.devnull),))
    with pytest.raises(KeyboardInterrupt):
        ends.collect(progress=interrupt)
    assert executor.submit(abs, -1).result(SOON) == 1
    found = ends.collect(stop=False)
    assert found[:8] == [*range(8)]
    assert {type(end) for end in found[8:]} == {CancelledError}


async def double_soon(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


def test_coroutines_of_elements_run_to_their_ends(executor: MiraiExecutor) -> None:
    executor.wait_ready()
    assert executor.mirai_map(range(COUNT), double_soon).collect() == [*range(0, 2 * COUNT, 2)]
