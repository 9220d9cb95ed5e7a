"""Measures peers beside neighbours that compute, in fresh processes, round by round.

A pool that has just been started on a busy machine differs from the one before: where its workers
run, and when they were last let in, stays with it. So each figure comes from a process of its own
(``once.py``), and ours and the peers' take turns, the first of one round being the last of the
next.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.once import MEASURES

SECONDS_FOR_ONE = 300

# By peer, one figure for each round.
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Beside:
    """Something that is measured beside neighbours.

    Args:
        name: What the table calls it.
        measure: Which of ``once.MEASURES`` it is.
        parts: Which of its figures are shown, in seconds; "" for one that has no name.
        must: The ratio to ProcessPoolExecutor that is to be reached, by the number of neighbours.
        ideal: What the figure would be if nothing but the work itself took time.
        peers: Who is measured beside us.
    """

    name: str
    measure: str
    parts: tuple[str, ...] = ("",)
    must: Mapping[int, float] = field(default_factory=dict)
    ideal: float | None = None
    peers: tuple[str, ...] = ("processes (spawn)",)


ALWAYS = dict.fromkeys(range(5), 1.0)
SHAPED = {0: 1.2, 2: 1.0}

BESIDE = (
    Beside("round trip", "round_trips", ("p50", "mean", "p95"), ALWAYS),
    Beside("5,000 submits", "burst", must=dict.fromkeys(ALWAYS, 3.0)),
    Beside("map of 5,000", "mapped", must=dict.fromkeys(ALWAYS, 3.0)),
    Beside("200 x 10 ms asleep", "resting", must=ALWAYS, ideal=1.0),
    Beside("200 x 10 ms computing", "computing", must=ALWAYS, ideal=1.0),
    Beside("chain from callbacks", "chain", must=SHAPED),
    Beside("diamond", "diamond", must=SHAPED),
    Beside("reduction tree", "reduction", must=SHAPED),
    Beside("bag of no-ops", "bag", must=SHAPED),
    Beside("bag of 100 kB", "bag_100_kb", must=SHAPED),
    Beside("bag of 10 MB", "bag_10_mb", must=SHAPED),
    Beside("tiled Cholesky", "cholesky", must=SHAPED),
    Beside("METG(50 %)", "granularity", peers=("processes (spawn)", "loky")),
)


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Have so many processes compute meanwhile."""
    program = "print(flush=True)\nwhile True: pass"
    command = [sys.executable, "-c", program]
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        yield


def measure_once(measure: str, peer: str) -> dict[str, float]:
    """Return the figures that a process of its own has found."""
    command = [sys.executable, "-m", "benchmarks.once", measure, peer]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=SECONDS_FOR_ONE
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure_beside(
    quantity: Beside, peers: Sequence[str], count: int, rounds: int
) -> dict[str, Figures]:
    """Return the figures of each part of a quantity beside ``count`` neighbours."""
    found: dict[str, Figures] = {part: {peer: [] for peer in peers} for part in quantity.parts}
    assert quantity.measure in MEASURES
    with neighbours(count):
        for n in range(rounds):
            for peer in peers if n % 2 == 0 else reversed(peers):
                figures = measure_once(quantity.measure, peer)
                for part in quantity.parts:
                    found[part][peer].append(figures[part])
    return found
