"""Stands in a future's place where ``wait`` and ``as_completed`` look inside of it."""

import weakref
from concurrent.futures import _base
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ._mailbox import Direct, Mailbox, mailbox_of

if TYPE_CHECKING:
    from .futures import MiraiFuture

__all__ = ["Audience", "AudienceAttribute"]

_OVER = (_base.CANCELLED_AND_NOTIFIED, _base.FINISHED)  # the standard library waits for the others


class AudienceAttribute:
    """An attribute of futures that is their audience, made when it is asked for.

    From then on it is found without a call: ``wait`` for 64 futures asks for it 320 times.
    """

    def __get__(self, future: "MiraiFuture[Any] | None", _: object) -> Any:
        if future is None:
            return self
        # First, so that who ends the future meets what others find in the other places.
        audience = future.__dict__.setdefault("_audience", Audience(future))
        future.__dict__["_condition"] = future.__dict__["_waiters"] = audience
        return audience


class Audience:
    """Those who wait for a future: stands in for its condition, and for its list of waiters.

    As a condition, it has no lock: the thread that has acquired it sees the future's state stand
    still from its first look on, as ``wait`` needs it while it looks which have ended and leaves
    word with the others.

    Attributes:
        views: What each thread has seen that has acquired it; None before its first look.
        boxes: Where the waiters are told of the end.
    """

    __slots__ = ("_future", "boxes", "views")

    def __init__(self, future: "MiraiFuture[Any]") -> None:
        self._future = weakref.ref(future)  # which holds this
        self.views: dict[int, str | None] = {}
        self.boxes: dict[int, Mailbox | Direct] = {}

    # As the condition

    def acquire(self) -> bool:
        self.views[get_ident()] = None
        return True

    def release(self) -> None:
        self.views.pop(get_ident(), None)

    __enter__ = acquire

    def __exit__(self, *_: object) -> None:
        self.views.pop(get_ident(), None)

    def wait(self, timeout: float | None = None) -> bool:
        future = self._future()
        self.release()
        has_ended = future is None or future._wait(timeout)
        self.acquire()
        return has_ended

    # As the list

    def append(self, waiter: Any) -> None:
        """Have a waiter told of the end, unless this thread has seen it."""
        future = self._future()
        if future is None or self.views.get(get_ident()) in _OVER:
            return
        box = getattr(waiter, "event", None)
        if type(box) is not Mailbox:
            box = mailbox_of(waiter)
        box.due += 1
        box.enders[future._canceller] = None
        self.boxes[id(waiter)] = box
        if future._end is not None and future._current_state() in _OVER:
            box = self.boxes.pop(id(waiter), None)
            if box is not None:
                box.tell(future, future._how())

    def remove(self, waiter: Any) -> None:
        self.boxes.pop(id(waiter), None)
