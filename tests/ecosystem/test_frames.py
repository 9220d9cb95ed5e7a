"""Maps over the rows of real frames, as ``mirai_map`` knows them only by what they can do."""

import datetime
import os
from collections.abc import Iterator
from typing import Any

import pytest

from mirai_executor import MiraiExecutor

pd: Any = pytest.importorskip("pandas")
pl: Any = pytest.importorskip("polars")

DAY = datetime.datetime(2026, 1, 2)
COLUMNS: dict[str, Any] = {
    "n": [1, 2, 0],
    "name": ["a", "b", "c"],
    "day": [DAY] * 3,
    "share": [0.5, None, 0.25],
}


@pytest.fixture(scope="module")
def executor() -> Iterator[MiraiExecutor]:
    pl.DataFrame(COLUMNS).rows()  # it starts threads that it keeps
    with MiraiExecutor(2) as executor:
        executor.wait_ready()
        yield executor


def label(*, n: int, name: str, day: Any, share: float | None, unit: str = "") -> str:
    known = share if share is not None and share == share else "?"  # pandas: NaN
    return f"{name * n}{unit} {day:%d.%m.} {known}"


def divide(n: int, **_: object) -> float:
    return 1 / n


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_each_row_is_a_call_with_the_columns_by_name(executor: MiraiExecutor, make: Any) -> None:
    labels = executor.mirai_map(make(COLUMNS), label, kwargs={"unit": "!"})
    assert labels.collect() == ["a! 02.01. 0.5", "bb! 02.01. ?", "! 02.01. 0.25"]
    quotients = executor.mirai_map(make(COLUMNS), divide)
    assert quotients.collect(stop=False)[:2] == [1, 0.5]
    assert list(quotients.failed()) == [2]
    assert quotients.failed()[2]["name"] == "c"
    empty = make({"n": []})
    assert executor.mirai_map(empty, divide).collect() == []


def test_the_labels_of_a_pandas_frame_are_the_keys(executor: MiraiExecutor) -> None:
    frame = pd.DataFrame({"n": [1, 2]}, index=["one", "two"])
    assert executor.mirai_map(frame, divide).collect() == {"one": 1, "two": 0.5}
    assert executor.mirai_map(frame[frame.n > 1], divide).collect() == {"two": 0.5}
    with pytest.raises(TypeError, match="become names of arguments"):
        executor.mirai_map(pd.DataFrame([[1, 2]]), divide)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_thousands_of_rows_come_back_in_order(executor: MiraiExecutor, make: Any) -> None:
    squares = executor.mirai_map(make({"n": range(3000)}), lambda n: (int(n) ** 2, os.getpid()))
    found, pids = zip(*squares.collect(), strict=True)
    assert list(found) == [n * n for n in range(3000)]
    assert os.getpid() not in pids
