"""One executor's side of all its daemons, for any thread: what can be asked for, and how."""

from __future__ import annotations

import itertools
import signal
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mirai_executor._arguments import raise_if_misuse
from mirai_executor._core import (
    NO_LIMITS,
    BroadcastCancelRequested,
    BroadcastId,
    CancelRequested,
    DaemonsAdded,
    RestartRequested,
    ShutdownRequested,
    TaskId,
)
from mirai_executor._waiting import Reply
from mirai_executor.errors import LaunchError

from . import _registry
from ._host_thread import HostThread
from ._store import BULKY, Deferred

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mirai_executor._core import DaemonId, Limits, ScalePolicy
    from mirai_executor._payload import host as _payload
    from mirai_executor.launchers import Job

    from ._daemon import LocalDaemon
    from ._questions import HostView
    from ._requests import Request
    from ._settings import Settings
    from ._share import Share
    from ._tasks import OpenFuture, OpenTask

    F = TypeVar("F", bound=OpenFuture)
else:  # a bound that is text takes milliseconds on Python 3.15, which imports ast for it
    F = TypeVar("F")

T = TypeVar("T")
_NO_BUFFERS: tuple[Any, ...] = ()


class Host(HostThread):
    """One executor's side of all its daemons. Every method is safe from any thread.

    Nothing runs before the first task: no thread, no descriptor, no import that takes long.
    """

    def __init__(self, settings: Settings) -> None:
        # Of the right type from the start: TaskId(...) for each takes as long as all the rest.
        self._ids = cast("Iterator[TaskId]", itertools.count(1))
        self._abandoned = TaskId(0)  # this task and those before it
        super().__init__(settings)

    def _start(self) -> None:
        _registry.add(self)
        super()._start()

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
        limits: Limits = NO_LIMITS,
    ) -> None:
        """Queue a call. What cannot be pickled ends in the future; if misused, also here."""
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
            kind, buffers = self._kind_of(fn, args), _NO_BUFFERS
            if large or len(blob) > BULKY:
                blob, buffers = self._store.take(task, blob, large, limits.retries)
                kind = None if type(buffers) is Deferred else kind  # that travels alone
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's own __reduce__ may raise any
            future.set_exception(error)
            raise_if_misuse(error)
        else:
            self._accept((task, future, limits, kind, blob, names, buffers))

    def share(self, obj: T) -> T:
        """Return a copy whose large buffers lie where daemons can look at them."""
        from mirai_executor._payload.daemon import encode_named  # cloudpickle takes its time
        from mirai_executor._payload.host import decode_value

        self._check_usable()
        value = encode_named("obj", obj, self._settings.serial)
        views = cast("tuple[memoryview, ...]", value.buffers)  # nothing is apart
        copy: T = decode_value(value.blob, self._store.share(views))
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
        limits: Limits = NO_LIMITS,
        beside: Mapping[str, Any] | None = None,
    ) -> None:
        """Queue code to evaluate, likewise. A SyntaxError is raised at once."""
        self._check_usable()
        encoder = self._encoding()
        encoder.check_source(source)
        try:
            blob, names, _ = encoder.encode_checked(source, variables, beside)
            buffers = _NO_BUFFERS
            if len(blob) > BULKY:
                blob, buffers = self._store.take(task, blob, (), limits.retries)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in submit
            future.set_exception(error)
            raise_if_misuse(error)
        else:
            self._accept((task, future, limits, None, blob, names, buffers))

    def cancel(self, task: TaskId, *, running: bool) -> None:
        """Stop a task; with ``running`` also one that a daemon holds."""
        if not self._forked:
            self._put(CancelRequested(task, running))

    def _accept(self, fields: tuple[Any, ...]) -> None:
        """Queue a task that has the fields of an OpenTask."""
        # At a third of the cost of OpenTask(...).
        self._put(tuple.__new__(self._open_task, fields))
        if fields[0] >= self._next_turn:
            self._give_turn(fields[0])

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
        from ._share import Share  # many use no broadcast

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
        ready: Reply[None] = Reply()
        self._ask(lambda loop: loop.when_ready(count, ready))
        if not ready.given.wait(timeout):
            raise TimeoutError(f"daemons asked for: {count}; not all ready after {timeout} s")
        ready.get()

    def add_daemons(self, count: int) -> None:
        """Start so many daemons more. Returns at once."""
        self._check_usable()
        self._put(DaemonsAdded(count))

    def restart(self) -> None:
        """Have other daemons run what has not begun, with modules as they are now."""
        self._check_usable()
        if self._encoder is not None:
            self._encoder.forget_files()
        if self._spawner is not None:
            self._spawner.renew()
        if self._has_started:
            self._put(RestartRequested())

    def expect_daemons(
        self,
        request: Request,
        started: Iterable[subprocess.Popen[bytes] | Job] = (),
        *,
        stay: bool = False,
    ) -> None:
        """Note that so many daemons more have been asked for, which come by themselves.

        Args:
            request: How many, and what was said.
            started: Commands and jobs that run as long as they do; ended if this raises.
            stay: Whether those are left alone when this host ends.
        """
        kept = tuple(started)
        try:
            self._ask(lambda loop: loop.elsewhere.expect_daemons(request, kept, stay=stay))
        except BaseException:
            from mirai_executor.launchers import stop

            stop(kept)
            raise

    def fail_launch(self, error: LaunchError) -> None:
        """Take in that daemons were asked for and will not come."""
        self._put(lambda: self._with_loop(lambda loop: loop.elsewhere.fail_launch(error)))

    def adapt(self, policy: ScalePolicy, launch: Callable[[int], object]) -> None:
        """From now on, ask for daemons as there is work for them.

        Args:
            policy: How many there may be.
            launch: Asks for so many, on a thread; a LaunchError means that they will not come.
        """
        self._put(lambda: self._with_loop(lambda loop: loop.elsewhere.adapt(policy, launch)))

    def keep_with(self, launch: Callable[[int], object], *, lazily: bool) -> None:
        """Have as many daemons as will be asked for be kept: others for those that are lost.

        Args:
            launch: As for :meth:`adapt`.
            lazily: Whether others are asked for only if there is work for them.
        """
        self._put(
            lambda: self._with_loop(lambda loop: loop.elsewhere.keep_with(launch, lazily=lazily))
        )

    @property
    def connections(self) -> int:
        """How many daemons are connected."""
        return 0 if self._loop is None else self._loop.ready_count

    def view(self) -> HostView | None:
        """Return a frozen picture, or None while nothing has been started."""
        if not self._has_started and not self._forked:
            return None
        try:
            return self._ask(lambda loop: loop.view())
        except Exception:
            if not self._finished:
                raise
            return None if self._loop is None else self._loop.view()

    def story(self) -> str:
        """Return the last events and commands of the dispatcher; "" while there are none."""
        return "" if self._loop is None else self._loop.story()

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
        for stream in list(self.streams.values()):  # of which nobody may ever take all values
            stream.cancel()
        if self._has_started:
            self._put(ShutdownRequested(cancel_queued, cancel_running, hurried))

    def abandon(self) -> None:
        """Note that nobody will ask for what is under way now."""
        self._abandoned = self.next_id()

    def cancel_abandoned(self) -> None:
        """Stop what is still under way of that. Returns at once."""
        if last := self._abandoned:
            self.cancel_those(lambda open_task: open_task.task <= last)

    def cancel_those(self, chosen: Callable[[OpenTask], bool], spares: bool = False) -> None:
        """Stop tasks, as the host's loop does. Returns at once."""
        if self._has_started:
            self._put(lambda: self._with_loop(lambda loop: loop.cancel_those(chosen, spares)))

    def cancel_all(self) -> None:
        """Stop all tasks that have been submitted. Returns at once."""
        self.abandon()
        self.cancel_abandoned()

    def stop_listening(self) -> None:
        """Let no daemon in any more. Returns at once."""
        if self._has_started and self._settings.listen_config is not None:
            self._put(lambda: self._with_loop(lambda loop: loop.elsewhere.close_soon()))

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

    def forget(self) -> None:
        """In a forked child: this host belongs to the parent."""
        self._forked = True
        self._store.close()
        if self._settings.listen_config is not None:
            for listener in self._settings.listen_config.listeners:
                listener.close()
        if self._loop is not None:
            self._loop.forget()
        elif self._spawner is not None:
            self._spawner.forget()
        elif self._template is not None:
            self._template.server.forget()
