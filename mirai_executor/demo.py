"""Analyses the source files of Python's standard library on daemons, and survives three accidents.

This is what ``mirai-executor demo`` runs, and a small program of the kind that yours may be: with
``ProcessPoolExecutor`` in the place of ``MiraiExecutor``, the first part works just the same.
"""
# ruff: noqa: T201 - a demonstration prints

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
    """Run the demonstration, and tell whether everything was as it should be.

    Args:
        workers: The number of daemons; None for one on each processor.
        limit: The most files to analyse; None for all.
    """
    files = standard_library()[:limit]
    print(f"{len(files)} source files of Python {sys.version.split()[0]}'s standard library")
    with MiraiExecutor(workers) as executor:
        held = [
            analyses_in_parallel_what_a_serial_run_finds(executor, files),
            raises_here_what_a_task_raised_there(executor),
            survives_the_death_of_a_daemon(executor, files[:100]),
            stops_a_runaway_task(executor),
        ]
    print("Everything held." if all(held) else "NOT everything held.")
    return all(held)


# The work


@dataclass(frozen=True)
class Analysis:
    """What we want to know of a source file."""

    path: Path
    lines: int
    functions: int
    classes: int
    size: int
    compressed: int


def analyse(path: Path) -> Analysis:
    """Parse a source file, and see how far it can be compressed."""
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
    """Find the source files; not those of tests, some of which are no valid Python on purpose."""
    root = Path(sysconfig.get_path("stdlib"))
    foreign = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
    files = (path.relative_to(root) for path in root.rglob("*.py"))
    return sorted(root / path for path in files if foreign.isdisjoint(path.parts))


# What is shown


def analyses_in_parallel_what_a_serial_run_finds(
    executor: MiraiExecutor, files: list[Path]
) -> bool:
    """Do the same work on daemons and here, and compare both results and times."""
    began = time.perf_counter()
    parallel = list(progress(executor.map(analyse, files), f"{executor.size} daemons", len(files)))
    parallel_time = time.perf_counter() - began  # the start of the daemons included

    began = time.perf_counter()
    serial = list(progress(map(analyse, files), "serial run", len(files)))
    serial_time = time.perf_counter() - began

    print_totals(parallel)
    print(f"   serial run {serial_time:6.2f} s")
    print(
        f"   {executor.size} daemons  {parallel_time:6.2f} s, {serial_time / parallel_time:.2f}x"
    )
    return check("both runs found the same", parallel == serial)


def raises_here_what_a_task_raised_there(executor: MiraiExecutor) -> bool:
    """Fail on a daemon; the exception arrives as itself, with the lines that raised it."""
    try:
        executor.submit(analyse, Path("no such file")).result()
    except FileNotFoundError as error:
        text = "".join(traceback.format_exception(error))
        print("", *text.splitlines(), sep="\n   | ")
        return check("an error came back as itself", "in analyse" in text)
    return check("an error came back as itself", False)


def survives_the_death_of_a_daemon(executor: MiraiExecutor, files: list[Path]) -> bool:
    """Kill a daemon while there is work in the queue: only the task that it ran is lost."""
    doomed = executor.submit(kill_this_daemon)
    others = executor.map(analyse, files)
    error = doomed.exception()
    print(f"\n   {type(error).__name__}: {error}")
    lost_one = isinstance(error, DaemonLostError)
    return check("a crash cost only its own task", lost_one and len(list(others)) == len(files))


def stops_a_runaway_task(executor: MiraiExecutor) -> bool:
    """Give an endless task half a second; its daemon is there for others afterwards."""
    runaway = executor.with_options(run_timeout=0.5).submit(spin)
    error = runaway.exception()
    print(f"\n   {type(error).__name__}: {error}")
    stopped = isinstance(error, TaskTimeoutError)
    return check("a runaway was stopped", stopped and executor.submit(on_daemon).result())


def kill_this_daemon() -> None:
    """End this process as a crash in C code, or the kernel out of memory, would."""
    os.kill(os.getpid(), signal.SIGKILL)


def spin() -> None:
    """Never return."""
    while True:
        pass


# How it is shown


def progress(results: Iterable[Analysis], what: str, total: int) -> Iterator[Analysis]:
    """Pass results on, and count them on the terminal, in a line that is written over."""
    step = max(1, total // 20)
    for done, result in enumerate(results, 1):
        if done % step == 0 or done == total:
            end = "\n" if done == total else "\r"
            print(f"   {what}: {done} of {total} files", end=end, file=sys.stderr, flush=True)
        yield result


def print_totals(analyses: list[Analysis]) -> None:
    """Print what the standard library is made of."""
    size = sum(analysis.size for analysis in analyses)
    compressed = sum(analysis.compressed for analysis in analyses)
    print(
        f"   {sum(a.lines for a in analyses):,} lines,"
        f" {sum(a.functions for a in analyses):,} functions,"
        f" {sum(a.classes for a in analyses):,} classes;"
        f" {size / 1e6:.1f} MB, {compressed / 1e6:.1f} MB compressed"
    )


def check(claim: str, held: bool) -> bool:
    """Print whether a claim has held."""
    print(f"{'ok' if held else 'FAILED'}: {claim}")
    return held
