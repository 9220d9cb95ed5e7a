"""``daemons(sync=True)``: mirai's functions, with tasks in this process."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from mirai_executor import (
    MiraiExecutor,
    collect,
    daemons,
    daemons_set,
    everywhere,
    executor_for,
    is_mirai_error,
    launch_local,
    launch_remote,
    mirai,
    on_daemon,
    status,
)

MAIN = vars(sys.modules["__main__"])


@pytest.fixture(autouse=True)
def no_profile_is_left_set() -> Iterator[None]:
    yield
    for name in ("default", "other"):
        daemons(0, compute=name)


def test_a_mirai_has_run_here_when_it_returns() -> None:
    with daemons(sync=True) as executor:
        future = mirai(os.getpid)
        assert (future.done(), future.result(), executor.size) == (True, os.getpid(), 1)
        assert mirai("x + 1", x=1).result() == 2
    assert not daemons_set()


def test_an_error_ends_in_the_future() -> None:
    with daemons(sync=True):
        failed, incomplete = mirai(divmod, 1, 0), mirai("raise KeyError('missing')")
    assert isinstance(failed.exception(), ZeroDivisionError)
    assert is_mirai_error(incomplete)


def test_it_is_as_on_a_daemon_in_the_thread_of_a_task_and_only_there() -> None:
    def here_and_in_another_thread() -> tuple[bool, ...]:
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(on_daemon()))
        thread.start()
        thread.join()
        return on_daemon(), *seen

    begun: list[bool] = []
    with MiraiExecutor(mode="inline", initializer=lambda: begun.append(on_daemon())) as executor:
        assert executor.submit(here_and_in_another_thread).result() == (True, False)
    assert begun == [True]
    with daemons(sync=True):
        assert mirai(divmod, 1, 0).exception()
        assert everywhere(on_daemon)[0].result()
    assert not on_daemon()


def test_a_mirai_inside_of_another_runs_here_too() -> None:
    def nested(depth: int) -> list[bool]:
        inner = mirai(nested, depth - 1).result() if depth else []
        return [on_daemon(), *inner]

    with daemons(sync=True):
        assert mirai(nested, 2).result() == [True] * 3
        assert not on_daemon()


def test_a_timeout_stops_nothing_and_hangs_nothing() -> None:
    with daemons(sync=True):
        limited = executor_for().with_options(timeout=1e-6, run_timeout=1e-6)
        assert limited.submit(time.sleep, 1e-3).result(0) is None
        assert limited.submit_source("1 + 1").result(0) == 2


def test_names_of_everywhere_are_those_of_the_profile_for_as_long_as_it_is_set() -> None:
    MAIN["sync_known"] = "of the program"
    try:
        with daemons(sync=True):
            everywhere("sync_known = sync_new = x", x=1)
            everywhere("sync_new = 2")
            assert mirai("sync_known, sync_new").result() == (1, 2)
        assert MAIN["sync_known"] == "of the program"
        assert "sync_new" not in MAIN
        with daemons(sync=True):
            everywhere("sync_known = 1; sync_new = 2; del sync_new")
            MAIN["sync_known"] = "set meanwhile"
        assert MAIN["sync_known"] == "set meanwhile"
    finally:
        MAIN.pop("sync_known", None)
        MAIN.pop("sync_new", None)


def test_code_of_a_mirai_leaves_nothing_in_the_program() -> None:
    with daemons(sync=True):
        mirai("sync_left = 1").result()
        assert "sync_left" not in MAIN


def test_there_are_no_daemons_to_launch_and_none_connect() -> None:
    with daemons(sync=True) as executor:
        with pytest.raises(RuntimeError, match="no daemons can be launched"):
            launch_local(1)
        with pytest.raises(RuntimeError, match="needs an executor with a url"):
            launch_remote(1)
        assert executor.size == 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"sync": "yes"}, TypeError, "sync must be True or False"),
        ({"sync": True, "url": "tcp://127.0.0.1:0"}, ValueError, "leave out url and remote"),
        ({"sync": True, "n": -1}, ValueError, "n must be >= 0"),
        ({}, TypeError, "n must be an integer"),
    ],
)
def test_what_does_not_go_together_changes_nothing(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with daemons(sync=True):
        with pytest.raises(error, match=words):
            daemons(**arguments)
        assert mirai(os.getpid).result() == os.getpid()


def test_a_package_can_use_the_daemons_that_are_set_and_else_none() -> None:
    def squares() -> tuple[int, int]:
        with nullcontext() if daemons_set() else daemons(sync=True):
            results = collect([mirai(pow, n, 2) for n in range(4)])
            return sum(results), status().completed

    assert squares() == (14, 4)
    with daemons(sync=True):
        assert (squares(), squares()) == ((14, 4), (14, 8))
    assert not daemons_set()


def test_profiles_can_be_of_both_kinds() -> None:
    with daemons(sync=True), daemons(2, sync=True, compute="other") as other:
        assert (other.size, executor_for("default").size, executor_for()) == (2, 1, other)
