"""Measures one thing of one peer once, in this process: ``python -m benchmarks.once burst mirai``.

It prints its figures as JSON, in seconds by name. Workers that are spawned import this module.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

from benchmarks import work
from benchmarks.checks import check
from benchmarks.granularity import granularity
from benchmarks.peers import PEERS, Peer
from benchmarks.shapes import SHAPES

WORKERS = 2
_WARM_UP = 40


def warm_up(peer: Peer) -> None:
    """Have both workers running, and what they need imported."""
    results = [peer.submit(work.nothing, i) for i in range(_WARM_UP)]
    check([result.result() for result in results] == list(range(_WARM_UP)))


def round_trips(peer: Peer, count: int = 400) -> list[float]:
    """Return how long each of so many no-ops took, one after the other."""
    warm_up(peer)
    times = []
    for i in range(count):
        start = time.perf_counter()
        answer = peer.submit(work.nothing, i).result()
        times.append(time.perf_counter() - start)
        check(answer == i)
    return times


def burst(peer: Peer, fn: Callable[[int], int] = work.nothing, count: int = 5000) -> float:
    """Submit so many no-ops, then wait for all results."""
    warm_up(peer)
    start = time.perf_counter()
    futures = [peer.submit(fn, i) for i in range(count)]
    answers = [future.result() for future in futures]
    seconds = time.perf_counter() - start
    check(answers == list(range(count)))
    return seconds


def mapped(peer: Peer, count: int = 5000, chunksize: int = 1) -> float:
    """Map a no-op over so many items."""
    warm_up(peer)
    start = time.perf_counter()
    answers = list(peer.map(work.nothing, range(count), chunksize))
    seconds = time.perf_counter() - start
    check(answers == list(range(count)))
    return seconds


def _of_10_ms(peer: Peer, fn: Callable[[float], float], argument: float) -> float:
    warm_up(peer)
    start = time.perf_counter()
    futures = [peer.submit(fn, argument) for _ in range(200)]
    check([future.result() for future in futures] == [argument] * 200)
    return time.perf_counter() - start


def _trips(peer: Peer) -> dict[str, float]:
    times = round_trips(peer)
    return {
        "p50": statistics.median(times),
        "mean": statistics.fmean(times),
        "p95": statistics.quantiles(times, n=20)[-1],
    }


def _granularity(peer: Peer) -> float:
    warm_up(peer)
    return granularity(peer, WORKERS)


def _alone(measure: Callable[[Peer], float]) -> Callable[[Peer], dict[str, float]]:
    return lambda peer: {"": measure(peer)}


MEASURES: dict[str, Callable[[Peer], dict[str, float]]] = {
    "round_trips": _trips,
    "burst": _alone(burst),
    "mapped": _alone(mapped),
    "resting": _alone(lambda peer: _of_10_ms(peer, work.rest, 0.01)),
    "computing": _alone(lambda peer: _of_10_ms(peer, work.sleep_ms, 10)),
    "granularity": _alone(_granularity),
    **{name: _alone(shape) for name, shape in SHAPES.items()},
}


def main() -> None:
    """Measure what the command line names."""
    measure, name = sys.argv[1:]
    with PEERS[name](WORKERS) as peer:
        print(json.dumps(MEASURES[measure](peer)))


if __name__ == "__main__":
    main()
