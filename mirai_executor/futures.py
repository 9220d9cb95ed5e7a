"""Futures whose ``cancel()`` stops the work, and the results of ``map``."""

import collections
import itertools
import operator
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError, _base
from typing import Any, Generic, Protocol, TypeVar

from . import _private
from ._core import TaskId
from .errors import CODE_CANCELLED, MiraiError

__all__ = ["MiraiFuture"]

S = TypeVar("S")
T = TypeVar("T")

_private.check("futures")
CANCELLED = _base.CANCELLED
CANCELLED_AND_NOTIFIED = _base.CANCELLED_AND_NOTIFIED
FINISHED = _base.FINISHED
LOGGER = _base.LOGGER
PENDING = _base.PENDING
RUNNING = _base.RUNNING

_CANCELLED = (CANCELLED, CANCELLED_AND_NOTIFIED)


class _Condition(threading.Condition):
    """A condition that a KeyboardInterrupt cannot leave locked.

    ``with`` looks ``__enter__`` up before it calls it. Handing it the lock's own one, which is
    C, leaves no bytecode between taking the lock and entering the block; the standard one, which
    is Python, has some.

    The other methods of the lock are looked up as well, and not copied as the standard one does,
    and the queue of those who wait is made for the first of them.
    """

    _waiters: Collection[Any] = ()

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def wait(self, timeout: float | None = None) -> bool:
        if not self._waiters:
            self._waiters = collections.deque()
        return super().wait(timeout)

    def notify_all(self) -> None:
        if self._waiters:
            super().notify_all()

    acquire = property(operator.attrgetter("_lock.acquire"))
    release = property(operator.attrgetter("_lock.release"))
    _release_save = property(operator.attrgetter("_lock._release_save"))
    _acquire_restore = property(operator.attrgetter("_lock._acquire_restore"))
    _is_owned = property(operator.attrgetter("_lock._is_owned"))

    __enter__ = property(operator.attrgetter("_lock.__enter__"))
    __exit__ = property(operator.attrgetter("_lock.__exit__"))


# Who makes a future's own lock, and who does without because there is none, holds this one: for a
# moment, in which nothing else is waited for.
_common_lock = threading.RLock()


def _renew_common_lock() -> None:
    """In a forked child: a thread of the parent may have held it."""
    global _common_lock
    _common_lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_common_lock)


class Canceller(Protocol):
    """Whom a future tells that its task is to be stopped."""

    def cancel(self, task: TaskId, *, running: bool) -> None: ...


class MiraiFuture(Future[T], Generic[T]):
    """The future of one task, whose ``cancel()`` stops work that is running.

    A ``concurrent.futures.Future``, created by an executor. It works with
    ``concurrent.futures.wait``, ``as_completed`` and ``asyncio.wrap_future``. All methods are safe
    from any thread. Callbacks added with ``add_done_callback`` run on the executor's host thread
    and must not block.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.submit(pow, 2, 10)
        ...     future.result(), future.done()
        (1024, True)
    """

    def __init__(  # the base class's is done here
        self, id_: TaskId, canceller: Canceller, *, cancel_running: bool = True
    ) -> None:
        # As Future.__init__ does, but that most of it is made when somebody asks for it.
        self._id = id_
        self._canceller = canceller
        if not cancel_running:
            self._cancel_running = False

    # Most futures wait in large numbers: what they have no use for yet, stands here for all.

    _state = PENDING
    _cancel_running = True
    _value: Any = None
    _error: BaseException | None = None
    # What arrived, and what decodes it, until somebody wants it; and whether it is an exception.
    _payload: Any = None
    _decoder: Callable[[Any], Any] | None = None
    _failed = False

    # What the base class makes for each future is made when somebody asks for it: who does, holds
    # the lock, or takes it by that. And so is the lock: of thousands of futures that wait, most
    # are looked at when they have ended.

    _made_lock: "threading.RLock | None" = None
    _made_condition: _Condition | None = None
    _made_waiters: list[Any] | None = None
    _made_callbacks: "list[Callable[[Future[T]], object]] | None" = None

    def _get_lock(self) -> "threading.RLock":
        if self._made_lock is None:
            lock = threading.RLock()
            with _common_lock:
                # Nothing is called in here, or in the other blocks of this lock: so no garbage is
                # collected and no signal handled, whose code might wait for any future.
                if self._made_lock is None:
                    self._made_lock = lock
        return self._made_lock

    def _get_condition(self) -> _Condition:
        if self._made_condition is None:
            with self._lock:
                if self._made_condition is None:
                    self._made_condition = _Condition(self._lock)
        return self._made_condition

    def _get_waiters(self) -> list[Any]:
        if self._made_waiters is None:
            self._made_waiters = []
        return self._made_waiters

    def _get_callbacks(self) -> "list[Callable[[Future[T]], object]]":
        if self._made_callbacks is None:
            self._made_callbacks = []
        return self._made_callbacks

    _lock = property(_get_lock)
    # To the standard library, and to type checkers, they are attributes.
    _condition: threading.Condition = property(_get_condition)  # type: ignore[assignment]
    _waiters: list[Any] = property(_get_waiters)  # type: ignore[assignment]
    _done_callbacks: "list[Callable[[Future[T]], object]]" = property(_get_callbacks)  # type: ignore[assignment]

    @property
    def id(self) -> TaskId:
        """The number of the task. Numbers rise in the order of submission.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     first, second = executor.submit(abs, -1), executor.submit(abs, -2)
            ...     first.id < second.id
            True
        """
        return self._id

    @property
    def code(self) -> int | None:
        """mirai's code for how the task failed, or None.

        5 is a timeout, 19 a lost daemon (mirai's "connection reset"), 20 a cancelled task. Tasks
        that failed otherwise, or have not failed, have no code. Never waits.

        Example:
            >>> import time
            >>> with MiraiExecutor(1) as executor:
            ...     future = executor.submit(time.sleep, 60)
            ...     future.cancel(), future.code
            (True, 20)
        """
        if self._state in _CANCELLED:
            return CODE_CANCELLED
        return self._exception.code if isinstance(self._exception, MiraiError) else None

    def cancel(self) -> bool:
        """Cancel the task, and stop it if it is running. Never waits.

        The future is cancelled at once. On its daemon, a running task receives KeyboardInterrupt;
        if it does not stop within the executor's ``cancel_grace``, the daemon is killed and
        replaced. With ``with_options(cancel_running=False)``, a running task is left alone, as in
        the standard library.

        Returns:
            True if the future is cancelled. False if the task has already finished, or is running
            and must be left alone.

        Example:
            >>> import time
            >>> with MiraiExecutor(1) as executor:
            ...     future = executor.submit(time.sleep, 3600)
            ...     future.cancel(), future.cancelled()
            (True, True)
        """
        return self._cancel(running=self._cancel_running)

    def cancel_queued(self) -> bool:
        """Cancel the task if it has not started, as the standard library's ``cancel`` does.

        Returns:
            True if the future is cancelled, False if the task is running or has finished.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     future = executor.submit(abs, -1)
            ...     future.result(), future.cancel_queued()
            (1, False)
        """
        return self._cancel(running=False)

    def _cancel(self, *, running: bool) -> bool:
        if self._state == FINISHED:
            return False
        if self._state not in _CANCELLED:
            # First, so that a KeyboardInterrupt in between cannot leave a cancelled future with
            # a task that goes on: the host ends the future in any case.
            self._canceller.cancel(self._id, running=running)
        return self._claim(running=running)

    def _claim(self, *, running: bool) -> bool:
        """Decide that the task is cancelled; the host tells all others.

        Not here: a KeyboardInterrupt could strike when only some have been told.
        """
        with self._lock:
            if self._state == PENDING or (self._state == RUNNING and running):
                self._state = CANCELLED
        return self._state in _CANCELLED

    def end_cancelled(self) -> None:
        """Mark the future as cancelled unless it has ended, and notify who waits; for the host."""
        with self._lock:
            if self._state in (CANCELLED_AND_NOTIFIED, FINISHED):
                return
            self._state = CANCELLED_AND_NOTIFIED
            for waiter in self._made_waiters or ():
                waiter.add_cancelled(self)
            if self._made_condition is not None:
                self._made_condition.notify_all()
        self._invoke_callbacks()

    def start(self) -> bool:
        """Mark the future as running, once or again; for the host. False if it has ended."""
        with _common_lock:
            if self._made_lock is None and self._state != FINISHED:
                self._state = RUNNING
                return True
        with self._lock:
            if self._state == PENDING:
                self._state = RUNNING
            return self._state == RUNNING

    def set_outcome(self, decode: Callable[[S], Any], payload: S, *, failed: bool) -> None:
        """End the future with what has arrived; for the host.

        It is decoded by the first thread that wants it: what takes long, or runs code of the user,
        holds up no other task.

        Args:
            decode: Returns the result, or if the task has ``failed``, its exception.
            payload: What that is called with.
            failed: How the task has ended.

        Raises:
            InvalidStateError: It has been cancelled, or has ended.
        """
        with _common_lock:
            if self._made_lock is None and self._state == RUNNING:
                self._payload, self._decoder, self._failed = payload, decode, failed
                self._state = FINISHED
                return
        with self._lock:
            if self._state not in (PENDING, RUNNING):
                raise InvalidStateError(f"{self._state}: task {self._id}")
            self._payload, self._decoder, self._failed = payload, decode, failed
            self._state = FINISHED
            for waiter in self._made_waiters or ():
                (waiter.add_exception if failed else waiter.add_result)(self)
            if self._made_condition is not None:
                self._made_condition.notify_all()
        if self._made_callbacks is not None:
            self._invoke_callbacks()

    def set_value(self, value: T) -> None:
        """End the future with a result that needs no decoding; for the host.

        Raises:
            InvalidStateError: As :meth:`set_outcome`.
        """
        with _common_lock:
            if self._made_lock is None and self._state == RUNNING:
                self._value = value
                self._state = FINISHED
                return
        self.set_outcome(lambda value: value, value, failed=False)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the task, and return its result or raise its exception.

        The exception has its original type, and the traceback of the daemon.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            CancelledError: The task was cancelled.
            TimeoutError: The task was not finished in time. It keeps running; to stop it, call
                :meth:`cancel`.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     executor.submit(pow, 2, 10).result(timeout=30)
            1024
        """
        if self._state == FINISHED:  # then there is nothing to wait for, nor to lock
            if self._decoder is not None:
                self._open()
            if self._error is None:
                value: T = self._value
                return value
        return super().result(timeout)

    # Whoever looks, and be it the base class called by its name, finds the outcome decoded.

    @property
    def _result(self) -> Any:
        self._open()
        return self._value

    @_result.setter
    def _result(self, value: Any) -> None:
        self._value = value

    @property
    def _exception(self) -> BaseException | None:
        self._open()
        return self._error

    @_exception.setter
    def _exception(self, error: BaseException | None) -> None:
        self._error = error

    def _open(self) -> None:
        """Decode what has arrived, if that has not been done."""
        if self._decoder is None:
            return
        with self._lock:  # one thread at a time: all get the same object
            if self._decoder is None:
                return
            try:
                self._decode()
            except KeyboardInterrupt:
                # Did it strike this thread, or does unpickling raise it? Then it does so again.
                self._decode_once_more()
                if not isinstance(self._error, KeyboardInterrupt):
                    raise
            except BaseException as error:  # unpickling runs code of the user
                self._error = error
            self._decoder = None
            self._payload = None

    def _decode_once_more(self) -> None:
        try:
            self._decode()
        except BaseException as error:
            self._error = error
        self._decoder = None
        self._payload = None

    def _decode(self) -> None:
        assert self._decoder is not None  # noqa: S101 - for the type checker
        outcome = self._decoder(self._payload)
        if self._failed:
            self._error = outcome
        else:
            self._value = outcome

    def _invoke_callbacks(self) -> None:
        for callback in self._made_callbacks or ():
            try:
                callback(self)
            except BaseException:  # a callback that exits must not end the host
                LOGGER.exception("exception calling callback for %r", self)

    def __repr__(self) -> str:
        with self._lock:
            if self._state in _CANCELLED:
                state = "cancelled"
            elif self._state != FINISHED:
                state = self._state.lower()
            elif self._exception is not None:
                state = f"finished, raised {type(self._exception).__name__}"
            else:
                state = f"finished, returned {type(self._result).__name__}"
        return f"<MiraiFuture id={self._id} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled: a future belongs to the process that submitted its "
            "task; send its result instead"
        )


# Map


def run_chunk(fn: Callable[..., T], chunk: list[tuple[Any, ...]]) -> list[T]:
    """Call a function for each tuple of arguments; one task of a ``map`` with chunks."""
    return [fn(*args) for args in chunk]


def run_items(fn: Callable[..., T], items: list[Any]) -> list[T]:
    """The same for a ``map`` over one iterable."""
    return [fn(item) for item in items]


def chunks(items: Iterable[S], size: int) -> Iterator[list[S]]:
    """Cut what a ``map`` goes over into lists of at most ``size``."""
    rest = iter(items)
    return iter(lambda: list(itertools.islice(rest, size)), [])


class MapResults(Iterator[T], Generic[T]):
    """Yields the results of a ``map`` in order; keeps no reference to those it has yielded.

    Args:
        submit_next: Submits one more call and returns its future, or None when there are none
            left. Held only as long as it is needed.
        first: How many calls to submit at once; None for all.
        timeout: Seconds from now in which every result has to be there.
    """

    def __init__(
        self,
        submit_next: Callable[[], "Future[T] | None"],
        first: int | None,
        timeout: float | None,
    ) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._futures: collections.deque[Future[T]] = collections.deque()
        self._submit_next: Callable[[], Future[T] | None] | None = submit_next
        self._was_looked_at = False
        while (first is None or len(self._futures) < first) and self._look_ahead():
            pass

    def __next__(self) -> T:
        self._was_looked_at = True
        # Before the wait: the next task is under way while this one is looked at.
        self._look_ahead()
        if not self._futures:
            raise StopIteration
        try:
            return self._result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cancel the tasks that have not started; the running ones go on, as in the standard."""
        self._submit_next = None
        while self._futures:
            future = self._futures.pop()
            getattr(future, "cancel_queued", future.cancel)()

    def __del__(self) -> None:
        # One that was never looked at is a way to submit, and forget: its tasks run.
        if self.__dict__.get("_was_looked_at"):
            self.close()

    def _look_ahead(self) -> bool:
        if self._submit_next is None:
            return False
        future = self._submit_next()
        if future is None:
            self._submit_next = None
            return False
        self._futures.append(future)
        return True

    def _result(self) -> T:
        future = self._futures[0]
        left = None if self._deadline is None else self._deadline - time.monotonic()
        try:
            result = future.result(left)
        finally:
            # A future that failed holds its exception, whose traceback holds this frame.
            del future
        self._futures.popleft()
        return result


def flatten(results: Iterator[list[T]]) -> Iterator[T]:
    """Yield the items of lists one by one; keeps no reference to those it has yielded."""
    for items in results:
        items.reverse()
        while items:
            yield items.pop()
