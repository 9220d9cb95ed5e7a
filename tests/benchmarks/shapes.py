"""The shapes that work has in a neutral suite of the field (TaPS): who waits for whom, with what.

Arguments are instances of a class of a package, with an identifier, a moment and some bytes. Each
shape returns how many seconds it took, and checks its answers. Futures are those of
``concurrent.futures``: callbacks and ``wait`` are part of what is measured.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from benchmarks import work
from benchmarks.checks import check
from benchmarks.peers import Peer
from benchmarks.work import Parcel

IN_FLIGHT = 64


def chain(peer: Peer, length: int = 300) -> float:
    """Each task is submitted by a callback of the one before, with its result."""
    done = threading.Event()
    last: list[Parcel] = []

    def go_on(future: Future[Parcel]) -> None:
        if future.exception() is None:
            last.append(future.result())
            if last[-1].number < length:
                submit(last[-1])
                return
        done.set()

    def submit(parcel: Parcel) -> None:
        peer.submit(work.pass_on, parcel).add_done_callback(go_on)

    start = time.perf_counter()
    submit(Parcel.of(0))
    done.wait()
    seconds = time.perf_counter() - start
    check([parcel.number for parcel in last] == list(range(1, length + 1)))
    return seconds


def diamond(peer: Peer, times: int = 40, width: int = 8) -> float:
    """One task, then several with its result, then one with all of theirs; and again."""
    start = time.perf_counter()
    parcel = Parcel.of(0)
    for _ in range(times):
        split = peer.submit(work.pass_on, parcel).result()
        middle = [peer.submit(work.pass_on, split) for _ in range(width)]
        parcel = peer.submit(work.merge, [future.result() for future in middle]).result()
    seconds = time.perf_counter() - start
    # Each time, a number grows by two and is then summed over the width.
    expected = 0
    for _ in range(times):
        expected = (expected + 2) * width % work.MODULUS
    check(parcel.number == expected)
    return seconds


def reduction(peer: Peer, leaves: int = 256) -> float:
    """A tree: each pair of results that is there feeds a task that merges them."""
    start = time.perf_counter()
    running = {peer.submit(work.pass_on, Parcel.of(n)) for n in range(leaves)}
    ready: list[Parcel] = []
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        ready += [future.result() for future in done]
        while len(ready) > 1:
            running.add(peer.submit(work.merge, [ready.pop(), ready.pop()]))
    seconds = time.perf_counter() - start
    check([parcel.number for parcel in ready] == [sum(range(1, leaves + 1)) % work.MODULUS])
    return seconds


def bag(peer: Peer, count: int, size: int) -> float:
    """Independent tasks, never more than 64 at a time: the next follows any that is done."""
    parcels = (Parcel.of(n, size) for n in range(count))

    def submitted(n: int) -> Iterator[Any]:
        return (peer.submit(work.pass_on, parcel) for parcel in itertools.islice(parcels, n))

    start = time.perf_counter()
    running = set(submitted(IN_FLIGHT if size < 1 << 20 else 4))
    numbers: list[int] = []
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            numbers.append(future.result().number)
            check(len(future.result().data) == size)
        running.update(submitted(len(done)))
    seconds = time.perf_counter() - start
    check(sorted(numbers) == list(range(1, count + 1)))
    return seconds


def bag_of_nothing(peer: Peer, count: int = 2000) -> float:
    """The same with tasks that take and return next to nothing."""
    start = time.perf_counter()
    numbers = iter(range(count))
    running = {peer.submit(work.nothing, n) for n in itertools.islice(numbers, IN_FLIGHT)}
    answers: list[int] = []
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        answers += [future.result() for future in done]
        for n in itertools.islice(numbers, len(done)):
            running.add(peer.submit(work.nothing, n))
    seconds = time.perf_counter() - start
    check(sorted(answers) == list(range(count)))
    return seconds


def cholesky(peer: Peer, tiles: int = 6, size: int = 128) -> float:
    """Factor a matrix in tiles: what a task needs, others have to finish first."""
    import numpy as np

    random = np.random.default_rng(1)
    half = random.standard_normal((tiles * size, tiles * size))
    matrix = half @ half.T + tiles * size * np.eye(tiles * size)

    def tile(i: int, j: int) -> Any:
        return matrix[i * size : (i + 1) * size, j * size : (j + 1) * size].copy()

    start = time.perf_counter()
    found = {(i, j): tile(i, j) for i in range(tiles) for j in range(i + 1)}
    for k in range(tiles):
        found[k, k] = peer.submit(work.factor, found[k, k]).result()
        below = range(k + 1, tiles)
        columns = {i: peer.submit(work.solve, found[k, k], found[i, k]) for i in below}
        found.update({(i, k): future.result() for i, future in columns.items()})
        updates = {
            (i, j): peer.submit(work.update, found[i, j], found[i, k], found[j, k])
            for i in below
            for j in range(k + 1, i + 1)
        }
        found.update({place: future.result() for place, future in updates.items()})
    seconds = time.perf_counter() - start
    lower = np.block(
        [[found.get((i, j), np.zeros((size, size))) for j in range(tiles)] for i in range(tiles)]
    )
    check(bool(np.allclose(lower @ lower.T, matrix)))
    return seconds


def twice(shape: Callable[[Peer], float]) -> Callable[[Peer], float]:
    """Return the second time that a shape takes: the workers have imported what it needs."""

    def measured(peer: Peer) -> float:
        shape(peer)
        return shape(peer)

    return measured


SHAPES: dict[str, Callable[[Peer], float]] = {
    "chain": twice(chain),
    "diamond": twice(diamond),
    "reduction": twice(reduction),
    "bag": twice(bag_of_nothing),
    "bag_100_kb": twice(lambda peer: bag(peer, 400, 100_000)),
    "bag_10_mb": twice(lambda peer: bag(peer, 20, 10_000_000)),
    "cholesky": twice(cholesky),
}
