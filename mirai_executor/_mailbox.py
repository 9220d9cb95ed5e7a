"""Tells the standard library's ``wait`` and ``as_completed`` of ends, without locks.

A waiter of theirs has locks, which its own thread takes, and who tells it of an end. There a
KeyboardInterrupt may leave them locked, and the other would wait for ever. So nobody but its own
thread calls a waiter::

    who waits                                          who ends a future
      the waiter's event becomes a Mailbox
      waiter.event.wait() <--------- news ------------- tell
        reads them, and tells the waiter
"""

import collections
import time
import weakref
from typing import Any, Literal, Protocol, TypeAlias

from ._host import Moment

__all__ = ["IN_A_CALLBACK", "Direct", "How", "Mailbox", "mailbox_of"]

IN_A_CALLBACK = (
    "in a callback of a future, this would wait for itself: callbacks run on the thread that "
    "brings the results; submit what is to come next from here, and wait for it elsewhere"
)

# The method of a waiter that is to hear of an end.
How: TypeAlias = Literal["add_result", "add_exception", "add_cancelled"]


class Ender(Protocol):
    """Whoever ends a future: the host of its executor."""

    def owns_this_thread(self) -> bool:
        """Tell whether only the thread that asks could end the future."""
        ...


def mailbox_of(waiter: Any) -> "Mailbox | Direct":
    """Return where a waiter is told of an end; any thread may do so.

    Args:
        waiter: One of the standard library's, or anything with its methods.
    """
    event = getattr(waiter, "event", None)
    if event is None:  # not of the standard library
        return Direct(waiter)
    if not isinstance(event, Mailbox):
        waiter.event = event = Mailbox(waiter)
    return event


class Direct:
    """Tells a waiter that is not of the standard library at once."""

    def __init__(self, waiter: Any) -> None:
        self.due = 0
        self.enders: dict[Ender, None] = {}
        self._waiter = waiter

    def tell(self, future: Any, how: How) -> None:
        getattr(self._waiter, how)(future)


class Mailbox:
    """Stands in for the event of a waiter: others put in what has ended, and its thread reads it.

    Only that thread calls the waiter, so nobody else needs the waiter's locks.

    Attributes:
        due: How many futures have still to be read of; for its thread only.
        enders: Who will end them; a dictionary as a set.
    """

    def __init__(self, waiter: Any) -> None:
        self.due = 0
        self.enders: dict[Ender, None] = {}
        self._waiter = weakref.ref(waiter)  # which holds this
        # wait() for all: nothing but the last is worth waking up for, or an error.
        self._is_patient = hasattr(waiter, "num_pending_calls")
        self._heeds_errors = getattr(waiter, "stop_on_exception", False)
        self._news: collections.deque[tuple[Any, How]] = collections.deque()
        self._has_error = False
        self._is_set: bool = waiter.event.is_set()
        self._sleep: Moment | None = None

    def tell(self, future: Any, how: How) -> None:
        """Put in how a future has ended; from any thread."""
        self._news.append((future, how))
        if how == "add_exception" and self._heeds_errors:
            self._has_error = True
        if self._is_worth_it():
            self._wake()

    def _is_worth_it(self) -> bool:
        count = len(self._news)
        return count > 0 and (not self._is_patient or self._has_error or count >= self.due)

    def _wake(self) -> None:
        if (sleep := self._sleep) is not None:
            sleep.come()

    # What an event has

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        self._wake()

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Read what has come until the waiter is content, at most so many seconds.

        Raises:
            RuntimeError: It never would be, since this thread would have to end the futures.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._read():
            # In place before the last look: what comes later wakes it.
            self._sleep = sleep = Moment()
            if self._is_set or self._is_worth_it():
                continue
            left = None if deadline is None else deadline - time.monotonic()
            if (left is None or left > 0) and self._waits_for_itself():
                raise RuntimeError(IN_A_CALLBACK)
            if not sleep.wait(left):
                return self._read()
        return True

    def _waits_for_itself(self) -> bool:
        # One future of many may be enough, and come from another executor.
        enough = any if self._is_patient else all
        return enough(ender.owns_this_thread() for ender in self.enders)

    def _read(self) -> bool:
        self._has_error = False
        waiter = self._waiter()
        while self._news:
            future, how = self._news.popleft()
            self.due -= 1
            getattr(waiter, how)(future)
        return self._is_set
