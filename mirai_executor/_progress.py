"""Decides how progress is shown: by tqdm, by rich, by a plain line, by the caller, or not at all.

::

    progress=                      shown by
    a function                     the function, called with how many are done, and of how many
    a bar of tqdm                  the bar
    an object with update()        the object: update(1) for each, as a bar of tqdm has it
    True, or a label (a string)    in a notebook, tqdm; on a terminal, tqdm, rich, or a plain line;
                                   else nothing: a file keeps no bars

Bars also show what is done of something that still runs, and a few words about it.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO, TypeAlias

    Progress: TypeAlias = bool | str | Callable[[int, int | None], object] | Any

T = TypeVar("T")

_PAUSE = 0.1  # seconds between two looks of a plain bar
_WIDTH = 30  # characters


class Bar(Protocol):
    """What shows progress. For one thread at a time."""

    shows_parts: bool  # and not only what is done as a whole

    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        """Show how many are done, what is done of others, and a few words about these.

        As many as before: this is shown at once, as who says so is in no hurry. More of them: so
        often as people can see.
        """

    def close(self) -> None:
        """Leave the bar as it is; nothing else is done."""


def check_progress(progress: Progress) -> None:
    """Require what can show progress.

    Raises:
        TypeError: It cannot.
    """
    is_fine = progress is None or isinstance(progress, (bool, str)) or callable(progress)
    if not (is_fine or hasattr(progress, "update")):
        raise TypeError(
            "progress must be True, False, a label, a function of two numbers or an object with "
            f"update(), such as a bar of tqdm, not {progress!r:.60}"
        )


def bar_for(progress: Progress, total: int | None) -> Bar | None:
    """Return a bar for so many, None if nothing is to be shown.

    Args:
        progress: What the caller has asked for.
        total: How many there will be; None if nobody knows.

    Raises:
        TypeError: It cannot show progress.
    """
    check_progress(progress)
    if isinstance(progress, str):
        return _automatic(progress, total)
    if progress is None or isinstance(progress, bool):
        return _automatic(None, total) if progress else None
    if all(hasattr(progress, name) for name in ("n", "set_postfix_str", "refresh")):
        return _Tqdm(progress)
    if hasattr(progress, "update"):
        return _Updated(progress)
    return _Callback(progress, total)


class Counter:
    """Counts on a bar."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._done = 0

    def count(self) -> None:
        """Show that one more is done."""
        self._done += 1
        self._bar.show(self._done)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Counts(Protocol):
    """What counts on a bar, and perhaps shows more than that."""

    def count(self) -> None:
        """Show that one more is done."""

    def close(self) -> None:
        """Leave the bar as it is."""


def counted(results: Iterator[T], counter: Counts) -> Iterator[T]:
    """Yield results, each of which is counted."""
    try:
        for result in results:
            counter.count()
            yield result
    finally:
        counter.close()
        if (close := getattr(results, "close", None)) is not None:
            close()


def _automatic(label: str | None, total: int | None) -> Bar | None:
    if is_notebook():
        if not _is_installed("tqdm"):
            return None
        # Without widgets, tqdm.auto would have the same bar of text, and warn.
        module = "tqdm.auto" if _is_installed("ipywidgets") else "tqdm"
        return _with_tqdm(module, label, total)
    stream = sys.stderr
    if stream is None or not stream.isatty():
        return None
    if _is_installed("tqdm"):
        return _with_tqdm("tqdm", label, total)
    if _is_installed("rich"):
        return _Rich(label, total)
    return PlainBar(stream, label, total)


def is_notebook() -> bool:
    """Tell whether this is a notebook's process, whose standard error is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def _is_installed(library: str) -> bool:
    return library in sys.modules or importlib.util.find_spec(library) is not None


def _with_tqdm(module: str, label: str | None, total: int | None) -> Bar:
    return _Tqdm(importlib.import_module(module).tqdm(total=total, desc=label), owned=True)


class _Callback:
    """Tells a function how many are done."""

    shows_parts = False

    def __init__(self, tell: Callable[[int, int | None], object], total: int | None) -> None:
        self._tell = tell
        self._total = total

    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        self._tell(done, self._total)

    def close(self) -> None:
        pass


class _Updated:
    """Updates an object of another's."""

    shows_parts = False

    def __init__(self, given: Any) -> None:
        self._given = given

    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        self._given.update(1)

    def close(self) -> None:
        pass


class _Tqdm:
    """A bar of tqdm; closed only if it was made here. Others may move one that was given, too."""

    shows_parts = True

    def __init__(self, bar: Any, *, owned: bool = False) -> None:
        self._bar = bar
        self._owned = owned
        self._done = 0
        self._shown: float = 0
        self._text = ""

    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        now = round(done + running, 2) if running else done
        step, self._shown = now - self._shown, now
        is_more, self._done = done > self._done, done
        if text != self._text:
            self._text = text
            self._bar.set_postfix_str(text, refresh=False)
        if is_more and isinstance(step, int):
            self._bar.update(step)
            return
        whole = round(self._bar.n + step, 2)  # 2.35, not 2.3499999999999996
        self._bar.n = int(whole) if whole == int(whole) else whole
        if is_more:
            self._bar.update(0)  # which shows it from time to time
        else:
            self._bar.refresh()

    def close(self) -> None:
        if self._owned:
            self._bar.close()


class _Rich:
    """A bar of rich."""

    shows_parts = True

    def __init__(self, label: str | None, total: int | None) -> None:
        console = importlib.import_module("rich.console").Console(stderr=True)
        rich = importlib.import_module("rich.progress")
        text = rich.TextColumn("{task.fields[text]}", markup=False)  # a task's own words
        columns = rich.Progress.get_default_columns()
        self._progress = rich.Progress(*columns, text, console=console)
        self._task = self._progress.add_task(label or "", total=total, text="")
        self._progress.start()

    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        self._progress.update(self._task, completed=done + running, text=text)

    def close(self) -> None:
        self._progress.stop()


class PlainBar:
    """A line that is written over and over, ten times a second at most.

    Args:
        stream: A terminal.
        label: What stands in front of it.
        total: How many there will be.
        clock: Tells the seconds.
    """

    shows_parts = True

    def __init__(
        self,
        stream: TextIO,
        label: str | None,
        total: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._label = f"{label} " if label else ""
        self._total = total
        self._clock = clock
        self._done = 0
        self._running = 0.0
        self._text = ""
        self._width = 0  # of what stands there
        self._next = clock()
        self._write()

    def show(self, done: int, running: float = 0.0, text: str = "") -> None:
        is_more = done > self._done
        self._done, self._running, self._text = done, running, text
        if not is_more or done == self._total or self._clock() >= self._next:
            self._write()

    def close(self) -> None:
        self._write()
        self._stream.write("\n")
        self._stream.flush()

    def _write(self) -> None:
        self._next = self._clock() + _PAUSE
        line = f"{self._label}{self._line()} {self._text}".rstrip()
        line = line[: shutil.get_terminal_size().columns - 1]  # one that wraps is not overwritten
        self._stream.write(f"\r{line:<{self._width}}")
        self._stream.flush()
        self._width = len(line)

    def _line(self) -> str:
        done = self._done + round(self._running, 2)
        if not self._total:
            return f"{done:.10g} done"
        full = min(_WIDTH, int(_WIDTH * done / self._total))
        return f"[{'#' * full}{'.' * (_WIDTH - full)}] {done:.10g}/{self._total}"
