"""Stands in a future's place where ``wait`` and ``as_completed`` look inside of it."""

import weakref
from concurrent.futures import _base
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ._mailbox import Mailbox, mailbox_of

if TYPE_CHECKING:
    from .futures import MiraiFuture

__all__ = ["OVER", "Audience", "AudienceAttribute"]

OVER = (_base.CANCELLED_AND_NOTIFIED, _base.FINISHED)  # the standard library waits for the others


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


class Audience(list[Any]):
    """Those who wait for a future: its list of waiters, and what stands in for its condition.

    As a condition, it has no lock: a KeyboardInterrupt might leave it locked. Who looks at the
    state first and leaves word then, as ``wait`` does, misses nothing that happens in between: an
    end is final, so it is enough to know which threads have seen it.

    For 64 futures, ``wait`` comes here 500 times. So most of it are calls of C.

    Attributes:
        seen_by: The threads that have seen that the future is over.
    """

    __slots__ = ("_future", "_told", "seen_by")

    def __init__(self, future: "MiraiFuture[Any]") -> None:
        self._future = weakref.ref(future)  # which holds this
        self._told: dict[int, object] = {}  # waiters, each by the claim of who has told it
        self.seen_by: set[int] = set()

    # As the condition

    acquire = __enter__ = staticmethod("acquired".format)  # which take whatever they are given
    release = __exit__ = staticmethod("".format)

    def wait(self, timeout: float | None = None) -> bool:
        future = self._future()
        return future is None or future._wait(timeout)

    # As the list

    def append(self, waiter: Any) -> None:
        """Have a waiter told of the end, unless this thread has seen it."""
        future = self._future()
        if future is None:
            return
        if self.seen_by and get_ident() in self.seen_by:
            self._told[id(waiter)] = None  # first: who ends the future may be about to tell it
            _append(self, waiter)
            _take_in(waiter, future)
            return
        box = getattr(waiter, "event", None)
        if type(box) is not Mailbox:
            box = mailbox_of(waiter)
        box.due += 1
        box.enders[future._canceller] = None
        _append(self, waiter)
        if future._end is not None and future._current_state() in OVER:
            self._tell(waiter, future)

    def tell_all(self, future: "MiraiFuture[Any]") -> None:
        """Tell all who wait that the future is over; each is told once."""
        for waiter in tuple(self):
            self._tell(waiter, future)

    def _tell(self, waiter: Any, future: "MiraiFuture[Any]") -> None:
        claim = object()
        if self._told.setdefault(id(waiter), claim) is claim:
            mailbox_of(waiter).tell(future, future._how())


_append = list.append


def _take_in(waiter: Any, future: "MiraiFuture[Any]") -> None:
    """Have a ``wait`` for all know of a future that was over when it counted the others.

    It may have looked before, which have ended, when this one had not.
    """
    if (due := getattr(waiter, "num_pending_calls", None)) is None:
        return
    waiter.finished_futures.append(future)
    if due == 0 or (waiter.stop_on_exception and future._how() == "add_exception"):
        waiter.event.set()
