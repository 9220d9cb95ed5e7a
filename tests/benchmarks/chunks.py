"""Compares a map whose chunks are found with the best chunk size: ``python -m benchmarks.chunks``.

The elements compute for 50 µs. Chunk sizes of ``map`` are tried by hand, round by round, and the
best one counts: what is printed for the map is how many times as long as that it has taken.
"""

import statistics
import time
from collections.abc import Callable

from benchmarks.checks import check
from mirai_executor import MiraiExecutor

COUNT = 1000
SECONDS = 50e-6
SIZES = (1, 5, 10, 25, 50, 100, 125, 250)
ROUNDS = 15
WORKERS = 2


def compute(place: int) -> int:
    """Keep a processor busy for 50 µs."""
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        pass
    return place


def seconds_of(run: Callable[[], list[int]]) -> float:
    """Return how long a map has taken."""
    start = time.perf_counter()
    answers = run()
    seconds = time.perf_counter() - start
    check(answers == list(range(COUNT)))
    return seconds


def by_hand(executor: MiraiExecutor, size: int) -> list[int]:
    """Map in chunks of a given size."""
    return list(executor.map(compute, range(COUNT), chunksize=size))


def main() -> None:
    """Measure both, in turn, and print their medians in milliseconds."""
    times: dict[str, list[float]] = {}
    with MiraiExecutor(WORKERS) as executor:
        executor.wait_ready()
        first = seconds_of(lambda: executor.mirai_map(range(COUNT), compute).collect())
        for _ in range(ROUNDS):
            for size in SIZES:
                took = seconds_of(lambda size=size: by_hand(executor, size))  # type: ignore[misc]  # it is called at once
                times.setdefault(f"chunksize={size}", []).append(took)
            took = seconds_of(lambda: executor.mirai_map(range(COUNT), compute).collect())
            times.setdefault("mirai_map", []).append(took)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, median in medians.items():
        print(f"{name:14} {1e3 * median:7.1f} ms")
    ours = medians.pop("mirai_map")
    print(f"the first one  {1e3 * first:7.1f} ms")
    print(f"mirai_map / the best chunk size: {ours / min(medians.values()):.2f}")


if __name__ == "__main__":
    main()
