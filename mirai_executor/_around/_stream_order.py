"""Decides which stream of random numbers each task has: by its place in the order of submission.

::

    submit ──────► "42:0"                submit ──────► "42:2"
    map ─────────► "42:1" ─── its elements: "42:1:0", "42:1:1", "42:1:2", ...

So the elements of a map have the same streams however they are put into chunks, and whenever they
are submitted.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from mirai_executor._payload.common.entries import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class RandomStreams:
    """The streams of one executor. Any thread; each step is whole, so there is no lock.

    Args:
        seed: What they are all made from.
    """

    def __init__(self, seed: int) -> None:
        self._seed = str(seed)
        self._indices = itertools.count()
        self._returned: deque[str] = deque()

    def next(self) -> str:
        """Return the stream of the next task, or map."""
        try:
            return self._returned.popleft()
        except IndexError:
            return f"{self._seed}:{next(self._indices)}"

    def put_back(self, stream: str) -> None:
        """Note that this was not used: the next task has it."""
        self._returned.append(stream)

    def beside(self, stream: str) -> dict[str, Any]:
        """Return a stream as a keyword argument of the call that is to have it."""
        return {STREAM: stream}

    def added_to(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of a call, with its stream as one more."""
        return kwargs if STREAM in kwargs else {**kwargs, STREAM: self.next()}

    def taken_from(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of code with these variables: its stream."""
        return {STREAM: variables.pop(STREAM, None) or self.next()}

    def of_map(self, chunksize: int) -> Iterator[dict[str, Any]]:
        """Yield the stream of the first element of each task of a map, as a keyword argument."""
        stream = self.next()
        return ({STREAM: f"{stream}:{first}"} for first in itertools.count(0, chunksize))
