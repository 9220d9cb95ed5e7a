"""What the user says of classes holds at every daemon, for all that travels, both ways."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest

import elsewhere
from live.mischief import SOON, running
from mirai_executor import LaunchError, MiraiExecutor, daemons, everywhere, mirai, serial_config


class Table:
    """Rows, with something that cannot be pickled. It tells which process has loaded it."""

    def __init__(self, rows: Any) -> None:
        self.rows = np.asarray(rows, dtype=float)
        self.lock = threading.Lock()
        self.loaded_by: int | None = None


class Pivot(Table):
    pass


def dumps(table: Table) -> np.ndarray[Any, Any]:
    return table.rows


def loads(data: memoryview) -> Table:
    table = Table(np.frombuffer(data))
    table.loaded_by = os.getpid()
    return table


CONFIG = serial_config(Table, dumps, loads)


def total(given: dict[str, Any]) -> dict[str, Any]:
    table = given["tables"][0]
    assert table.loaded_by == os.getpid()
    return {"sum": table.rows.sum(), "made": (Table([1, 2]), Pivot([3]))}


def check(executor: MiraiExecutor) -> None:
    found = executor.submit(total, {"tables": [Table([1, 2, 4])]}).result(SOON)
    assert found["sum"] == 7
    assert [table.rows.tolist() for table in found["made"]] == [[1, 2], [3]]
    assert {table.loaded_by for table in found["made"]} == {os.getpid()}


@pytest.mark.slow
def test_objects_travel_in_arguments_results_captures_and_exceptions() -> None:
    captured = Table([5])

    def fails() -> None:
        raise ValueError(captured)

    with running(1, serial=CONFIG, initializer=total, initargs=({"tables": [Table([1])]},)) as ex:
        check(ex)
        error = ex.submit(fails).exception(SOON)
        assert error is not None
        assert error.args[0].rows.tolist() == [5]
        assert [t.rows.size for t in ex.map(lambda n: Table(range(n)), range(3))] == [0, 1, 2]
        assert ex.submit_source("table.rows.sum()", table=Table([8])).result(SOON) == 8
        future = ex.everywhere(lambda table: table.rows.sum(), Table([9]))[0]
        assert future.result(SOON) == 9


def test_large_buffers_are_shared_with_daemons_of_this_machine() -> None:
    rows = np.arange(1e6)
    with running(1, serial=CONFIG) as executor:
        shared = executor.share(Table(rows))
        assert not shared.rows.flags.writeable
        for table in (Table(rows), shared):
            back = executor.submit(lambda table: table, table).result(SOON)
            assert np.array_equal(back.rows, rows)


def test_failures_of_hooks_are_their_own_and_end_in_one_future() -> None:
    def refuses(table: Table) -> bytes:
        if table.rows.size == 2:
            raise ArithmeticError("dumps")
        return table.rows.tobytes()

    def fails(data: bytes) -> Table:
        if len(data) == 8:
            raise ArithmeticError("loads", os.getpid())
        return loads(memoryview(data))

    with running(1, serial=serial_config(Table, refuses, fails)) as executor:
        pid = executor.submit(os.getpid).result(SOON)
        there = [executor.submit(id, Table([1] * n)) for n in (1, 2)]
        back: list[Any] = [executor.submit(lambda n: Table([1] * n), n) for n in (1, 2)]
        wait([*there, *back], SOON)
        expected = [("loads", pid), ("dumps",), ("loads", os.getpid()), ("dumps",)]
        for future, args in zip([*there, *back], expected, strict=True):
            error = future.exception(SOON)
            assert (type(error), error.args if error else None) == (ArithmeticError, args)
            assert "as registered for serialization" in error.__notes__[0]
        assert executor.submit(os.getpid).result(SOON) == pid


@pytest.mark.slow
def test_daemons_that_come_later_and_replacements_have_the_hooks() -> None:
    with MiraiExecutor(url=elsewhere.new_url(), serial=CONFIG) as executor:
        executor.launch_local(1)
        check(executor)
        assert executor.submit(os._exit, 3).exception(SOON) is not None
        executor.launch_local(1)
        check(executor)


def test_a_task_that_is_a_host_itself_has_hooks_of_its_own() -> None:
    def inner() -> tuple[Any, Any]:
        own = serial_config(Pivot, lambda pivot: b"own", bytes)
        with MiraiExecutor(1, serial=own) as executor:
            return executor.submit(lambda: Pivot([1])).result(SOON), Pivot([2])

    with running(1, serial=CONFIG) as executor:
        own, pivot = executor.submit(inner).result(SOON)
        assert (own, pivot.rows.tolist()) == (b"own", [2])


def test_hooks_that_a_daemon_cannot_load_are_why_it_cannot_be_used() -> None:
    class Odd:
        def __call__(self, data: Any) -> Any:
            return data

        def __setstate__(self, state: Any) -> None:
            raise OSError("not here")

        def __getstate__(self) -> Any:
            return 1

    with MiraiExecutor(1, serial=serial_config(Table, dumps, Odd())) as executor:
        error = executor.submit(abs, 1).exception(SOON)
    assert isinstance(error, LaunchError)
    assert "OSError: not here" in str(error)


def test_the_daemons_of_a_profile_can_have_hooks() -> None:
    with daemons(1, serial=CONFIG):
        assert everywhere(lambda table: table.rows.size, Table([1, 2]))[0].result(SOON) == 2
        assert mirai("Table([1]), table", Table=Table, table=Table([2])).result(SOON)[1].rows == [
            2
        ]


def make_table(n: int) -> Table:
    return Table([n])


def make_tables(n: int) -> Iterator[Table]:
    yield from map(make_table, range(n))


def test_elements_of_a_map_and_values_of_a_generator_travel_by_hooks() -> None:
    with running(1, serial=CONFIG) as executor:
        executor.wait_ready()
        assert [float(each.rows[0]) for each in executor.mirai_map(range(40), make_table)] == [
            *range(40)
        ]
        with executor.stream(make_tables, 3) as stream:
            assert [float(each.rows[0]) for each in stream] == [0, 1, 2]
