"""What is measured. Each measurement checks its answers; a wrong one ends the run."""

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks import work
from benchmarks.checks import check
from benchmarks.once import WORKERS, burst, mapped, round_trips, warm_up
from benchmarks.peers import PEERS, Peer


@dataclass(frozen=True)
class Quantity:
    """Something to be measured.

    Args:
        name: What the table calls it.
        measure: Measures one peer once, in seconds, or in whatever is better when smaller.
        must: The ratios to be reached, by peer: the peer's figure over ours; 0 where nothing is
            demanded.
        warm: Whether one pool serves all rounds; otherwise ``measure`` starts its own, and gets
            the peer's name.
    """

    name: str
    measure: Callable[[Any], float]
    must: dict[str, float] = field(default_factory=dict)
    warm: bool = True


def round_trip_p50(peer: Peer) -> float:
    """Median of a no-op's round trip."""
    return statistics.median(round_trips(peer))


def round_trip_p99(peer: Peer) -> float:
    """99th percentile of a no-op's round trip."""
    # Of a few hundred, it would be the fourth worst.
    return statistics.quantiles(round_trips(peer, 2000), n=100)[-1]


def burst_importable(peer: Peer) -> float:
    """5,000 submits of an importable function, then all results."""
    return burst(peer)


def burst_of_main(peer: Peer) -> float:
    """The same with a function of ``__main__``."""
    return burst(peer, sys.modules["__main__"].nothing_of_main)


def map_singly(peer: Peer) -> float:
    """``map`` of 5,000 items, chunksize 1."""
    return mapped(peer, 5000, 1)


def map_in_chunks(peer: Peer) -> float:
    """``map`` of 200,000 items, chunksize 100."""
    return mapped(peer, 200_000, 100)


def echo_100_mb(peer: Peer) -> float:
    """A 100 MB float64 array there and back, steady state."""
    array = np.arange(12_500_000, dtype=np.float64)
    check(peer.submit(work.first, array).result() == 0.0)
    start = time.perf_counter()
    answer = peer.submit(work.echo, array).result()
    seconds = time.perf_counter() - start
    check(answer.shape == array.shape and answer[-1] == array[-1] and answer.flags.writeable)
    return seconds


def busy_host(peer: Peer) -> float:
    """60 tasks of 1 ms while another thread of the host runs pure Python."""
    warm_up(peer)
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        start = time.perf_counter()
        futures = [peer.submit(work.sleep_ms, 1) for _ in range(60)]
        check(all(future.result() == 1 for future in futures))
        return time.perf_counter() - start
    finally:
        stop.set()
        thread.join()


def long_and_short(peer: Peer) -> float:
    """One task of 1 s and 1,000 of 1 ms, over the ideal makespan of 1 s on two workers."""
    warm_up(peer)
    start = time.perf_counter()
    futures = [peer.submit(work.rest, 1.0), *(peer.submit(work.rest, 0.001) for _ in range(1000))]
    check([future.result() for future in futures] == [1.0] + [0.001] * 1000)
    seconds = time.perf_counter() - start
    single = 0.001 + statistics.median(_rest_overheads())
    return seconds / max(1.0, (1.0 + 1000 * single) / WORKERS)


def _rest_overheads() -> list[float]:
    times = []
    for _ in range(20):
        start = time.perf_counter()
        time.sleep(0.001)
        times.append(time.perf_counter() - start - 0.001)
    return times


def first_result(name: str) -> float:
    """From the constructor to the first result."""
    start = time.perf_counter()
    with PEERS[name](WORKERS) as peer:
        check(peer.submit(work.nothing, 1).result() == 1)
        return time.perf_counter() - start


def after_a_kill(name: str) -> float:
    """From the death of a worker to the next result of its replacement (or of a new pool)."""
    with PEERS[name](1) as peer:
        victim = peer.submit(work.pid).result()
        start = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        while True:
            try:
                check(peer.submit(work.pid).result() != victim)
                return time.perf_counter() - start
            except Exception as error:
                if "Broken" not in "".join(kind.__name__ for kind in type(error).__mro__):
                    raise
                if name == "mirai":
                    continue  # the one task that the kill has cost
            with PEERS[name](1) as other:  # broken for good: what its users have to do
                check(other.submit(work.pid).result() != victim)
                return time.perf_counter() - start


def one_array_for_all(name: str) -> float:
    """100 tasks that look at one 100 MB float64 array, by what each library has for that.

    The workers have seen an array before: some import NumPy as they start, ours when they need it.
    """
    array = np.arange(12_500_000, dtype=np.float64)
    with PEERS[name](WORKERS) as peer:
        warm_up(peer)
        check(peer.look_at(work.first, np.zeros(8), 40) == [0.0] * 40)
        start = time.perf_counter()
        results = peer.look_at(work.first, array, 100)
        seconds = time.perf_counter() - start
    check(results == [0.0] * 100)
    return seconds


def import_time(name: str) -> float:
    """Import of the package in a fresh interpreter that has imported ProcessPoolExecutor."""
    statement = "import mirai_executor" if name == "mirai" else "pass"
    program = (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import time\nstart = time.perf_counter()\n"
        f"{statement}\nprint(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


QUANTITIES = (
    Quantity("round trip, p50", round_trip_p50, {"processes (spawn)": 1.0, "loky": 1.3}),
    Quantity("round trip, p99", round_trip_p99, {"processes (spawn)": 1.0}),
    Quantity(
        "5,000 submits, importable",
        burst_importable,
        {"processes (spawn)": 4.0, "pebble": 2.5, "loky": 5.0},
    ),
    # By itself: the processes of dask are never idle, and would slow down whoever is beside them.
    Quantity("5,000 submits, beside dask", burst_importable, {"dask": 0.0}),
    Quantity("5,000 submits, of __main__", burst_of_main, {"processes (spawn)": 4.0, "loky": 8.0}),
    Quantity("map, chunksize 1", map_singly, {"processes (spawn)": 4.0}),
    Quantity("map, chunksize 100", map_in_chunks, {"processes (spawn)": 1.2, "Pool": 0.6}),
    Quantity("echo of 100 MB", echo_100_mb, {"processes (spawn)": 8.0}),
    Quantity(
        "one 100 MB array, 100 tasks",
        one_array_for_all,
        {"joblib": 1.0, "ray": 1.0},
        warm=False,
    ),
    Quantity("60 x 1 ms, host busy", busy_host, {"processes (spawn)": 1.0}),
    Quantity("1 s and 1,000 x 1 ms, over ideal", long_and_short, {"processes (spawn)": 1.0}),
    Quantity("construct to first result", first_result, {"processes (spawn)": 1.0}, warm=False),
    Quantity("kill to next result", after_a_kill, {"loky": 2.0}, warm=False),
)
