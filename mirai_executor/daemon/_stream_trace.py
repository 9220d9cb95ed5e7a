"""The trace of the standard streams: each task finds them open, whatever the last one did."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable
from functools import partial

from mirai_executor._nameless import new_poll
from mirai_executor._typing import Any, Final, Record

_STREAMS: Final = {
    "stdin": 0, "stdout": 1, "stderr": 2, "__stdin__": 0, "__stdout__": 1, "__stderr__": 2,
}  # fmt: skip


class StandardStreams:
    """``sys.stdin``, ``stdout``, ``stderr`` and their descriptors: the same ones, and open."""

    name = "standard streams"
    _poll: Callable[[int], list[tuple[int, int]]]  # one system call for all three descriptors

    def __init__(self) -> None:
        self._live = vars(sys)
        self._saved: dict[str, Any] = {}
        self._layouts: dict[str, _Layout | None] = {}

    def take(self) -> None:
        for name, descriptor in _STREAMS.items():
            stream = self._live.get(name)
            # A closed one is no snapshot: then the one before it stays, and is opened again.
            if name not in self._saved or not _is_closed(stream):
                self._saved[name] = stream
                self._layouts[name] = _Layout.of(stream, descriptor)
        self._descriptors = [descriptor for descriptor in range(3) if _is_open(descriptor)]
        self.restore()

    def is_unchanged(self) -> bool:
        saved = self._saved
        return (
            sys.stdin is saved["stdin"]
            and sys.stdout is saved["stdout"]
            and sys.stderr is saved["stderr"]
            and sys.__stdin__ is saved["__stdin__"]
            and sys.__stdout__ is saved["__stdout__"]
            and sys.__stderr__ is saved["__stderr__"]
            # One that is detached from its buffer raises when asked whether it is closed.
            and (sys.stdin is None or not sys.stdin.closed)
            and (sys.stdout is None or not sys.stdout.closed)
            and (sys.stderr is None or not sys.stderr.closed)
            and not any(events & select.POLLNVAL for _, events in self._poll(0))
        )

    def restore(self) -> None:
        self._live.update(self._saved)
        for descriptor in self._descriptors:
            os.get_inheritable(descriptor)  # raises if it is closed
        # Only now: a wrapper that the task put around a buffer closes it with its last reference.
        for name in ("stdin", "stdout", "stderr"):
            if _is_closed(self._saved[name]):
                self._reopen(name)
        self._watch()

    def _watch(self) -> None:
        poll = new_poll()
        for descriptor in self._descriptors:
            poll.register(descriptor, 0)  # whether it is open, and nothing else
        self._poll = poll.poll

    def _reopen(self, name: str) -> None:
        closed, layout = self._saved[name], self._layouts[name]
        if layout is None:
            raise ValueError(f"the task closed sys.{name}, which cannot be reopened")
        stream = layout.open()
        for alias in [alias for alias, saved in self._saved.items() if saved is closed]:
            self._saved[alias] = self._live[alias] = stream


class _Layout(Record):
    """How to open a standard stream again, just as it was."""

    open_raw: Callable[[], Any]
    buffered: Callable[[Any], Any] | None
    text: dict[str, Any]

    @classmethod
    def of(cls, stream: Any, descriptor: int) -> _Layout | None:
        """Return None if it is not text on that descriptor, or closed."""
        try:
            if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != descriptor:
                return None
        except (OSError, ValueError):
            return None
        # With python -u, there is no buffer between the text and the raw side.
        raw = getattr(stream.buffer, "raw", stream.buffer)
        names = ("encoding", "errors", "line_buffering", "write_through")
        return cls(
            open_raw=partial(_open_raw, type(raw), descriptor),
            buffered=None if raw is stream.buffer else type(stream.buffer),
            text={name: getattr(stream, name) for name in names},
        )

    def open(self) -> io.TextIOWrapper:
        raw = self.open_raw()
        return io.TextIOWrapper(self.buffered(raw) if self.buffered else raw, **self.text)


def _open_raw(kind: Callable[..., Any], descriptor: int) -> Any:
    if kind is io.FileIO:
        return kind(descriptor, "wb" if descriptor else "rb", closefd=False)
    return kind(descriptor)  # the daemon's own, which never blocks


def _is_closed(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.closed)
    except ValueError:
        return True  # detached from its buffer


def _is_open(descriptor: int) -> bool:
    try:
        os.get_inheritable(descriptor)
    except OSError:
        return False
    return True
