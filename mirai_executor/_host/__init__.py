"""Owns the dispatcher, the links and the open futures of one executor, from any thread's view.

``_loop`` runs on the host thread, ``_poller`` is how it waits, and ``_outcomes`` brings what it
learns into the futures; ``_fleet`` has the daemons, of which ``_daemon`` is one, ``_start_up``
brings them to work, ``_losses`` is how they were lost, and ``_registry`` what happens at the end
of the process and at a fork.
Where daemons come from elsewhere, ``_door`` lets them in, ``_remote`` is one of them,
``_commands`` are those that have started them, and ``_elastic`` asks for more.
"""

from __future__ import annotations

import _thread
import collections
import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mirai_executor._core import (
    BroadcastCancelRequested,
    BroadcastId,
    CancelRequested,
    DaemonId,
    DaemonsAdded,
    Policy,
    ShutdownRequested,
    TaskId,
)
from mirai_executor._place import on_daemon
from mirai_executor._record import Record
from mirai_executor._waiting import Answer, Moment
from mirai_executor.errors import ForkedExecutorError, LaunchError
from mirai_executor.launchers import LocalLauncher

from . import _registry
from ._entrance import Entrance
from ._kinds import kind_of
from ._store import Store

if TYPE_CHECKING:
    import subprocess

    from mirai_executor import _payload
    from mirai_executor._core import ScalePolicy
    from mirai_executor._local import Spawner

    from ._daemon import LocalDaemon
    from ._loop import HostView as HostView
    from ._loop import Item, Loop, OpenTask
    from ._outcomes import OpenFuture

__all__ = ["Entrance", "Host", "Limits", "Moment", "Settings", "Share", "is_exiting"]

T = TypeVar("T")
if TYPE_CHECKING:
    F = TypeVar("F", bound="OpenFuture")
else:  # a bound that is text takes milliseconds on Python 3.15, which imports ast for it
    F = TypeVar("F")


class Settings(Record):
    """What a host is to know before its first task."""

    policy: Policy
    launcher: LocalLauncher
    cleanup: bool = True
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    name: str | None = None
    entrance: Entrance | None = None  # where daemons come in by themselves
    heartbeat: float = 5.0  # seconds between their signs of life


class Limits(Record):
    """What a task may take.

    Args:
        timeout: Seconds from its submission.
        run_timeout: Seconds from the start of its execution.
        retries: How often it may run again after its daemon was lost.
        cancel_running: Whether ``cancel()`` also stops it while it runs.
    """

    timeout: float | None = None
    run_timeout: float | None = None
    retries: int = 0
    cancel_running: bool = True


_LOG = logging.getLogger("mirai_executor")
_FEW, _MANY = 16, 256  # submissions of a burst until the host thread is let run again
_MOMENT = 20e-6  # seconds
_NO_LIMITS = Limits()
_AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"


class Host:
    """One executor's side of all its daemons. Every method is safe from any thread.

    Nothing runs before the first task: no thread, no descriptor, no import that takes long.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Of the right type from the start: TaskId(...) for each takes as long as all the rest.
        self._ids = cast("Iterator[TaskId]", itertools.count(1))
        self._inbox: collections.deque[Item] = collections.deque()
        self._loop: Loop | None = None
        self._spawner: Spawner | None = None  # that of the loop
        self._encoder: _payload.CallEncoder | None = None
        self._open_task: type[OpenTask] | None = None
        self._turn = self._next_turn = _FEW  # of the host thread: after so many submissions
        # What comes from other machines shares no memory with this one.
        self._store = Store(shared=settings.entrance is None)
        self._threads: list[threading.Thread | None] = []  # None once it has ended
        self._can_join = True
        self._owner = threading.Lock()  # taken for good by the one thread that runs the loop
        self._owned = Moment()
        self._ended = Moment()
        self._failure: LaunchError | None = None
        self._finished = False
        self._abandoned = TaskId(0)  # this task and those before it
        self._last_view: HostView | None = None
        self._forked = False
        if settings.entrance is not None:
            self._open(settings.entrance)

    def _open(self, entrance: Entrance) -> None:
        """Start at once: somebody may knock."""
        try:
            self._check_usable()
        except BaseException:
            entrance.close()
            raise
        self._start()

    # Tasks

    def next_id(self) -> TaskId:
        """Return a new task id; they rise."""
        return next(self._ids)

    def submit(
        self,
        task: TaskId,
        future: OpenFuture,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: Limits = _NO_LIMITS,
    ) -> None:
        """Queue a call. What cannot be pickled ends in the future."""
        self._check_usable()
        if (encoder := self._encoder) is None:
            self._start()  # its thread has the most to do, and need not wait for the call
            encoder = self._encoding()
        try:
            blob, names, large = encoder.encode(
                fn,
                args,
                kwargs,
                lasting=limits.retries > 0,
                out_of_band=True,
                apart=self._store.is_shared,
            )
            # The user's memory is his again when this returns.
            buffers = self._store.keep(large, limits.retries) if large else ()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's own __reduce__ may raise any
            future.set_exception(error)
        else:
            self._accept((task, future, limits, kind_of(fn, args), blob, names, buffers))

    def share(self, obj: T) -> T:
        """Return a copy whose large buffers lie where daemons can look at them."""
        from mirai_executor import _payload  # cloudpickle takes its time

        self._check_usable()
        value = _payload.encode_value(obj, out_of_band=True)
        views = cast("tuple[memoryview, ...]", value.buffers)  # nothing is apart
        copy: T = _payload.decode_value(value.blob, self._store.share(views))
        return copy

    def take(self, fn: Callable[..., T]) -> Callable[..., T]:
        """Return a function as it is now, to be submitted many times; pickled once."""
        try:
            return self._encoding().take(fn)
        except Exception:  # then each call says so, in its future
            return fn

    def submit_source(
        self,
        task: TaskId,
        future: OpenFuture,
        source: str,
        variables: Mapping[str, object],
        limits: Limits = _NO_LIMITS,
    ) -> None:
        """Queue code to evaluate. A SyntaxError is raised at once; all else ends in the future."""
        self._check_usable()
        encoder = self._encoding()
        encoder.check_source(source)
        try:
            call = encoder.encode_checked(source, variables)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in submit
            future.set_exception(error)
        else:
            self._accept((task, future, limits, None, call.blob, call.names, ()))

    def cancel(self, task: TaskId, *, running: bool) -> None:
        """Stop a task; with ``running`` also one that a daemon holds."""
        if not self._forked:
            self._put(CancelRequested(task, running))

    def _accept(self, fields: tuple[Any, ...]) -> None:
        """Queue a task that has the fields of an OpenTask."""
        if (new := self._open_task) is None:
            from ._loop import OpenTask  # not before the first task

            self._open_task = new = OpenTask
        self._put(tuple.__new__(new, fields))  # at a third of the cost of OpenTask(...)
        if fields[0] >= self._next_turn:
            self._give_turn(fields[0])

    def _give_turn(self, task: int) -> None:
        """Let the host thread run, if a burst of submissions has kept the GIL from it.

        It would wait for 5 ms each time, and the daemons for it: often at the beginning, when they
        have nothing to do yet, and more and more seldom, for it costs the burst about 0.1 ms.
        """
        is_burst = len(self._inbox) > self._turn // 2
        if is_burst and threading.current_thread() not in self._threads:
            # Who lets go of the GIL for no more than a moment, has it back before another thread
            # has woken up.
            time.sleep(_MOMENT)
        begins = not is_burst and (self._loop is None or self._loop.is_idle)
        self._turn = _FEW if begins else min(2 * self._turn, _MANY)
        self._next_turn = task + self._turn

    def _encoding(self) -> _payload.CallEncoder:
        if self._encoder is None:
            from mirai_executor import _payload  # cloudpickle takes its time

            self._encoder = _payload.CallEncoder()
        return self._encoder

    # Daemons

    def everywhere(
        self,
        fn: Callable[..., object],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        limits: Limits,
        new_future: Callable[[Share], F],
    ) -> list[F]:
        """Run a call once on every daemon; return a future for each that there is."""
        call = self._encoding().encode(fn, args, kwargs, lasting=True)
        return self._broadcast(call, None, limits, new_future)

    def everywhere_source(
        self,
        source: str,
        variables: Mapping[str, object],
        limits: Limits,
        new_future: Callable[[Share], F],
    ) -> list[F]:
        """Run code once on every daemon; likewise."""
        encoder = self._encoding()
        call = encoder.encode_source(source, variables)
        return self._broadcast(call, encoder.names_set_by(source, variables), limits, new_future)

    def _broadcast(
        self,
        call: _payload.Call,
        sets: frozenset[str] | None,
        limits: Limits,
        new_future: Callable[[Share], F],
    ) -> list[F]:
        id_ = BroadcastId(self.next_id())

        def future_of(daemon: DaemonId) -> F:
            return new_future(Share(self, daemon, id_))

        return self._ask(lambda loop: loop.broadcast(id_, call, sets, limits, future_of))

    def cancel_share(self, daemon: DaemonId, broadcast: BroadcastId, *, running: bool) -> None:
        """Stop a daemon's share of :meth:`everywhere`; with ``running`` also if it runs."""
        if not self._forked:
            self._put(BroadcastCancelRequested(daemon, broadcast, running))

    def wait_ready(self, count: int, timeout: float | None) -> None:
        """Start so many daemons, and wait until they are connected.

        Raises:
            TimeoutError: They were not within ``timeout`` seconds.
            LaunchError: They cannot be started.
            RuntimeError: It was asked in a callback, on the thread that would have to start them.
        """
        if self.owns_this_thread():
            raise RuntimeError(
                "wait_ready() would wait for itself in a callback of a future; call it elsewhere"
            )
        ready: Answer[None] = Answer()
        self._ask(lambda loop: loop.when_ready(count, ready))
        if not ready.given.wait(timeout):
            raise TimeoutError(f"{count} daemons were not ready after {timeout} s")
        ready.get()

    def add_daemons(self, count: int) -> None:
        """Start so many daemons more. Returns at once."""
        self._check_usable()
        self._put(DaemonsAdded(count))

    def expect_daemons(
        self,
        count: int,
        processes: Iterable[subprocess.Popen[bytes]] = (),
        *,
        stay: bool = False,
    ) -> None:
        """Note that so many daemons more have been asked for, which come by themselves.

        Args:
            count: How many.
            processes: Commands that have started them, and run as long as they do. They are seen
                to, or ended if this raises.
            stay: Whether those are left alone when this host ends.
        """
        kept = tuple(processes)
        try:
            self._ask(lambda loop: loop.expect_daemons(count, kept, stay=stay))
        except BaseException:
            from mirai_executor.launchers import stop

            for process in kept:
                stop(process)
            raise

    def fail_launch(self, error: LaunchError) -> None:
        """Take in that daemons were asked for and will not come."""
        self._put(lambda: self._with_loop(lambda loop: loop.fail_launch(error)))

    def adapt(self, policy: ScalePolicy, launch: Callable[[int], object]) -> None:
        """From now on, ask for daemons as there is work for them.

        Args:
            policy: How many there may be.
            launch: Asks for so many; a LaunchError means that they will not come.
        """
        from mirai_executor._core import Scaler  # where daemons come by themselves

        scaler = Scaler(policy)

        def run(count: int) -> None:
            try:
                launch(count)
            except LaunchError as error:
                failure = error
                self._put(
                    lambda: self._with_loop(lambda loop: loop.refuse(scaler, count, failure))
                )
            except RuntimeError:
                pass  # the executor was shut down in the meantime

        def launch_soon(count: int) -> None:
            # A scheduler takes its time, and this thread has none.
            threading.Thread(target=run, args=(count,), name="mirai-launch", daemon=True).start()

        self._put(lambda: self._with_loop(lambda loop: loop.adapt(scaler, launch_soon)))

    def _with_loop(self, step: Callable[[Loop], None]) -> None:
        if self._loop is not None and not self._finished:
            step(self._loop)

    @property
    def connections(self) -> int:
        """How many daemons are connected."""
        loop = self._loop
        return 0 if loop is None else loop.ready_count

    def view(self) -> HostView | None:
        """Return a frozen picture, or None while nothing has been started."""
        if not self._has_started and not self._forked:
            return None
        try:
            return self._ask(lambda loop: loop.view())
        except Exception:
            if not self._finished:
                raise
            return self._last_view

    def local_daemons(self) -> tuple[LocalDaemon, ...]:
        """Return those of this machine that live, and have their place."""
        if not self._has_started:
            return ()
        try:
            return self._ask(lambda loop: loop.local_daemons())
        except Exception:
            if not self._finished:
                raise
            return ()

    def call_soon(self, step: Callable[[], None]) -> None:
        """Have the host thread call something. Returns at once."""
        self._put(step)

    @property
    def is_broken(self) -> bool:
        """Whether no daemon can be started."""
        loop = self._loop
        return loop is not None and loop.is_broken

    @property
    def launch_error(self) -> LaunchError | None:
        """Why no daemon can be started; None as long as they can."""
        loop = self._loop
        return loop.launch_error() if loop is not None and self.is_broken else None

    # Ends

    def shutdown(
        self, *, cancel_queued: bool, cancel_running: bool = False, hurried: bool = False
    ) -> None:
        """Take no more tasks, and end when those accepted have ended. Returns at once."""
        if self._has_started:
            self._put(ShutdownRequested(cancel_queued, cancel_running, hurried))

    def abandon(self) -> None:
        """Note that nobody will ask for what is under way now."""
        self._abandoned = self.next_id()

    def cancel_abandoned(self) -> None:
        """Stop what is still under way of that. Returns at once."""
        if self._has_started and (last := self._abandoned):
            self._put(lambda: self._with_loop(lambda loop: loop.cancel_until(last)))

    def close_entrance(self) -> None:
        """Let no daemon in any more. Returns at once."""
        if self._has_started and self._settings.entrance is not None:
            self._put(lambda: self._with_loop(lambda loop: loop.close_entrance()))

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send every daemon a signal, cancel what is queued, and end. Returns at once.

        Daemons that a milder signal than SIGKILL leaves alive get that one second later.
        """
        if not self._has_started:
            return
        self._put(ShutdownRequested(cancel_queued=True))
        self._put(lambda: self._with_loop(lambda loop: loop.terminate(signum)))

    def abort(self) -> None:
        """Stop queued and running work, and return soon; nothing of it is left then."""
        _registry.abort((self,))

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the host thread has ended; True if it has. On that thread, do not wait."""
        if not self._has_started:
            return True
        if self.owns_this_thread():
            return False
        # Not Thread.join: if a KeyboardInterrupt strikes there, Python 3.11 and 3.12 take the
        # thread for ended, and a second call would return at once.
        if not self._ended.wait(timeout):
            return False
        for thread in list(self._threads):
            if thread is not None and self._can_join:
                thread.join()  # it has nothing left to do
        # threading counts it as left behind while somebody refers to it, as a future does by us.
        self._threads[:] = [None]
        return True

    def forget(self) -> None:
        """In a forked child: this host belongs to the parent."""
        self._forked = True
        self._store.close()
        if self._settings.entrance is not None:
            for listener in self._settings.entrance.listeners:
                listener.close()
        if self._loop is not None:
            self._loop.forget()
        elif self._spawner is not None:
            self._spawner.forget()

    # The host thread

    def owns_this_thread(self) -> bool:
        """Tell whether who asks is the host thread, on which callbacks run."""
        return threading.current_thread() in self._threads

    @property
    def _has_started(self) -> bool:
        return bool(self._threads or self._inbox) and not self._forked

    def _check_usable(self) -> None:
        if self._forked:
            raise ForkedExecutorError(
                f"process {os.getpid()} was forked after this executor had started daemons, which "
                "belong to the parent process; create another executor after the fork"
            )
        if on_daemon() and _importing_main():
            raise RuntimeError(
                "an executor was used while a daemon was importing the host's main module to "
                "look up a name; move the code that starts the program below "
                '`if __name__ == "__main__":`'
            )
        if self._finished:
            raise self._end_error()

    def _end_error(self) -> Exception:
        if self._failure is None:
            return RuntimeError(_AFTER_SHUTDOWN)
        from mirai_executor._local import another  # not before the first task

        return another(self._failure)

    def _put(self, item: Item) -> None:
        self._inbox.append(item)
        if not self._threads:
            self._start()
        elif (
            (loop := self._loop) is not None
            and (poller := loop.poller).asleep
            and (waker := poller.waker) is not None
            and not waker.calls  # until it has the GIL, it looks asleep
        ):
            if loop.is_idle:
                self._turn, self._next_turn = _FEW, 0  # a burst may begin
            waker.wake()  # the GIL goes, too: only now
        if self._finished:
            self._end_late(item)

    def _ask(self, question: Callable[[Loop], T]) -> T:
        """Have the host thread answer a question, and wait for it."""
        self._check_usable()
        if self.owns_this_thread() and self._loop is not None:
            return question(self._loop)
        answer: Answer[T] = Answer()

        def give() -> None:
            try:
                if self._finished or self._loop is None:
                    raise self._end_error()  # noqa: TRY301 - into the answer
                answer.set_result(question(self._loop))
            except BaseException as error:  # belongs to who has asked
                answer.set_exception(error)

        self._put(give)
        return answer.get()

    def _start(self) -> None:
        # A KeyboardInterrupt may leave this undone; then the next caller does it again, and of
        # two threads only one finds the owner's lock free. Struck in Thread.start, it could leave
        # the new thread waiting for a lock for ever: so another thread calls that.
        _registry.add(self)
        _thread.start_new_thread(self._start_thread, ())
        self._owned.wait()

    def _start_thread(self) -> None:
        name = f"mirai-host-{self._settings.name}" if self._settings.name else "mirai-host"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # the last thread that the system grants is this one
            self._can_join = False  # threading knows it by number only
            self._run()

    def _run(self) -> None:
        if not self._owner.acquire(blocking=False):
            return
        self._threads.append(threading.current_thread())
        try:
            with _registry.no_fork:
                self._owned.come()  # now others may go on, and fork
                spawner = self._prepared_spawner()
                from ._loop import Loop  # while the first daemon imports what it needs

                # Before any daemon starts: it notices what changes of the path they are to learn.
                self._encoding()
            settings, initializer = self._settings, self._encoded_initializer()
            with _registry.no_fork:
                self._loop = loop = Loop(
                    settings.policy,
                    spawner,
                    cleanup=settings.cleanup,
                    initializer=initializer,
                    inbox=self._inbox,
                    store=self._store,
                    entrance=settings.entrance,
                    heartbeat=settings.heartbeat,
                )
            loop.run()
            self._last_view = loop.view()
        except BaseException as error:  # nobody may wait for a thread that is gone
            self._failure = _as_failure(error)
            if self._loop is None and self._spawner is not None:
                self._spawner.close()
        finally:
            self._finished = True
            try:
                if self._settings.entrance is not None:
                    self._settings.entrance.close()
                self._drain()
            finally:
                self._ended.come()

    def _prepared_spawner(self) -> Spawner:
        from mirai_executor._local import Spawner  # not before the first task

        self._spawner = spawner = Spawner(self._settings.launcher, _registry.no_fork)
        if self._settings.policy.launches:
            spawner.prepare()
        return spawner

    def _encoded_initializer(self) -> _payload.Call | None:
        settings = self._settings
        if settings.initializer is None:
            return None
        try:
            return self._encoding().encode(
                settings.initializer, settings.initargs, {}, local_locks=True, lasting=True
            )
        except BaseException as error:
            message = f"the initializer or its arguments cannot be sent to daemons: {error}"
            raise LaunchError(message) from error

    def _drain(self) -> None:
        """End what has been put in since the loop last looked; on the host thread."""
        with contextlib.suppress(IndexError):
            while True:
                self._end_unheard(self._inbox.popleft())
        self._store.close()

    def _end_late(self, item: Item) -> None:
        """End what may have come too late for the host thread to do so; it may do the same.

        Each thread ends no more than it has put in itself: a KeyboardInterrupt that strikes here
        loses nothing then that anybody else waits for.
        """
        self._end_unheard(item)
        if self._ended.has_come:  # the rest is ended by those who have put it in
            self._inbox.clear()
        self._store.close()

    def _end_unheard(self, item: Item) -> None:
        from ._loop import OpenTask
        from ._outcomes import set_exception

        if isinstance(item, OpenTask):
            set_exception(item.future, self._end_error())
        elif callable(item):
            item()


class Share:
    """What one daemon has to do for ``everywhere``, to be cancelled."""

    def __init__(self, host: Host, daemon: DaemonId, broadcast: BroadcastId) -> None:
        self._host, self._daemon, self._broadcast = host, daemon, broadcast
        self.owns_this_thread = host.owns_this_thread

    def cancel(self, _: TaskId, *, running: bool) -> None:
        """Stop it; with ``running`` also if it runs. Safe from any thread."""
        self._host.cancel_share(self._daemon, self._broadcast, running=running)


def _as_failure(error: BaseException) -> LaunchError:
    from mirai_executor._local import as_launch_error  # not before the first task

    if not isinstance(error, (LaunchError, OSError)):
        _LOG.critical(
            "internal error in mirai_executor: the host thread failed; please report this",
            exc_info=error,
        )
    return as_launch_error(error)


def _importing_main() -> bool:
    from mirai_executor import _payload  # a daemon has it long since

    return _payload.importing_main()


def is_exiting() -> bool:
    """Tell whether the interpreter is shutting down."""
    return _registry.is_exiting
