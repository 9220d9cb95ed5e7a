"""Finds METG(50 %): the smallest tasks that still keep the workers half busy.

The minimum effective task granularity is the measure of Slaughter et al., "Task Bench: A
Parameterized Benchmark for Evaluating Parallel Runtime Performance" (SC 2020). Here the tasks
depend on nothing (its trivial pattern) and compute for a given time; the efficiency is all that
time over what the workers had: their number, times the seconds from the first submission to the
last result. What is returned is the time that one task computes.
"""

import math
import time

from benchmarks import work
from benchmarks.checks import check
from benchmarks.peers import Peer

EFFICIENCY = 0.5
LONGEST = 0.016  # seconds
FEWEST, MOST = 100, 4000  # tasks
FOR_SECONDS = 0.4  # that the tasks of one step compute, all together


def granularity(peer: Peer, workers: int) -> float:
    """Return the METG in seconds, between two steps by interpolation."""
    longer, better = math.inf, math.inf
    task = LONGEST
    while (found := efficiency(peer, workers, task)) >= EFFICIENCY:
        longer, better = task, found
        task /= 2
    if longer == math.inf:
        return LONGEST
    part = math.log(EFFICIENCY / found) / math.log(better / found)
    return task * math.pow(longer / task, part)


def efficiency(peer: Peer, workers: int, task: float) -> float:
    """Return which part of their time the workers spend in tasks of so many seconds."""
    count = min(MOST, max(FEWEST, int(FOR_SECONDS / task)))
    start = time.perf_counter()
    futures = [peer.submit(work.sleep_ms, task * 1000) for _ in range(count)]
    check([future.result() for future in futures] == [task * 1000] * count)
    return count * task / (workers * (time.perf_counter() - start))
