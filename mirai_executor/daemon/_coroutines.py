"""Runs coroutines at once, each as if it were alone, and takes in others while any of them runs.

::

    frames ──► begin: decode, call ──► a task of asyncio ──► end: encode, send
    signals ──► those that have to stop are cancelled

The host sends no other tasks meanwhile. All is done by the main thread, in the event loop that the
daemon keeps. A context variable says to which task the code belongs that runs, also that which a
coroutine has started. A signal interrupts nothing that belongs to none, so none of our own code.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from contextvars import ContextVar, copy_context
from functools import partial

from mirai_executor import _nameless, _wire
from mirai_executor._payload import daemon as _payload
from mirai_executor._payload.common import rebuild
from mirai_executor._transport import LinkClosedError
from mirai_executor._typing import TYPE_CHECKING
from mirai_executor._wire import OutcomeStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context
    from typing import Any

    from ._serve import TaskRunner

_task: ContextVar[int] = ContextVar("mirai task", default=0)  # to which the code that runs belongs

_Outcome = tuple[OutcomeStatus, _wire.Bytes, tuple[_wire.Buffer, ...]]
_SKIPPED: _Outcome = (OutcomeStatus.SKIPPED, b"", ())


class _RunningCoroutine:
    """A coroutine that runs."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.since = time.perf_counter_ns()
        self.task: asyncio.Task[Any] | None = None  # until the function has returned it
        self.others: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()  # it has started them
        self.was_asked = self.was_told = False  # to stop: it, and the coroutine itself
        self.was_struck = False  # by an interrupt


class Coroutines:
    """Those that run at once on a daemon, from the first to the last one.

    Args:
        daemon: The daemon.
        loop: Its event loop.
    """

    def __init__(self, daemon: TaskRunner, loop: asyncio.AbstractEventLoop) -> None:
        self._daemon = daemon
        self._loop = loop
        self._own_context = copy_context()
        self._make_task = loop.get_task_factory()
        self._running: dict[int, _RunningCoroutine] = {}
        self._failure: LinkClosedError | None = None

    def run(self, id_: int, coroutine: Any) -> None:
        """Run a coroutine, and those that come meanwhile; returns once none runs any more.

        Raises:
            LinkClosedError: The host is gone.
        """
        loop, interrupts, link = self._loop, self._daemon.interrupts, self._daemon.link
        loop.add_reader(link.fileno(), self._take_frames)
        loop.set_task_factory(self._new_task)
        interrupts.company = self
        try:
            self._go_on(id_, self._add(id_), coroutine)
            if link.wait(0):  # the link may have read more than the frame of this one
                self._take_frames()
            while self._running and self._failure is None:
                try:
                    loop.run_forever()
                except (KeyboardInterrupt, SystemExit):  # of one of them: it ends in that
                    continue
        finally:
            interrupts.leave()
            interrupts.company = None
            loop.remove_reader(link.fileno())
            loop.set_task_factory(self._make_task)
        if self._failure is not None:
            raise self._failure

    # What signals and messages ask

    def task_here(self) -> int:
        """Return the task to which the code belongs that asks; 0 if to none."""
        return _task.get()

    def must_strike(self, *, all_of_them: bool) -> bool:
        """Cancel coroutines that have to stop; from a handler of signals.

        Args:
            all_of_them: Whether these are all, or those that the host has named.

        Returns:
            Whether what runs now has to be interrupted: it has been asked to stop before, and has
            not noticed, since it never comes back to the event loop.
        """
        here, must_stop = _task.get(), self._daemon.page.must_stop
        strikes = False
        for id_, it in tuple(self._running.items()):
            if not (all_of_them or must_stop(id_)):
                continue
            if not it.was_asked:
                it.was_asked = True
                self._loop.call_soon_threadsafe(self._tell, it, context=self._own_context)
            elif id_ == here and not (it.was_told or it.was_struck):
                strikes = it.was_struck = True
        return strikes

    def _tell(self, it: _RunningCoroutine) -> None:
        it.was_told = True
        if it.task is not None:
            it.task.cancel()

    # How they come

    def _take_frames(self) -> None:
        daemon = self._daemon
        try:
            while True:
                self._take(_wire.decode(daemon.link.receive() or b""))
                if not daemon.link.wait(0):
                    return
        except LinkClosedError as error:
            self._failure = error
            self._loop.stop()

    def _take(self, frame: _wire.Frame) -> None:
        daemon = self._daemon
        if not isinstance(frame, _wire.Tasks) or daemon.is_spoilt():
            daemon.unread.append(frame)
            return
        if frame.released or not frame.tasks:
            daemon.memory.release(frame.released)
        for task in frame.tasks:
            table = daemon.table_of(task)
            if daemon.tickets.take():
                self._begin(task, table)
            else:
                daemon.memory.skip(task.buffers)

    def _begin(self, task: _wire.WireTask, table: Sequence[tuple[str, bytes]]) -> None:
        it = self._add(task.task)
        if not self._daemon.interrupts.enter(task.task):
            self._end(task.task, it, lambda: _SKIPPED)
            return
        called: Any = None
        try:
            called = it.context.run(self._call, task, table)
        except BaseException as error:
            self._end(task.task, it, partial(self._error, error))
            return
        if isinstance(called, _payload.Unawaited):
            self._go_on(task.task, it, called.coroutine)
        else:  # it had nothing to wait for
            self._end(task.task, it, lambda: self._outcome(called))

    def _call(self, task: _wire.WireTask, table: Sequence[tuple[str, bytes]]) -> Any:
        """Return what a function returns, in bytes, or a coroutine in an exception."""
        daemon = self._daemon
        buffers = daemon.memory.views(task.buffers) if task.buffers else ()
        try:
            call = daemon.namespace.decode(task.payload, table, buffers=buffers)
            return self._encode(call(), awaited=False)
        except _payload.Unawaited as found:
            return found

    def _add(self, id_: int) -> _RunningCoroutine:
        context = copy_context()
        context.run(_task.set, id_)
        it = self._running[id_] = _RunningCoroutine(context)
        return it

    def _go_on(self, id_: int, it: _RunningCoroutine, coroutine: Any) -> None:
        it.task = self._loop.create_task(coroutine, context=it.context)
        it.task.add_done_callback(partial(self._note_end, id_, it), context=self._own_context)

    def _new_task(self, loop: Any, coroutine: Any, **options: Any) -> Any:
        if self._make_task is not None:
            task: Any = self._make_task(loop, coroutine, **options)
        else:
            task = asyncio.Task(coroutine, loop=loop, **options)
        if (it := self._running.get(_task.get())) is not None:
            it.others.add(task)
        return task

    # How they end

    def _note_end(self, id_: int, it: _RunningCoroutine, task: asyncio.Task[Any]) -> None:
        error = _error_of(task, was_stopped=it.was_asked)
        if error is not None:
            self._end(id_, it, partial(self._error, error))
        else:
            self._end(id_, it, lambda: self._outcome(self._encode(task.result())))

    def _encode(self, value: object, *, awaited: bool = True) -> Any:
        apart, serial = self._daemon.memory.is_shared, rebuild.serial
        return _payload.encode_value(
            value, out_of_band=True, apart=apart, serial=serial, awaited=awaited
        )

    def _error(self, error: BaseException) -> _Outcome:
        return OutcomeStatus.ERROR, self._daemon.encode_raised(error), ()

    def _outcome(self, value: Any) -> _Outcome:
        blob, large = value
        self._daemon.end_if_child()
        return OutcomeStatus.VALUE, blob, self._daemon.memory.lend(large) if large else ()

    def _end(self, id_: int, it: _RunningCoroutine, step: Callable[[], _Outcome]) -> None:
        """Send how one has ended: as a step says that may run code of the user."""
        daemon = self._daemon
        try:
            outcome = it.context.run(step)
        except BaseException as error:
            outcome = self._error(error)
        del self._running[id_]
        for task in tuple(it.others):
            task.cancel()
        _nameless.flush_streams()
        try:
            took = 0 if outcome is _SKIPPED else time.perf_counter_ns() - it.since
            daemon.send_outcome(id_, outcome, took)
        except LinkClosedError as error:
            self._failure = error
        if not self._running or self._failure is not None:
            self._loop.stop()


def _error_of(task: asyncio.Task[Any], *, was_stopped: bool) -> BaseException | None:
    if not task.cancelled():
        return task.exception()
    if was_stopped:
        return KeyboardInterrupt()
    try:
        task.result()
    except asyncio.CancelledError as error:
        return error
    return None
