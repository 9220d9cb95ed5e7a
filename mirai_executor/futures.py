"""Futures whose ``cancel()`` stops the work."""

import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError, _base
from typing import Any, Generic, TypeVar, cast

from . import _private
from ._arguments import check_callback, check_wait
from ._core import TaskId
from ._host import OneShotEvent
from ._mailbox import CANCELLED_END, IN_A_CALLBACK, Audience, Canceller, End, How, LookedInto
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


class MiraiFuture(LookedInto[T], Future[T], Generic[T]):
    """The future of one task, whose ``cancel()`` stops work that is running.

    A ``concurrent.futures.Future``, created by an executor. It works with
    ``concurrent.futures.wait`` and ``as_completed``. Coroutines of asyncio ``await`` it, and to
    cancel these stops the task. All methods are safe from any thread. Callbacks added with
    ``add_done_callback`` run on the executor's host thread and must not block.

    Example:
        >>> with MiraiExecutor(1) as executor:
        ...     future = executor.submit(pow, 2, 10)
        ...     future.result(), future.done()
        (1024, True)
    """

    # There is no lock: a KeyboardInterrupt might leave it locked, and the host thread would wait
    # for it for ever. What several threads may decide is decided by one operation of a dict or a
    # list, which exactly one of them wins, with the GIL or without it:
    #
    # - "_begun" is set once, by who starts the task, or cancels it only if it has not started;
    # - "_end" is set once, by who ends or cancels it, and then replaced by the same, decoded;
    # - who wants to hear of the end leaves word first and then looks whether it has come, the host
    #   thread sets it first and then looks who has left word; who takes that out, passes it on.
    #
    # Most futures wait in large numbers: what they have no use for yet, stands here for all.

    _cancel_running = True
    _cancels_on_interrupt = False
    _begun: str | None = None  # RUNNING or CANCELLED
    _end: End | None = None
    _first_decoded: End | None = None  # of the outcome that a daemon has sent
    _is_told = False  # that it was cancelled
    _moment: OneShotEvent | None = None  # of the end, for those who wait for it
    _audience: Audience | None = None  # for wait() and as_completed()
    _callbacks: "list[functools.partial[object]] | None" = None

    def __init__(  # the base class's would make much that nobody may ever ask for
        self,
        id_: TaskId,
        canceller: Canceller,
        *,
        cancel_running: bool = True,
        cancel_on_interrupt: bool = False,
    ) -> None:
        self._id = id_
        self._canceller = canceller
        if not cancel_running:
            self._cancel_running = False
        if cancel_on_interrupt:
            self._cancels_on_interrupt = True

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
        that failed otherwise, or have not failed, have no code, and neither have those that raised
        such an error themselves, from an executor of their own. Never waits.

        Example:
            >>> import time
            >>> with MiraiExecutor(1) as executor:
            ...     future = executor.submit(time.sleep, 60)
            ...     future.cancel(), future.code
            (True, 20)
        """
        if self._end is CANCELLED_END:
            return CODE_CANCELLED
        error = self._exception
        return error.code if isinstance(error, MiraiError) and not self._has_raised else None

    @property
    def _has_raised(self) -> bool:
        """Whether the task itself has ended in the exception that was asked for before."""
        return self._first_decoded is not None  # what the host says needs no decoding

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
        if self._end is None:
            # First, so that a KeyboardInterrupt in between cannot leave a cancelled future with
            # a task that goes on: the host ends the future in any case.
            self._canceller.cancel(self._id, running=running)
            if running or self.__dict__.setdefault("_begun", CANCELLED) is CANCELLED:
                # The host tells all others. Not here: a KeyboardInterrupt could strike when only
                # some have been told.
                self.__dict__.setdefault("_end", CANCELLED_END)
        return self._end is CANCELLED_END

    # Its life, for the host

    def start(self) -> bool:
        """Mark the future as running, once or again; for the host. False if it has ended."""
        return self.__dict__.setdefault("_begun", RUNNING) is RUNNING and self._end is None

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
        self._finish((decode, payload, failed))

    def set_value(self, value: T) -> None:
        """End the future with a result that needs no decoding; for the host.

        Raises:
            InvalidStateError: As :meth:`set_outcome`.
        """
        self._finish((None, value, False))

    def set_result(self, result: T) -> None:
        """Do as :meth:`set_value`, under the name that the standard library has for it."""
        self._finish((None, result, False))

    def set_exception(self, exception: BaseException | None) -> None:
        """End the future with an exception; for the host.

        Raises:
            InvalidStateError: As :meth:`set_outcome`.
        """
        self._finish((None, exception, exception is not None))

    def _finish(self, end: End) -> None:
        if self.__dict__.setdefault("_end", end) is not end:
            raise InvalidStateError(f"{self._current_state()}: task {self._id}")
        self._tell_all()

    def end_cancelled(self) -> None:
        """Mark the future as cancelled unless it has ended, and notify who waits; for the host."""
        if self.__dict__.setdefault("_end", CANCELLED_END) is CANCELLED_END and not self._is_told:
            self._is_told = True
            self._tell_all()

    def _tell_all(self) -> None:
        """Tell all who have left word; who comes later sees the end."""
        if (moment := self._moment) is not None:
            moment.come()
            self._moment = None
        if (audience := self._audience) is not None:
            audience.tell_all(self)
        if self._callbacks is not None:
            with contextlib.suppress(IndexError):  # taken back in between
                while self._callbacks:
                    self._call_back(self._callbacks.pop(0))

    def _call_back(self, callback: "functools.partial[object]") -> None:
        try:
            callback(self)
        except BaseException:  # a callback that exits must not end the host
            LOGGER.exception("exception calling callback for %r", self)

    def _how(self) -> How:
        assert self._end is not None  # noqa: S101 - for the type checker
        if self._end is CANCELLED_END:
            return "add_cancelled"
        return "add_exception" if self._end[2] else "add_result"

    # Questions

    def _current_state(self) -> str:
        if (end := self._end) is None:
            return self._begun or PENDING
        if end is not CANCELLED_END:
            return FINISHED
        return CANCELLED_AND_NOTIFIED if self._is_told else CANCELLED

    def cancelled(self) -> bool:
        """Tell whether the task was cancelled."""
        return self._end is CANCELLED_END

    def running(self) -> bool:
        """Tell whether the task was given to a daemon, and has not ended."""
        return self._current_state() is RUNNING

    def done(self) -> bool:
        """Tell whether the task has ended, or was cancelled."""
        return self._end is not None

    def add_done_callback(self, fn: "Callable[[Future[T]], object]") -> None:
        """Have a function called with this future once it has ended, on the host thread.

        Where it has ended already, the function is called at once, on this thread.

        Raises:
            TypeError: ``fn`` is not callable.
        """
        check_callback(fn)
        if self._end is None:
            # Equal to nothing else: it is found again without calling any code of the user.
            callback = functools.partial(fn)
            callbacks = self.__dict__.setdefault("_callbacks", [])
            callbacks.append(callback)
            if self._end is None:
                return
            try:
                callbacks.remove(callback)
            except ValueError:  # the host thread has taken it
                return
        try:
            fn(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    def result(self, timeout: float | None = None) -> T:
        """Wait for the task, and return its result or raise its exception.

        The exception has its original type, and the traceback of the daemon.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            CancelledError: The task was cancelled.
            TimeoutError: The task was not finished in time. It keeps running; to stop it, call
                :meth:`cancel`.
            RuntimeError: The task has not ended, and this is a callback of a future, on the thread
                that would have to end it.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     executor.submit(pow, 2, 10).result(timeout=30)
            1024
        """
        end = self._end
        if end is None or end is CANCELLED_END or end[0] is not None:
            end = self._ended(timeout)
        if not end[2]:
            value: T = end[1]
            return value
        try:
            raise end[1]
        finally:
            del self, end  # an error that holds this frame must not hold itself through it

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call has raised, None if it has returned; wait for it if need be.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            CancelledError: The task was cancelled.
            TimeoutError: It had not ended in time; it goes on.
            RuntimeError: As :meth:`result`.
        """
        _, outcome, failed = self._ended(timeout)
        return outcome if failed else None

    def _ended(self, timeout: float | None) -> End:
        """Wait for the end; return how it was, decoded."""
        self._wait(timeout)
        if (end := self._end) is None:
            raise TimeoutError
        if end is CANCELLED_END:
            raise CancelledError
        return self._decoded(end)

    def _wait(self, timeout: float | None) -> bool:
        if self._end is None:
            check_wait(timeout)
            try:
                if (timeout is None or timeout > 0) and self._canceller.owns_this_thread():
                    raise RuntimeError(IN_A_CALLBACK)
                moment = self.__dict__.setdefault("_moment", OneShotEvent())
                if self._end is None:  # else there may be none any more
                    moment.wait(timeout)
            except KeyboardInterrupt:
                if self._cancels_on_interrupt:
                    self.cancel()
                raise
        return self._end is not None

    def _decoded(self, end: End) -> End:
        """Decode an end, if that has not been done.

        Threads that do so at the same time do it beside each other, and all take what the first
        one has got: none may have to wait for one that a KeyboardInterrupt might strike.
        """
        if end[0] is None:
            return end
        decoded, struck = _decode(end), None
        if isinstance(decoded[1], KeyboardInterrupt):
            # Did it strike this thread, or does unpickling raise it? Then it does so again.
            struck, decoded = decoded[1], _decode(end)
        self._end = decoded = cast("End", self.__dict__.setdefault("_first_decoded", decoded))
        if struck is not None and not isinstance(decoded[1], KeyboardInterrupt):
            raise struck
        return decoded

    def __repr__(self) -> str:
        state = self._current_state().lower()
        if self._end is CANCELLED_END:
            state = "cancelled"
        elif self._end is not None:
            _, outcome, failed = self._decoded(self._end)
            state = f"finished, {'raised' if failed else 'returned'} {type(outcome).__name__}"
        return f"<MiraiFuture id={self._id} {state}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"{self!r} cannot be pickled: a future belongs to the process that submitted its "
            "task; send its result instead"
        )


def _decode(end: End) -> End:
    decode, payload, failed = end
    assert decode is not None  # noqa: S101 - for the type checker
    try:
        return None, decode(payload), failed
    except BaseException as error:  # unpickling runs code of the user
        return None, error, True
