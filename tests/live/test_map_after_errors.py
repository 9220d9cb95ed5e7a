"""Live: a map that goes on after errors, as the standard library's does from Python 3.16 on."""

import io
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

from mirai_executor import DaemonLostError, MiraiExecutor
from mirai_executor._maps import _map

SECONDS = 60.0  # that no passing test waits


def halve(n: int) -> int:
    """Halve even numbers; each other one fails in its own way."""
    if n == 1:
        raise KeyError("one")
    if n == 3:
        raise TimeoutError("of the call")
    if n == 5:
        next(iter(()))
    return n // 2


def ends(results: Iterator[Any]) -> list[object]:
    """Return what an iterator yields and raises, to its end."""
    found: list[object] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except Exception as error:
            found.append(repr(error))


@pytest.fixture(autouse=True)
def _as_on_python_3_16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_map, "GOES_ON", True)


EXPECTED = [
    *(0, "KeyError('one')", 1, "TimeoutError('of the call')", 2),
    *("RuntimeError('generator raised StopIteration')", 3),
]


@pytest.mark.parametrize(
    "options",
    [{}, {"chunksize": 3}, {"chunksize": 100}, {"buffersize": 1}, {"timeout": SECONDS}],
    ids=str,
)
def test_a_map_goes_on_after_the_error_of_a_call(options: dict[str, Any]) -> None:
    with MiraiExecutor(2) as executor:
        assert ends(executor.map(halve, range(7), **options)) == EXPECTED
        counts: list[tuple[int, int | None]] = []
        watched = executor.map(halve, range(7), **options, progress=lambda *n: counts.append(n))
        assert ends(watched) == EXPECTED
        assert counts[-1] == (7, 7)


async def halve_soon(n: int) -> int:
    if n == 0:
        raise KeyError("zero")
    return halve(n)


@pytest.mark.parametrize("chunksize", [1, 2, 100])
def test_the_error_of_a_coroutine_ends_no_other_of_its_chunk(chunksize: int) -> None:
    with MiraiExecutor(1) as executor:
        found = ends(executor.map(halve_soon, range(5), chunksize=chunksize))
    assert found == ["KeyError('zero')", *EXPECTED[1:5]]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_bar_that_tasks_move_counts_errors_as_well(
    chunksize: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # no thread that stays
    with MiraiExecutor(2) as executor, tqdm(total=7, file=io.StringIO()) as bar:
        assert ends(executor.map(halve, range(7), chunksize=chunksize, progress=bar)) == EXPECTED
        assert bar.n == 7


def test_an_error_in_a_chunk_has_the_lines_of_the_daemon() -> None:
    with MiraiExecutor(1) as executor:
        results = executor.map(halve, range(1, 3), chunksize=2)
        with pytest.raises(KeyError) as raised:
            next(results)
        assert raised.traceback[-1].name == "halve"
        assert list(results) == [1]


def test_a_lost_daemon_and_a_cancelled_task_are_errors_like_others() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    futures[0].set_exception(DaemonLostError("lost"))
    futures[1].cancel()
    futures[2].set_result(5)
    results = _map.MapResults(iter([*futures, None]).__next__, None, None)
    with pytest.raises(DaemonLostError):
        next(results)
    with pytest.raises(CancelledError):
        next(results)
    assert list(results) == [5]


def test_a_map_whose_time_has_passed_ends_and_cancels_its_tasks() -> None:
    futures: list[Future[int]] = [Future() for _ in range(3)]
    results = _map.MapResults(iter([*futures, None]).__next__, None, 0.001)
    with pytest.raises(TimeoutError):
        next(results)
    assert list(results) == []
    assert all(future.cancelled() for future in futures)
