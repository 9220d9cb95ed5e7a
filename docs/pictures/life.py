"""Has tasks end in five ways, and draws what their core was told and decided as ``life.svg``.

    python docs/pictures/life.py

Each row is one task: the events and commands of its executor, from ``executor.story()``.
"""

import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirai_executor import MiraiExecutor, MiraiFuture

HERE = Path(__file__).parent
LINE = re.compile(r"\S+ (event|command) +(\w+)\((.*)\)$")
Step = tuple[str, str]  # whether it is an event or a command, and its name


def die_once(marker: Path) -> str:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return "done"
    os._exit(3)


def cancel_once_it_runs(future: MiraiFuture[Any]) -> None:
    while not future.running():
        time.sleep(0.01)
    future.cancel()


def story_of(
    fn: Callable[..., Any],
    *args: Any,
    options: dict[str, Any] | None = None,
    then: Callable[[MiraiFuture[Any]], None] = MiraiFuture.exception,
) -> list[Step]:
    """Return what happens to the second of three tasks."""
    with MiraiExecutor(1) as executor:
        executor.submit(abs, -1).result()
        then(executor.with_options(**options or {}).submit(fn, *args))
        executor.submit(abs, -1).result()
        found = [LINE.search(line) for line in executor.story().splitlines()]
    steps = [(kind, named(name, about)) for kind, name, about in (m.groups() for m in found if m)]
    starts = [i for i, (_, name) in enumerate(steps) if name == "TaskSubmitted"]
    return steps[starts[1] : starts[2]]


def named(name: str, about: str) -> str:
    """Return a step's name, with the reason where there is one."""
    reason = re.search(r"<(?:Failure|AlarmKind)\.(\w+)", about)
    return f"{name}: {reason[1].lower().replace('_', ' ')}" if reason else name


def stories() -> dict[str, list[Step]]:
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder, "marker")
        return {
            "It returns, or raises": story_of(pow, 2, 10),
            "It is cancelled": story_of(time.sleep, 60, then=cancel_once_it_runs),
            "It takes too long": story_of(time.sleep, 60, options={"run_timeout": 0.3}),
            "Its daemon dies": story_of(os._exit, 3),
            "The same, with retries=1": story_of(die_once, marker, options={"retries": 1}),
        }


# --- the drawing

LEFT, ROW, BOX, GAP, LETTER = 24, 68, 24, 20, 7.1  # pixels
COLOURS = {"event": "#3b7dd8", "command": "#4a5260"}


def text(x: float, y: float, words: str, more: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {more}>{words}</text>'


def draw_row(title: str, steps: list[Step], top: int) -> tuple[list[str], float]:
    parts = [text(LEFT, top, title, 'font-size="14" font-weight="600"')]
    x: float = LEFT
    for step in steps:
        kind, name = step
        width = LETTER * len(name) + 18
        parts.append(
            f'<rect x="{x:.0f}" y="{top + 10}" width="{width:.0f}" height="{BOX}" rx="4" '
            f'fill="{COLOURS[kind]}"/>'
        )
        more = f'class="{kind}" font-size="12" fill="white" text-anchor="middle"'
        parts.append(text(x + width / 2, top + 26, name, more))
        x += width + GAP
        if step is not steps[-1]:
            parts.append(text(x - GAP / 2, top + 27, "→", 'font-size="14" text-anchor="middle"'))
    return parts, x


def draw(rows: dict[str, list[Step]]) -> str:
    parts, widest = [], 0.0
    for number, (title, steps) in enumerate(rows.items()):
        row, width = draw_row(title, steps, 36 + number * ROW)
        parts += row
        widest = max(widest, width)
    height = 52 + len(rows) * ROW
    legend = "Blue: an event, which the core is told. Grey: a command, which the core decides."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {widest + 4:.0f} {height}" '
            'role="img"',
            '  aria-label="Events and commands in the lives of five tasks"',
            '  font-family="system-ui, sans-serif" fill="#1f2430">',
            f'<rect width="{widest + 4:.0f}" height="{height}" rx="10" fill="#f7f8fa"/>',
            *parts,
            text(LEFT, height - 12, legend, 'font-size="13" fill="#4a5260"'),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    (HERE / "life.svg").write_text(draw(stories()))
