"""What a user waits for who runs a small script: the whole process, from its start to its end."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        print(executor.submit(abs, -1).result())
"""
SCRIPTS: Mapping[str, str] = {
    "mirai": """
from mirai_executor import MiraiExecutor

if __name__ == "__main__":
    with MiraiExecutor(2) as executor:
        print(executor.submit(abs, -1).result())
""",
    **{method: _POOL.format(method=method) for method in ("spawn", "forkserver", "fork")},
}
MUST, AIM = 1.0, 0.7  # of spawn's time, at most


class Took(NamedTuple):
    """One run of a script, in seconds."""

    wall: float
    processor: float  # of all its processes that somebody has waited for


def run_whole(path: Path) -> Took:
    """Run a script as a user does, and measure it."""
    # As installed: a package whose bytecode may not be kept is compiled at each start.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(path)], stdout=subprocess.PIPE, check=True, env=environment
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.stdout != b"1\n":
        raise AssertionError("the figure is void: the result is wrong")
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Took(wall, user + system)


def whole_processes(rounds: int) -> dict[str, list[Took]]:
    """Return how long each script took, in each round; they take turns."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.py" for name in SCRIPTS}
        for name, path in paths.items():
            path.write_text(SCRIPTS[name])
            run_whole(path)  # once without counting: bytecode, and what the system keeps
        took: dict[str, list[Took]] = {name: [] for name in SCRIPTS}
        for _ in range(rounds):
            for name, path in paths.items():
                took[name].append(run_whole(path))
        return took


def main() -> None:
    """Print a table: milliseconds, and ours in parts of each peer's, as medians over rounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    took = whole_processes(rounds)
    print(f"{'whole process':14} {'wall ms':>8} {'cpu ms':>8} {'ours/wall':>10} {'ours/cpu':>9}")
    for name, runs in took.items():
        wall = statistics.median(one.wall for one in runs)
        cpu = statistics.median(one.processor for one in runs)
        pairs = list(zip(took["mirai"], runs, strict=True))
        of_wall = statistics.median(ours.wall / theirs.wall for ours, theirs in pairs)
        of_cpu = statistics.median(ours.processor / theirs.processor for ours, theirs in pairs)
        print(f"{name:14} {1e3 * wall:8.0f} {1e3 * cpu:8.0f} {of_wall:10.2f} {of_cpu:9.2f}")


if __name__ == "__main__":
    main()
