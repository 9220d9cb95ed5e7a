"""Hands what a task reports to those who listen to its future, on the host thread.

::

    host thread ── hear ──► kept, until somebody listens ──► unpickled, once ──► callbacks
                     └────► short ones, whether anybody listens or not ──► those who look on
"""

from __future__ import annotations

import collections
from concurrent.futures import _base
from typing import TYPE_CHECKING, Any

from mirai_executor._messages import Progress
from mirai_executor._payload import host as _payload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mirai_executor._host import Message

_MOST = 1 << 16  # bytes of reports that are kept while nobody listens
_SHORT = 500  # bytes of a report that may be a line of text


class Listeners:
    """Those who listen to one task. For the host thread only.

    Args:
        future: The task's; to be named in the log.
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], object]] = []
        self._onlookers: list[Callable[[Any], object]] = []
        self._kept: collections.deque[Message] = collections.deque()
        self._size = 0  # bytes of what is kept
        self._progress: Message | None = None  # the last one, likewise

    def add(self, future: object, callback: Callable[[Any], object]) -> None:
        """Have somebody listen, from what has been kept on."""
        self._callbacks.append(callback)
        kept, self._kept = self._kept, collections.deque()
        for message in kept:
            self._tell(future, message, self._callbacks)
        if self._progress is not None:
            self._tell(future, self._progress, self._callbacks)
            self._progress = None

    def add_onlooker(self, future: object, callback: Callable[[Any], object]) -> None:
        """Have somebody look on, from the last progress on; what is kept stays for others."""
        self._onlookers.append(callback)
        if self._progress is not None:
            self._tell(future, self._progress, [callback])

    def hear(self, future: object, message: Message) -> None:
        """Take in a report."""
        audience = self._callbacks
        if self._onlookers and (message.is_progress or len(message.payload) <= _SHORT):
            audience = [*audience, *self._onlookers]
        if audience:
            self._tell(future, message, audience)
        if self._callbacks:
            return
        if message.is_progress:
            self._progress = message
        else:
            self._kept.append(message)
            self._size += len(message.payload)
            while self._size > _MOST and len(self._kept) > 1:
                self._size -= len(self._kept.popleft().payload)

    def _tell(
        self, future: object, message: Message, audience: Iterable[Callable[[Any], object]]
    ) -> None:
        try:
            said = _payload.decode_value(message.payload)
            if message.is_progress:
                said = Progress(*said)
        except BaseException:  # unpickling runs code of the user
            _base.LOGGER.exception("exception unpickling a report of %r", future)
            return
        for callback in tuple(audience):
            try:
                callback(said)
            except BaseException:  # one that exits must not end the host
                _base.LOGGER.exception("exception calling callback for %r", future)


def listen(future: Any, host: Any, callback: Callable[[Any], object]) -> None:
    """Have a callback called with what the task of a future reports, by the thread of its host."""
    listeners: Listeners = future.__dict__.setdefault("_listeners", Listeners())
    host.call_soon(lambda: listeners.add(future, callback))


def look_on(future: Any, host: Any, callback: Callable[[Any], object]) -> None:
    """Have a callback called with what is short of that, and leave the rest for listeners."""
    listeners: Listeners = future.__dict__.setdefault("_listeners", Listeners())
    host.call_soon(lambda: listeners.add_onlooker(future, callback))


def hear(future: Any, message: Message) -> None:
    """Take in what the task of a future reports."""
    listeners: Listeners = future.__dict__.setdefault("_listeners", Listeners())
    listeners.hear(future, message)
