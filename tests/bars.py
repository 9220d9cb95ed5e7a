"""A program that shows how far two tasks are: one ends at once, the other when it is let go.

python bars.py HOW LIBRARY FIFO FIFO
"""

import sys
from pathlib import Path
from typing import Any

import pytest

from mirai_executor import (
    MiraiExecutor,
    _progress,
    as_completed,
    collect,
    progress,
    report,
)
from mirai_executor.daemon import _messenger


def work(fifos: list[Path]) -> int:
    """Say what there is to say, and wait for each to be opened."""
    _messenger._PAUSE = 0  # all of it, however soon it follows
    for done, fifo in enumerate(fifos, 1):
        progress(done, 4, f"step\n{done} [of 4]")
        if done == 2:
            report("so to speak")
        fifo.read_bytes()
    return len(fifos)


def results(how: str, executor: MiraiExecutor, calls: list[list[Path]], bar: Any) -> list[int]:
    """Do the calls in one of the ways that show a bar."""
    if how == "map":
        return list(executor.map(work, calls, progress=bar))
    if how == "chunks":
        return list(executor.map(work, calls, chunksize=2, progress=bar))
    if how == "mirai_map":
        return executor.mirai_map(calls, work).collect(progress=bar)  # type: ignore[no-any-return]
    futures = [executor.submit(work, call) for call in calls]
    if how == "collect":
        return collect(futures, progress=bar)
    return [future.result() for future in as_completed(futures, progress=bar)]


def main(how: str, library: str, *fifos: str) -> None:
    """Show it by tqdm, by rich or, if it is ``none``, by a plain line."""
    if library != "any":
        pytest.MonkeyPatch().setattr(_progress, "_is_installed", library.__eq__)
    calls: list[list[Path]] = [[], [*map(Path, fifos)]]
    dials = how == "elsewhere"
    with MiraiExecutor(url="tcp://127.0.0.1:0") if dials else MiraiExecutor(1) as executor:
        if dials:
            executor.launch_local(1)
        if how != "given":
            found = results(how, executor, calls, "fits")
        else:
            from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

            with tqdm(total=2, desc="fits") as bar:
                found = results("map", executor, calls, bar)
                assert (bar.n, type(bar.n)) == (2, int)
    assert found == [0, 2]
    print("the end")


if __name__ == "__main__":
    main(*sys.argv[1:])
