"""Runs a crash and a runaway task on two executors, and draws what happened as ``faults.svg``.

    python docs/pictures/faults.py

Each bar is a task that ran: when, and on which worker. Times are those of the run.
"""

import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mirai_executor import MiraiExecutor

HERE = Path(__file__).parent
TASKS, BAD = 8, 3  # how many tasks, and which one misbehaves
USUAL, RUNAWAY, LIMIT = 0.4, 3.2, 0.8  # seconds


def note(log: Path, task: int, event: str) -> None:
    line = json.dumps({"task": task, "pid": os.getpid(), event: time.monotonic()})
    with log.open("a") as file:
        file.write(line + "\n")


def work(log: Path, task: int, trouble: str) -> None:
    note(log, task, "start")
    if task == BAD and trouble == "crash":
        time.sleep(USUAL / 2)
        os._exit(11)
    time.sleep(RUNAWAY if task == BAD else USUAL)
    note(log, task, "end")


@dataclass
class Bar:
    task: int
    lane: int
    start: float
    end: float
    fate: str = "done"


@dataclass
class Panel:
    title: str
    bars: list[Bar]
    total: float  # seconds until the last task ended
    failed: list[int]
    reason: str


def run(name: str, executor: Executor, trouble: str) -> Panel:
    done: dict[int, float] = {}
    errors: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with executor:
            warm = [executor.submit(time.sleep, 1.5) for _ in range(2)]  # both workers start
            for future in warm:
                future.result()
            begin = time.monotonic()
            futures = [submit(executor, log, task, trouble) for task in range(1, TASKS + 1)]
            for task, future in enumerate(futures, 1):
                future.add_done_callback(partial(lambda _, task: stamp(done, task), task=task))
            for task, future in enumerate(futures, 1):
                try:
                    future.result(LIMIT if trouble == "runaway" and task == BAD else None)
                except Exception as error:
                    errors[task] = type(error).__name__
                    done.setdefault(task, time.monotonic())
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    bars = bars_of(lines, begin, done, errors)
    unrun = [task for task in errors if task not in {bar.task for bar in bars}]
    return Panel(name, bars, max(bar.end for bar in bars), unrun, next(iter(errors.values())))


def stamp(done: dict[int, float], task: int) -> None:
    done.setdefault(task, time.monotonic())


def submit(executor: Executor, log: Path, task: int, trouble: str) -> Future[Any]:
    if trouble == "runaway" and task == BAD and isinstance(executor, MiraiExecutor):
        return executor.with_options(run_timeout=LIMIT).submit(work, log, task, trouble)
    return executor.submit(work, log, task, trouble)


def bars_of(
    lines: list[dict[str, float]], begin: float, done: dict[int, float], errors: dict[int, str]
) -> list[Bar]:
    starts = {int(line["task"]): line for line in lines if "start" in line}
    ends = {int(line["task"]): line["end"] for line in lines if "end" in line}
    lanes: list[tuple[float, float]] = []  # the process in each lane, and until when it is busy
    bars = []
    for task, line in sorted(starts.items(), key=lambda item: item[1]["start"]):
        end = ends.get(task, done[task])
        pids = [pid for pid, _ in lanes]
        if line["pid"] in pids:
            lane = pids.index(line["pid"])
        elif len(lanes) < 2:
            lane = len(lanes)
            lanes.append((line["pid"], 0))
        else:  # the process that takes the place of a dead one
            lane = min(range(2), key=lambda i: lanes[i][1])
        lanes[lane] = (line["pid"], end)
        bar = Bar(task, lane, line["start"] - begin, end - begin)
        if task in errors:
            bar.fate = "failed" if task == BAD else "lost"
        bars.append(bar)
    return bars


# --- the drawing: narrow, so that it can be read on a telephone

WIDTH, LEFT, LANE = 560, 20, 28
SCALE = 125.0  # pixels a second
COLOURS = {"done": "#3b7dd8", "failed": "#d64545", "lost": "#9aa3af", "wasted": "#f0b429"}


def text(x: float, y: float, words: str, size: int = 13, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" {more}>{words}</text>'


def box(x: float, y: float, width: float, colour: str, label: str) -> str:
    middle = text(x + width / 2, y + 17, label, 14, 'fill="white" text-anchor="middle"')
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{max(width - 2, 2):.1f}" height="{LANE - 4}" rx="4" '
        f'fill="{colour}"/>{middle}'
    )


def draw_panel(panel: Panel, top: int, trouble: str) -> list[str]:
    parts = [text(LEFT, top + 14, panel.title, 15, 'font-weight="600"')]
    for bar in panel.bars:
        x, y = LEFT + bar.start * SCALE, top + 24 + bar.lane * LANE
        width = (bar.end - bar.start) * SCALE
        if trouble == "runaway" and bar.task == BAD and bar.end - bar.start > LIMIT + 0.5:
            used = LIMIT * SCALE
            parts.append(box(x + used, y, width - used, COLOURS["wasted"], "still runs"))
            width = used
        parts.append(box(x, y, width, COLOURS[bar.fate], str(bar.task)))
    for number, line in enumerate(verdict(panel)):
        y = top + 24 + 2 * LANE + 15 + 18 * number
        parts.append(text(LEFT, y, line, 14, 'fill="#4a5260"'))
    return parts


def verdict(panel: Panel) -> tuple[str, str]:
    lost = sorted({bar.task for bar in panel.bars if bar.fate == "lost"} | set(panel.failed))
    end = f"The last task ends after {panel.total:.1f} s."
    if lost:
        numbers = ", ".join(map(str, lost))
        return f"Task {BAD} fails, and so do tasks {numbers}: {panel.reason}.", end
    return f"Task {BAD} fails with {panel.reason}; every other returns its result.", end


def draw(scenes: dict[str, list[Panel]]) -> str:
    parts, top = [], 34
    for headline, panels in scenes.items():
        parts.append(text(LEFT, top, headline, 17, 'font-weight="700"'))
        top += 14
        for panel in panels:
            parts += draw_panel(panel, top, "crash" if "crash" in headline else "runaway")
            top += 130
        top += 28
    height = top
    marks = [
        f'<line x1="{LEFT + second * SCALE:.0f}" x2="{LEFT + second * SCALE:.0f}" y1="46" '
        f'y2="{height - 30}" stroke="#d9dde3"/>'
        + text(LEFT + second * SCALE + 4, height - 10, f"{second} s", 13, 'fill="#6b7280"')
        for second in range(5)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img"',
            '  aria-label="Bars of tasks over time, for two executors"',
            '  font-family="system-ui, sans-serif" fill="#1f2430">',
            f'<rect width="{WIDTH}" height="{height}" rx="10" fill="#f7f8fa"/>',
            *marks,
            *parts,
            "</svg>\n",
        ]
    )


def panels(trouble: str) -> list[Panel]:
    spawn = multiprocessing.get_context("spawn")
    return [
        run("MiraiExecutor(2)", MiraiExecutor(2), trouble),
        run("ProcessPoolExecutor(2)", ProcessPoolExecutor(2, mp_context=spawn), trouble),
    ]


if __name__ == "__main__":
    scenes = {
        f"Task {BAD} of {TASKS} crashes its process": panels("crash"),
        f"Task {BAD} of {TASKS} runs away; its limit is {LIMIT} s": panels("runaway"),
    }
    with suppress(FileNotFoundError):
        (HERE / "faults.svg").unlink()
    (HERE / "faults.svg").write_text(draw(scenes))
