"""Remembers which daemons were asked for elsewhere, and what whoever was asked has said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirai_executor._record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Request", "Requests"]

_SAID = 3  # answers that are remembered: the last ones


class Request(Record):
    """Daemons that were asked for together.

    Args:
        count: How many.
        said: What was printed or answered, by whom.
    """

    count: int
    said: Sequence[str] = ()


class Requests:
    """Those of one executor. For the host thread only."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self.failure = ""  # the last one, until a request is successful

    def add(self, request: Request) -> None:
        """Note that daemons were asked for."""
        self.failure = ""
        self._said = [*self._said, *request.said][-_SAID:]

    def note_failure(self, error: Exception) -> None:
        """Note that daemons were asked for in vain."""
        self.failure = str(error)

    @property
    def said(self) -> str:
        """What was said the last time, by whom; empty if nothing was."""
        return self.failure or "; ".join(self._said)
