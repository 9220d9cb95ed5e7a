"""Analyses the standard library in parallel, and recovers from an error, a crash and a timeout.

This is what ``mirai-executor demo`` runs. It is also an example of a small program that uses the
package: with ``ProcessPoolExecutor`` in place of ``MiraiExecutor``, its first part works the same.
"""

import ast
import os
import signal
import sys
import sysconfig
import time
import traceback
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mirai_executor import DaemonLostError, MiraiExecutor, TaskTimeoutError, on_daemon

__all__ = ["run"]


def run(workers: int | None = None, limit: int | None = None) -> bool:
    """Run the demonstration, and tell whether all checks passed.

    Args:
        workers: The number of daemons; None for one for each processor.
        limit: The largest number of files to analyse; None for all.
    """
    files = standard_library()[:limit]
    show(f"{len(files)} source files of Python {sys.version.split()[0]}'s standard library")
    with MiraiExecutor(workers) as executor:
        held = [
            analyses_in_parallel_what_a_serial_run_finds(executor, files),
            raises_here_what_a_task_raised_there(executor),
            survives_the_death_of_a_daemon(executor, files[:100]),
            stops_a_runaway_task(executor),
        ]
    show("All checks passed." if all(held) else "Some checks FAILED.")
    return all(held)


# The work


@dataclass(frozen=True)
class Analysis:
    """What we want to know about a source file."""

    path: Path
    lines: int
    functions: int
    classes: int
    size: int
    compressed: int


def analyse(path: Path) -> Analysis:
    """Parse a source file, count what is in it, and compress it."""
    source = path.read_bytes()
    nodes = list(ast.walk(ast.parse(source, path)))
    return Analysis(
        path,
        lines=source.count(b"\n"),
        functions=sum(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in nodes),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        size=len(source),
        compressed=len(zlib.compress(source, level=9)),
    )


def standard_library() -> list[Path]:
    """Find the source files, but not those of tests, some of which are deliberately invalid."""
    root = Path(sysconfig.get_path("stdlib"))
    foreign = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(root / path for path in files if foreign.isdisjoint(path.parts))


# What is shown


def analyses_in_parallel_what_a_serial_run_finds(
    executor: MiraiExecutor, files: list[Path]
) -> bool:
    """Do the same work on daemons and in this process, and compare the results and the times."""
    began = time.perf_counter()
    parallel = list(progress(executor.map(analyse, files), names(executor), len(files)))
    parallel_time = time.perf_counter() - began  # the start of the daemons included

    began = time.perf_counter()
    serial = list(progress(map(analyse, files), "serial run", len(files)))
    serial_time = time.perf_counter() - began

    show_totals(parallel)
    show(f"   {'serial run':12} {serial_time:6.2f} s")
    show(f"   {names(executor):12} {parallel_time:6.2f} s, {gain(serial_time, parallel_time)}")
    return check("both runs found the same", parallel == serial)


def names(executor: MiraiExecutor) -> str:
    """Say how many daemons there are."""
    return "1 daemon" if executor.size == 1 else f"{executor.size} daemons"


def gain(serial: float, parallel: float) -> str:
    """Describe what the daemons have gained, which is no more than free processors allow."""
    if parallel < 0.9 * serial:
        return f"start included: {serial / parallel:.1f} times as fast"
    return "start included: not faster, for want of work or of free processors"


def raises_here_what_a_task_raised_there(executor: MiraiExecutor) -> bool:
    """Raise on a daemon: the exception keeps its type, and the lines that raised it."""
    try:
        executor.submit(analyse, Path("no such file")).result()
    except FileNotFoundError as error:
        # Its cause is the same traceback, as text of the daemon.
        text = "".join(traceback.format_exception(error, chain=False))
        show("", *text.splitlines(), sep="\n   | ")
        return check("an exception kept its type and its traceback", "in analyse" in text)
    return check("an exception kept its type and its traceback", False)


def survives_the_death_of_a_daemon(executor: MiraiExecutor, files: list[Path]) -> bool:
    """Kill a daemon while there is work in the queue: only the task that it was running fails."""
    doomed = executor.submit(kill_this_daemon)
    others = executor.map(analyse, files)
    error = doomed.exception()
    show(f"\n   {type(error).__name__}: {error}")
    lost_one = isinstance(error, DaemonLostError)
    return check(
        "a crash failed only the task that was running",
        lost_one and len(list(others)) == len(files),
    )


def stops_a_runaway_task(executor: MiraiExecutor) -> bool:
    """Give an endless task half a second; afterwards, the executor runs others."""
    runaway = executor.with_options(run_timeout=0.5).submit(spin)
    error = runaway.exception()
    show(f"\n   {type(error).__name__}: {error}")
    stopped = isinstance(error, TaskTimeoutError)
    return check("an endless task was stopped", stopped and executor.submit(on_daemon).result())


def kill_this_daemon() -> None:
    """End this process as a crash in C code, or the kernel when memory runs out, would."""
    os.kill(os.getpid(), signal.SIGKILL)


def spin() -> None:
    """Never return."""
    while True:
        pass


# How it is shown


def progress(results: Iterable[Analysis], what: str, total: int) -> Iterator[Analysis]:
    """Pass results on, and count them in a line that is overwritten, if there is a terminal."""
    if not sys.stderr.isatty():
        yield from results
        return
    step = max(1, total // 20)
    for done, result in enumerate(results, 1):
        if done % step == 0 or done == total:
            end = "\n" if done == total else "\r"
            print(f"   {what}: {done} of {total} files", end=end, file=sys.stderr, flush=True)  # noqa: T201
        yield result


def show_totals(analyses: list[Analysis]) -> None:
    """Show what the standard library consists of."""
    size = sum(analysis.size for analysis in analyses)
    compressed = sum(analysis.compressed for analysis in analyses)
    show(
        f"   {sum(a.lines for a in analyses):,} lines,"
        f" {sum(a.functions for a in analyses):,} functions,"
        f" {sum(a.classes for a in analyses):,} classes;"
        f" {size / 1e6:.1f} MB, {compressed / 1e6:.1f} MB compressed"
    )


def check(claim: str, held: bool) -> bool:
    """Show whether a claim is true."""
    show(f"{'ok' if held else 'FAILED'}: {claim}")
    return held


def show(*lines: str, sep: str = "\n") -> None:
    """Print at once, so that a reader at the other end of a pipe can follow."""
    print(*lines, sep=sep, flush=True)  # noqa: T201 - a demonstration prints
