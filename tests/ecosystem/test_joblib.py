"""joblib and scikit-learn with daemons as workers."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

from live.mischief import Bell, ring
from mirai_executor import DaemonLostError, MiraiExecutor
from mirai_executor.integrations.joblib import MiraiBackend, shut_down


@pytest.fixture
def mirai() -> Iterator[None]:
    """The backend by its name, for two workers that end with the test."""
    with parallel_config(backend="mirai", n_jobs=2):
        yield
    shut_down()


def pid_of(_: object = None) -> int:
    return os.getpid()


def test_batches_run_on_daemons(two_jobs: dict[str, object]) -> None:
    with parallel_config(**two_jobs):
        pids = set(Parallel()(delayed(pid_of)(n) for n in range(20)))
        assert Parallel()(delayed(lambda n: n + 1)(n) for n in range(50)) == list(range(1, 51))
        generated = Parallel(return_as="generator")(delayed(pow)(n, 2) for n in range(5))
        assert list(generated) == [0, 1, 4, 9, 16]
        unordered = Parallel(return_as="generator_unordered")(delayed(abs)(-n) for n in range(5))
        assert sorted(unordered) == [0, 1, 2, 3, 4]
    assert os.getpid() not in pids


def raise_at(n: int) -> int:
    if n == 3:
        raise KeyError(n)
    return n


def test_an_error_comes_back_with_the_lines_of_the_daemon(two_jobs: dict[str, object]) -> None:
    with parallel_config(**two_jobs):
        with pytest.raises(KeyError) as caught:
            Parallel()(delayed(raise_at)(n) for n in range(10))
        assert "in raise_at" in str(caught.value.__cause__)
        assert Parallel()(delayed(raise_at)(n) for n in (1, 2)) == [1, 2], "the next call works"


def ring_and_hang(path: Path) -> None:
    ring(path)
    threading.Event().wait()


@pytest.mark.usefixtures("mirai")
def test_a_timeout_stops_what_runs(bell: Bell) -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.3)(delayed(ring_and_hang)(bell.path) for _ in range(2))
    # What would never end is not in the way of the next call.
    assert Parallel()(delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]


def die(n: int) -> int:
    if n == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.usefixtures("mirai")
def test_a_crash_costs_one_call_and_no_workers() -> None:
    with pytest.raises(DaemonLostError):
        Parallel()(delayed(die)(n) for n in range(4))
    assert Parallel()(delayed(abs)(-n) for n in range(4)) == [0, 1, 2, 3]


def seen_by_blas() -> list[str | None]:
    return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")]


@pytest.mark.usefixtures("mirai")
def test_threads_of_libraries_are_limited_where_that_is_asked_for() -> None:
    with parallel_config(backend="mirai", inner_max_num_threads=1, n_jobs=2):
        assert Parallel()(delayed(seen_by_blas)() for _ in range(2)) == [["1", "1"]] * 2


def total(array: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(array.sum())


@pytest.mark.usefixtures("mirai")
def test_large_arrays_arrive() -> None:
    array = np.ones(1_000_000)
    assert Parallel()(delayed(total)(array * n) for n in range(4)) == [0.0, 1e6, 2e6, 3e6]


def inner(n: int) -> list[int]:
    return list(Parallel(n_jobs=2)(delayed(abs)(-n - i) for i in range(2)))


def test_calls_nest(two_jobs: dict[str, object]) -> None:
    with parallel_config(**two_jobs):
        assert Parallel()(delayed(inner)(n) for n in range(3)) == [[0, 1], [1, 2], [2, 3]]


def test_n_jobs_of_minus_one_are_all_daemons_of_the_executor() -> None:
    with MiraiExecutor(3) as executor, parallel_config(backend=MiraiBackend(executor), n_jobs=-1):
        assert joblib.effective_n_jobs() == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"executor": 3}, "must have a method submit"),
        ({"executor": MiraiExecutor(1), "n": 1}, "options belong to the executor"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        MiraiBackend(**arguments)
