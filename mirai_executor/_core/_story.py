"""Tells what a dispatcher has been told last, and what it has asked for: to find a mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable, Iterator

    from .dispatcher import Note


def told(notes: deque[Note], most: int) -> str:
    """Return the last events and commands, one a line, with the moment of each; from any thread.

    Args:
        notes: When something happened, what that was, and what it has led to.
        most: How many lines, at most.
    """
    while True:
        try:
            seen = list(notes)
        except RuntimeError:  # something has happened in the meantime
            continue
        return "\n".join(list(_lines(seen))[-most:])


def _lines(notes: Iterable[Note]) -> Iterator[str]:
    for now, events, commands in notes:
        yield from [f"{now:16.6f} event   {event!r}" for event in events]
        yield from [f"{now:16.6f} command {command!r}" for command in commands]
