"""Decides how progress is shown: by tqdm, by rich, by a plain line, by the caller, or not at all.

::

    progress=                      shown by
    a function                     the function, called with how many are done, and of how many
    an object with update()        the object: update(1) for each, as a bar of tqdm has it
    True, or a label (a string)    in a notebook, tqdm; on a terminal, tqdm, rich, or a plain line;
                                   else nothing: a file keeps no bars
"""

from __future__ import annotations

import importlib
import importlib.util
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

    def advance(self) -> None:
        """Count one more as done."""

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
    if hasattr(progress, "update"):
        return _Updated(progress)
    return _Told(progress, total)


def watched(results: Iterator[T], bar: Bar) -> Iterator[T]:
    """Yield results, each of which a bar counts."""
    try:
        for result in results:
            bar.advance()
            yield result
    finally:
        bar.close()
        if (close := getattr(results, "close", None)) is not None:
            close()


def _automatic(label: str | None, total: int | None) -> Bar | None:
    if is_notebook():
        return _with_tqdm("tqdm.auto", label, total) if _is_installed("tqdm") else None
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
    return _Updated(importlib.import_module(module).tqdm(total=total, desc=label), owned=True)


class _Told:
    """Tells a function how many are done."""

    def __init__(self, tell: Callable[[int, int | None], object], total: int | None) -> None:
        self._tell = tell
        self._total = total
        self._done = 0

    def advance(self) -> None:
        self._done += 1
        self._tell(self._done, self._total)

    def close(self) -> None:
        pass


class _Updated:
    """Updates an object of another's; closes it only if it was made here."""

    def __init__(self, bar: Any, *, owned: bool = False) -> None:
        self._bar = bar
        self._owned = owned

    def advance(self) -> None:
        self._bar.update(1)

    def close(self) -> None:
        if self._owned:
            self._bar.close()


class _Rich:
    """A bar of rich."""

    def __init__(self, label: str | None, total: int | None) -> None:
        console = importlib.import_module("rich.console").Console(stderr=True)
        self._progress = importlib.import_module("rich.progress").Progress(console=console)
        self._task = self._progress.add_task(label or "", total=total)
        self._progress.start()

    def advance(self) -> None:
        self._progress.advance(self._task)

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
        self._next = clock()
        self._show()

    def advance(self) -> None:
        self._done += 1
        if self._done == self._total or self._clock() >= self._next:
            self._show()

    def close(self) -> None:
        self._show()
        self._stream.write("\n")
        self._stream.flush()

    def _show(self) -> None:
        self._next = self._clock() + _PAUSE
        self._stream.write(f"\r{self._label}{self._line()}")
        self._stream.flush()

    def _line(self) -> str:
        if not self._total:
            return f"{self._done} done"
        full = _WIDTH * self._done // self._total
        return f"[{'#' * full}{'.' * (_WIDTH - full)}] {self._done}/{self._total}"
