"""Tells the standard library's ``wait`` and ``as_completed`` of ends, without locks.

A waiter of theirs has locks, which its own thread takes, and who tells it of an end. There a
KeyboardInterrupt may leave them locked, and the other would wait for ever. So nobody but its own
thread calls a waiter::

    who waits                                          who ends a future
      future._waiters, an Audience, takes the waiter in
      the waiter's event becomes a Mailbox
      waiter.event.wait() <--------- news ------------- tell
        reads them, and tells the waiter
"""

import collections
import functools
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import _base
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from ._arguments import check_callable
from ._core import TaskId
from ._waiting import Deadline, OneShotEvent

if TYPE_CHECKING:
    from ._host import Message
    from ._observing._reports import Listeners
    from .futures import MiraiFuture

T = TypeVar("T")

# How a task has ended: what decodes the outcome (None if it is decoded), the outcome, and whether
# that is an exception.
End: TypeAlias = tuple[Callable[[Any], Any] | None, Any, bool]
CANCELLED_END: End = (None, None, True)

OVER = (_base.CANCELLED_AND_NOTIFIED, _base.FINISHED)  # the standard library waits for the others

IN_A_CALLBACK = (
    "in a callback of a future, this would wait for itself: callbacks run on the thread that "
    "brings the results; submit what is to come next from here, and wait for it elsewhere"
)

# The method of a waiter that is to hear of an end.
How: TypeAlias = Literal["add_result", "add_exception", "add_cancelled"]


class Canceller(Protocol):
    """Whom a future tells that its task is to be stopped, and who ends it: the host."""

    def cancel(self, task: TaskId, *, running: bool) -> None:
        """Stop a task; with ``running`` also one that a daemon holds. Returns at once."""

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
        self.enders: dict[Canceller, None] = {}
        self.interruptible: list[weakref.ref[MiraiFuture[Any]]] = []
        self._waiter = waiter

    def tell(self, future: Any, how: How) -> None:
        getattr(self._waiter, how)(future)


class Mailbox:
    """Stands in for the event of a waiter: others put in what has ended, and its thread reads it.

    Only that thread calls the waiter, so nobody else needs the waiter's locks.

    Attributes:
        due: How many futures have still to be read of; for its thread only.
        enders: Who will end them; a dictionary as a set.
        interruptible: Those that a KeyboardInterrupt which strikes the wait is to cancel.
    """

    def __init__(self, waiter: Any) -> None:
        self.due = 0
        self.enders: dict[Canceller, None] = {}
        self.interruptible: list[weakref.ref[MiraiFuture[Any]]] = []
        self._waiter = weakref.ref(waiter)  # which holds this
        # wait() for all: nothing but the last is worth waking up for, or an error.
        self._is_patient = hasattr(waiter, "num_pending_calls")
        self._heeds_errors = getattr(waiter, "stop_on_exception", False)
        self._news: collections.deque[tuple[Any, How]] = collections.deque()
        self._has_error = False
        self._is_set: bool = waiter.event.is_set()
        self._sleep: OneShotEvent | None = None

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
            KeyboardInterrupt: It was interrupted; the futures that are to be, are cancelled.
        """
        try:
            return self._wait(timeout)
        except KeyboardInterrupt:
            for reference in self.interruptible:
                if (future := reference()) is not None:
                    future.cancel()
            raise

    def _wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else Deadline(timeout)
        while not self._read():
            # In place before the last look: what comes later wakes it.
            self._sleep = sleep = OneShotEvent()
            if self._is_set or self._is_worth_it():
                continue
            left = None if deadline is None else deadline.left
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
        if future._cancels_on_interrupt:
            box.interruptible.append(weakref.ref(future))
        if self._told:  # perhaps one that is gone, and had the same id
            self._told.pop(id(waiter), None)
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


class LookedInto(Generic[T]):
    """What the standard library's functions, and coroutines, see inside of a future.

    So does the base class if a method of it is called by name. To them, and to type checkers, the
    properties are attributes.
    """

    _audience: Audience | None
    _canceller: Canceller
    _listeners: "Listeners | None" = None  # to what the task reports
    _begun: str | None
    _end: Any
    _is_told: bool
    _current_state: Callable[[], str]
    _decoded: Callable[[Any], tuple[Any, Any, bool]]
    cancelled: Callable[[], bool]
    done: Callable[[], bool]
    end_cancelled: Callable[[], None]
    start: Callable[[], bool]

    def _end_with(self, end: End) -> None:
        """Take an end, unless there is one; for a map, which tells those who wait for this."""
        if self.__dict__.setdefault("_end", end) is CANCELLED_END:
            self._is_told = True

    def on_report(self, callback: "Callable[[Any], object]") -> None:
        """Have a function called with what the task reports while it runs; from any thread.

        It is called on the executor's host thread, as those of :meth:`add_done_callback` are, with
        the argument of each :func:`report` and a :class:`Progress` for each :func:`progress`, and
        must not block. What it raises is logged. The first function also gets what has come before
        it was there, as far as that was kept: the last progress, and 64 KiB of reports. Of what
        comes after the task's end, or at once in large amounts, messages are dropped.

        Raises:
            TypeError: ``callback`` is not callable.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     future = executor.submit(lambda: report("half"))
            ...     future.on_report(print)
            half
        """
        from ._observing._reports import listen  # few tasks report anything

        check_callable("on_report", callback, ", to be called with what the task reports")
        listen(self, self._canceller, callback)

    def listener(self) -> "Callable[[Message], None]":
        """Return what takes in what the task reports; for the host."""
        from ._observing._reports import hear  # as above

        return functools.partial(hear, self)

    def __await__(self: "MiraiFuture[T]") -> Generator[Any, None, T]:  # type: ignore[misc]  # a mixin
        """Wait for the task in a coroutine of asyncio, and return its result.

        Cancelling what waits stops the task, as :meth:`cancel` does. The future of a task that was
        cancelled otherwise raises ``asyncio.CancelledError``.
        """
        from ._observing._awaiting import result_of  # with asyncio

        return result_of(self).__await__()

    def set_running_or_notify_cancel(self) -> bool:
        """Do as the standard library's; the host itself uses :meth:`start`."""
        if self._end is CANCELLED_END and not self._is_told:
            self.end_cancelled()
            return False
        if (state := self._current_state()) != _base.PENDING:
            raise RuntimeError(f"Future in unexpected state: {state}")
        return self.start()

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """Tell asyncio whether it is done, or cancelled, and how it has ended; since 3.14."""
        return self.done(), self.cancelled(), self._result, self._exception

    def _outcome(self, *, failed: bool) -> Any:
        if (end := self._end) is None or end is CANCELLED_END:
            return None
        _, outcome, has_failed = self._decoded(end)
        return outcome if has_failed == failed else None

    def _seen_state(self) -> str:
        if self._end is None:
            return self._begun or _base.PENDING
        state = self._current_state()
        if state in OVER and self._audience is not None:
            self._audience.seen_by.add(get_ident())
        return state

    _result: Any = property(functools.partial(_outcome, failed=False))
    _exception: BaseException | None = property(functools.partial(_outcome, failed=True))  # type: ignore[assignment]
    _state: str = property(_seen_state)  # type: ignore[assignment]
    _condition: Any = AudienceAttribute()
    _waiters: list[Any] = AudienceAttribute()  # type: ignore[assignment]
