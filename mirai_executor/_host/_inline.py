"""Runs tasks in this process, by the thread that submits them, in place of daemons.

::

    submit ─► all of the call is pickled, as for a daemon ─► what cannot be pickled fails
           ─► its arguments are copied ─► the function runs ─► its result is copied ─► the future

So a debugger stops in the function itself, and profilers and coverage see it; what is lost on the
way to a daemon and back is lost here as well.
"""

from __future__ import annotations

import os
import threading
from bdb import BdbQuit
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mirai_executor._arguments import raise_if_misuse
from mirai_executor._core import NO_LIMITS, BroadcastId, DaemonId, Limits
from mirai_executor._event_loop import EventLoop
from mirai_executor._messages import close_iterator, iterator_of, speaking_through
from mirai_executor._payload.common.entries import STREAM, Brought
from mirai_executor._payload.host import CallEncoder
from mirai_executor._place import begin_in_place, end_in_place
from mirai_executor._turns import Turns
from mirai_executor.errors import LaunchError, PayloadError

from ._copies import Copies, decoded
from ._daemon import HOST_NAME
from ._host import Host
from ._lent_names import LentNames
from ._messages import Message
from ._questions import DaemonRow, HostView
from ._share import Share
from ._store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from mirai_executor._core import TaskId

    from ._settings import Settings
    from ._tasks import OpenFuture

    F = TypeVar("F", bound=OpenFuture)

T = TypeVar("T")

_OURS = "mirai_executor."
_NO_DAEMON = DaemonId(0)
# They leave submit(): one who interrupts a task, or quits its debugger, wants no next task to run.
_ENDS_ALL = (KeyboardInterrupt, BdbQuit)


class InlineHost(Host):
    """A host without thread and daemons. Every method is safe from any thread."""

    is_inline = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._store = Store(shared=False)
        self._names = LentNames()
        # So that it runs once. The same thread may take another turn: it may submit tasks.
        self._initializing = Turns()
        self._has_begun = self._is_ready = False
        self._why_broken: LaunchError | None = None
        self._executing: dict[TaskId, None] = {}
        self._completed: dict[int, int] = {}  # by each thread, which counts without a lock
        self._copies = Copies(settings.serial)

    # Tasks

    def submit(
        self,
        task: TaskId,
        future: OpenFuture,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: Limits = NO_LIMITS,
    ) -> None:
        """Run a call. Whatever it ends in, ends in the future; if misused, also here."""
        stream = kwargs.pop(STREAM, None)
        self._carry_out(task, future, lambda: self._copies.of_call(fn, args, kwargs), stream)

    def submit_source(
        self,
        task: TaskId,
        future: OpenFuture,
        source: str,
        variables: Mapping[str, object],
        limits: Limits = NO_LIMITS,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        """Run code, likewise. A SyntaxError is raised at once."""
        CallEncoder().check_source(source)
        stream = beside.get(STREAM) if beside else None

        def prepare() -> Callable[[], object]:
            return partial(self._copies.of_source(source, variables), Brought())

        self._carry_out(task, future, prepare, stream)

    def _carry_out(
        self,
        task: TaskId,
        future: OpenFuture,
        prepare: Callable[[], Callable[[], object]],
        stream: str | None = None,
    ) -> None:
        self._check_usable()
        if (why_not := self._prepared()) is not None:
            future.set_exception(why_not)
            return
        future.start()
        self._executing[task] = None
        failure: BaseException | None = None
        begin_in_place()
        try:
            with speaking_through(_Messenger(future, self._copies)), _seeded(stream):
                value = self._copies.run(prepare)
            outcome = partial(future.set_outcome, decoded, value, failed=False)
        except _ENDS_ALL:
            raise
        except BaseException as error:  # raised where the result is asked for
            outcome, failure = partial(future.set_exception, _without_ours(error)), error
        finally:
            end_in_place()
            del self._executing[task]
            thread = threading.get_ident()
            self._completed[thread] = self._completed.get(thread, 0) + 1
        outcome()
        if failure is not None:
            raise_if_misuse(failure)

    def take(self, fn: Callable[..., T]) -> Callable[..., T]:
        """Return the function itself: that is what runs."""
        return fn

    def pull(
        self,
        future: OpenFuture,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stream: str | None = None,
    ) -> Generator[Any, None, Any]:
        """Yield copies of what a call yields, each one when it is asked for."""
        if (why_not := self._prepared()) is not None:
            raise why_not
        future.start()
        messenger, loop = _Messenger(future, self._copies), EventLoop()
        seeded = _seeded(stream)
        with speaking_through(messenger), seeded:
            try:
                values = iterator_of(self._copies.of_call(fn, args, kwargs)(), loop.iterate)
            except PayloadError as error:
                error._is_for_the_call = False  # noqa: SLF001 - it is for who reads the stream
                raise
        try:
            while True:
                with speaking_through(messenger), seeded:
                    try:
                        value = self._copies.of(next(values))
                    except StopIteration as end:
                        return end.value
                yield value
        finally:
            with seeded:
                close_iterator(values)
            loop.close()

    def call_soon(self, step: Callable[[], None]) -> None:
        """Call something now."""
        step()

    def cancel(self, task: TaskId, *, running: bool) -> None:
        """Do nothing: whoever has a future has one that has ended."""

    # Daemons

    def everywhere(
        self,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: Limits,
        new_future: Callable[[Share], F],
    ) -> list[F]:
        """Run a call once, here."""
        future = new_future(Share(self, _NO_DAEMON, BroadcastId(0)))
        self._carry_out(self.next_id(), future, lambda: self._copies.of_call(fn, args, kwargs))
        return [future]

    def everywhere_source(
        self,
        source: str,
        variables: Mapping[str, object],
        limits: Limits,
        new_future: Callable[[Share], F],
    ) -> list[F]:
        """Run code once, in the ``__main__`` of this process, which is lent for that."""
        CallEncoder().check_source(source)
        future = new_future(Share(self, _NO_DAEMON, BroadcastId(0)))

        def prepare() -> Callable[[], object]:
            run = self._copies.of_source(source, variables)
            return partial(self._names.call, partial(run, persist=True))

        self._carry_out(self.next_id(), future, prepare)
        return [future]

    def cancel_share(self, daemon: DaemonId, broadcast: BroadcastId, *, running: bool) -> None:
        """Do as :meth:`cancel`."""

    def wait_ready(self, count: int, timeout: float | None) -> None:
        """Run the initializer, unless it has run.

        Raises:
            LaunchError: It has raised an exception.
        """
        self._check_usable()
        if (error := self._prepared()) is not None:
            raise error

    def restart(self) -> None:
        """Run the initializer again before the next task."""
        self._check_usable()
        self._has_begun = self._is_ready = False
        self._why_broken = None

    def add_daemons(self, count: int) -> None:
        """Refuse: this process is the only one.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            'tasks run in this process (mode="inline", or daemons(sync=True)), so no daemons can '
            "be launched; set daemons(4) instead"
        )

    # Ends

    def shutdown(
        self, *, cancel_queued: bool, cancel_running: bool = False, hurried: bool = False
    ) -> None:
        """End the streams that are open, and leave the ``__main__`` of the program as it was."""
        for stream in list(self.streams.values()):
            stream.cancel()
        self._names.give_back()

    def kill(self, signum: int = 0) -> None:
        """Do the same."""
        self.shutdown(cancel_queued=True)

    def abort(self) -> None:
        """Do the same."""
        self.shutdown(cancel_queued=True)

    def _prepared(self) -> LaunchError | None:
        """Run the initializer before all else; return why nothing can run, if so."""
        if not self._is_ready:
            with self._initializing.take():
                if not self._has_begun:
                    self._has_begun = True
                    try:
                        self._initialize()
                        self._is_ready = True
                    finally:
                        self._has_begun = self._is_ready  # else it was interrupted
        return self.launch_error

    def _initialize(self) -> None:
        initializer, initargs = self._settings.initializer, self._settings.initargs
        if initializer is None:
            return
        try:
            encoder = CallEncoder(serial=self._settings.serial)
            encoder.encode(initializer, initargs, {}, local_locks=True, lasting=True)
        except Exception as error:
            self._why_broken = LaunchError(
                f"the initializer or its arguments cannot be sent to daemons: {error}"
            )
            self._why_broken.__cause__ = error
            return
        begin_in_place()
        try:
            initializer(*initargs)
        except _ENDS_ALL:
            raise
        except BaseException as error:  # a reason not to run any task, as on a daemon
            self._why_broken = LaunchError(
                f"the initializer failed: {type(error).__name__}: {error}"
            )
            self._why_broken.__cause__ = error
        finally:
            end_in_place()

    # What others ask

    @property
    def connections(self) -> int:
        """How many processes run tasks: this one, once it is ready."""
        return int(self._is_ready and self._why_broken is None)

    def view(self) -> HostView | None:
        """Return a frozen picture; None as long as nothing has run."""
        if not self._is_ready:
            return None
        executing, completed = len(self._executing), sum(list(self._completed.values()))
        state = "busy" if executing else "ready"
        rows = (DaemonRow(os.getpid(), HOST_NAME, state, completed),) * self.connections
        return HostView(
            awaiting=0,
            executing=executing,
            completed=completed,
            connections=self.connections,
            cumulative=self.connections,
            daemons=rows,
        )

    @property
    def is_broken(self) -> bool:
        """Whether the initializer has failed."""
        return self._why_broken is not None

    @property
    def launch_error(self) -> LaunchError | None:
        """What the initializer has failed with."""
        if (known := self._why_broken) is None:
            return None
        error = LaunchError(*known.args)
        error.__cause__ = known.__cause__
        return error


class _Messenger:
    """Carries what a task reports to its future: as a copy, as from a daemon.

    Args:
        future: The one.
        copies: What makes the copies.
    """

    def __init__(self, future: OpenFuture, copies: Copies) -> None:
        self._future = future
        self._copies = copies

    def report(self, obj: Any, *, is_progress: bool) -> None:
        blob = bytes(self._copies.encode(obj, out_of_band=False).blob)
        self._future.listener()(Message(blob, is_progress))


def _seeded(stream: str | None) -> AbstractContextManager[None]:
    """Return a block in which a task of an executor with a seed has random numbers of its own.

    It can be entered again, and goes on where it was left.
    """
    if stream is None:
        return nullcontext()
    from mirai_executor._random_streams import RunHere  # for those executors

    return RunHere(stream)


def _without_ours(error: BaseException) -> BaseException:
    """Have the traceback of what a task has raised begin with the task."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        trace = trace.tb_next
    return error.with_traceback(trace)
