"""The results of a pool, each as ``multiprocessing.Pool`` has it, and what has not ended yet."""

import multiprocessing
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, wait
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

from mirai_executor._arguments import check_wait
from mirai_executor._host import OneShotEvent
from mirai_executor._mailbox import IN_A_CALLBACK
from mirai_executor._turns import Turns

T = TypeVar("T")
SubmitNext: TypeAlias = Callable[[], Future[T] | None]  # None at the end of what there is


class OpenWork:
    """What was submitted through a pool and has not ended. For any thread.

    Args:
        owns_this_thread: Tells whether results are brought by the thread that asks.
    """

    def __init__(self, owns_this_thread: Callable[[], bool]) -> None:
        self._owns_this_thread = owns_this_thread
        # Changed by single operations: whichever thread ends something takes it out.
        self.futures: dict[Future[Any], None] = {}
        self.results: dict[AsyncResult[Any], None] = {}
        self.feeds: dict[Results[Any], None] = {}

    def check_may_wait(self) -> None:
        """Raise RuntimeError where to wait for a result would be to wait for oneself."""
        if self._owns_this_thread():
            raise RuntimeError(IN_A_CALLBACK)

    def keep(self, future: Future[Any]) -> None:
        """Remember a future until it has ended."""
        self.futures[future] = None
        future.add_done_callback(self._forget)

    def _forget(self, future: Future[Any]) -> None:
        self.futures.pop(future, None)

    def cancel(self) -> None:
        """Submit nothing any more, and cancel what was."""
        for feed in list(self.feeds):
            feed.stop()
        self.feeds.clear()
        for future in list(self.futures):
            future.cancel()

    def wait(self) -> None:
        """Submit what there is to submit, and wait until all has ended, callbacks included."""
        self.check_may_wait()
        for feed in list(self.feeds):
            while feed.feed():
                pass
        wait(list(self.futures))
        for result in list(self.results):
            result.wait()


class AsyncResult(Generic[T]):
    """What ``apply_async`` and ``map_async`` return. All methods are safe from any thread."""

    def __init__(
        self,
        futures: Sequence[Future[Any]],
        combine: Callable[[list[Any]], T],
        callbacks: tuple[Callable[[T], object] | None, Callable[[BaseException], object] | None],
        work: "OpenWork",
    ) -> None:
        self._futures = futures
        self._combine = combine
        self._callback, self._error_callback = callbacks
        self._work = work
        self._known: tuple[bool, Any] | None = None  # whether it is good, and what it is
        self._over = OneShotEvent()  # once the callback has returned, too
        # Each task that ends takes one; exactly one thread takes the last, whichever it is.
        self._left = [True] + [False] * (len(futures) - 1)
        for future in futures:
            future.add_done_callback(self._one_ended)
        if not futures:
            self._one_ended(None)

    def ready(self) -> bool:
        """Tell whether all of it has ended."""
        return self._over.has_come

    def successful(self) -> bool:
        """Tell whether it has ended without an exception.

        Raises:
            ValueError: It has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._outcome()[0]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for ``timeout`` seconds.

        Raises:
            RuntimeError: This is a callback, on the thread that would have to end it.
        """
        check_wait(timeout)
        if self.ready():
            return
        try:
            self._work.check_may_wait()
            self._over.wait(timeout)
        except KeyboardInterrupt:
            _cancel_if_asked_to(self._futures)
            raise

    def get(self, timeout: float | None = None) -> T:
        """Wait for the result and return it, or raise what the function has raised.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            multiprocessing.TimeoutError: It had not ended in time. It goes on.
            CancelledError: The pool was terminated.
            RuntimeError: As :meth:`wait`.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        is_good, value = self._outcome()
        if is_good:
            return value  # type: ignore[no-any-return]  # what combine has returned
        try:
            raise value
        finally:
            del self, value  # an error that holds this frame must not hold itself through it

    def _one_ended(self, _: object) -> None:
        if not self._left.pop():
            return
        try:
            self._call_back()
        finally:
            self._over.come()
            self._work.results.pop(self, None)

    def _call_back(self) -> None:
        if self._callback is None and self._error_callback is None:
            return  # it is decoded by who wants it
        is_good, value = self._outcome()
        if is_good:
            if self._callback is not None:
                self._callback(value)
        # Whoever terminates a pool has lost interest.
        elif self._error_callback is not None and not isinstance(value, CancelledError):
            self._error_callback(value)

    def _outcome(self) -> tuple[bool, Any]:
        futures, known = self._futures, self._known  # in this order: below, it is the other one
        if known is None:
            self._known = known = _outcome_of(futures, self._combine)
            self._futures = ()
        return known


class Results(Iterator[T], Generic[T]):
    """What ``imap`` returns, for one thread at a time.

    Args:
        submit_next: Submits one more call.
        ahead: How many tasks there may be that nobody has taken the result of; None for all.
        work: Keeps what is submitted.
    """

    def __init__(self, submit_next: SubmitNext[T], ahead: int | None, work: "OpenWork") -> None:
        self._submit_next: SubmitNext[T] | None = submit_next
        self._ahead = ahead
        self._work = work
        self._error: Exception | None = None  # of the iterable: it comes after all results
        self._feeding = Turns()  # join() may do so while another thread takes results
        self._look_ahead()

    def next(self, timeout: float | None = None) -> T:
        """Return the next result, or raise what the function has raised; others may follow.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            multiprocessing.TimeoutError: There was none in time.
            StopIteration: There are no more.
        """
        check_wait(timeout)
        self._look_ahead()
        if not self._waiting():
            self._end()
        future = self._take(timeout)
        try:
            return future.result()
        except StopIteration as error:  # it would end the caller's loop, in silence
            raise RuntimeError("generator raised StopIteration") from error  # as PEP 479 has it
        finally:
            del future

    def __next__(self) -> T:
        return self.next()

    def feed(self) -> bool:
        """Submit one more call; False if there is none."""
        with self._feeding.take():
            if self._submit_next is None:
                return False
            try:
                future = self._submit_next()
            except Exception as error:  # of the user's iterable, or of an executor that has ended
                self._error, future = error, None
            if future is None:
                self._submit_next = None
                self._work.feeds.pop(self, None)
                return False
            self._add(future)
            self._work.keep(future)
            return True

    @property
    def is_hungry(self) -> bool:
        """Whether there may be more to submit."""
        return self._submit_next is not None

    def stop(self) -> None:
        """Submit no more."""
        self._submit_next = None

    def _look_ahead(self) -> None:
        while (self._ahead is None or self._waiting() < self._ahead) and self.feed():
            pass

    def _end(self) -> NoReturn:
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def _waiting(self) -> int:
        """Return how many results nobody has taken."""
        raise NotImplementedError

    def _add(self, future: Future[T]) -> None:
        raise NotImplementedError

    def _take(self, timeout: float | None) -> Future[T]:
        """Wait for one that has ended."""
        raise NotImplementedError


class Ordered(Results[T]):
    def __init__(self, *how: Any) -> None:
        self._futures: deque[Future[T]] = deque()
        super().__init__(*how)

    def _waiting(self) -> int:
        return len(self._futures)

    def _add(self, future: Future[T]) -> None:
        self._futures.append(future)

    def _take(self, timeout: float | None) -> Future[T]:
        future = self._futures[0]
        if not future.done():
            try:
                self._work.check_may_wait()
                wait((future,), timeout)
            except KeyboardInterrupt:
                _cancel_if_asked_to(self._futures)
                raise
            if not future.done():
                raise multiprocessing.TimeoutError
        return self._futures.popleft()


class Unordered(Results[T]):
    def __init__(self, *how: Any) -> None:
        self._futures: dict[Future[T], None] = {}
        self._ended: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
        super().__init__(*how)

    def _waiting(self) -> int:
        return len(self._futures)

    def _add(self, future: Future[T]) -> None:
        self._futures[future] = None
        future.add_done_callback(self._ended.put)

    def _take(self, timeout: float | None) -> Future[T]:
        try:
            future = self._ended.get(block=False)
        except queue.Empty:
            future = self._wait(timeout)
        del self._futures[future]
        return future

    def _wait(self, timeout: float | None) -> Future[T]:
        try:
            self._work.check_may_wait()
            return self._ended.get(timeout=None if timeout is None else max(0, timeout))
        except queue.Empty:
            raise multiprocessing.TimeoutError from None
        except KeyboardInterrupt:
            _cancel_if_asked_to(self._futures)
            raise


def _outcome_of(
    futures: Sequence[Future[Any]], combine: Callable[[list[Any]], Any]
) -> tuple[bool, Any]:
    """Return whether all have ended well, and what they are together, or the first error."""
    for future in futures:
        try:
            error = future.exception()  # not raised: it would hold this frame, and all of these
        except CancelledError:
            return False, CancelledError()
        if error is not None:
            return False, error
    return True, combine([future.result() for future in futures])


def _cancel_if_asked_to(futures: Iterable[Future[Any]]) -> None:
    """Cancel what a KeyboardInterrupt of who waits for it is to cancel."""
    for future in list(futures):
        if getattr(future, "_cancels_on_interrupt", False):
            future.cancel()
