"""``MiraiExecutor``: a drop-in ``ProcessPoolExecutor`` whose workers are mirai daemons."""

import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar

from ._core import Policy, TaskId
from ._host import Host, Limits, Settings, is_exiting
from ._place import usable_cpus
from .errors import LaunchError
from .futures import MapResults, MiraiFuture, chunks, flatten, run_chunk, run_items
from .launchers import LocalLauncher

if TYPE_CHECKING:
    from ._reception import Password, Reception, Source
    from ._status import Info, Status
    from .launchers import Launcher, Submission

__all__ = ["ExecutorView", "MiraiExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

_FRAME_TIME = 2.5e-3  # seconds: some times what a frame costs on its way there and back


class _Face(Executor):
    """What an executor and its views have in common: a host, and the limits of their tasks."""

    _host: Host
    _limits: Limits

    def _root(self) -> "MiraiExecutor":
        raise AssertionError("each face says whose it is")

    @property
    def size(self) -> int:
        """The most daemons that there may be."""
        return self._root()._max_workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> MiraiFuture[T]:
        """Schedule ``fn(*args, **kwargs)`` to run on a daemon. Never waits for one.

        In a long burst of submissions, it gives the host thread 20 µs now and then to send them.
        Safe from any thread, and from callbacks of futures. Every keyword belongs to ``fn``.

        Returns:
            The future of the call. What cannot be pickled is the future's error.

        Raises:
            RuntimeError: The executor has been shut down, or the interpreter is shutting down.
            LaunchError: No daemon can be started.
            ForkedExecutorError: This process was forked after the executor had started.
        """
        self._root()._check_open()
        host, limits = self._host, self._limits
        id_ = host.next_id()
        future: MiraiFuture[T] = MiraiFuture(id_, host, cancel_running=limits.cancel_running)
        host.submit(id_, future, fn, args, kwargs, limits)
        return future

    def submit_source(self, source: str, /, **variables: Any) -> MiraiFuture[Any]:
        """Schedule Python code to be evaluated on a daemon; the value is its last expression's.

        The code runs in a namespace of its own over the daemon's ``__main__``, with the
        variables as names.

        Raises:
            SyntaxError: It is not Python.
            RuntimeError: As :meth:`submit`.
        """
        self._root()._check_open()
        future = self._new_future()
        self._host.submit_source(future.id, future, source, variables, self._limits)
        return future

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator over ``fn`` of the items of the iterables, in their order.

        Args:
            fn: Is called with one item of each iterable. It is pickled once: its tasks see it, and
                what it captures, as they are now.
            iterables: The shortest one ends the map.
            timeout: Seconds from now in which each result has to be there.
            chunksize: How many calls travel together as one task.
            buffersize: How many tasks may be ahead of the results that were taken; None takes
                all items at once. With it, iterables may be endless.

        Raises:
            ValueError: ``chunksize`` or ``buffersize`` is smaller than 1.
            TypeError: ``buffersize`` is no integer.
            TimeoutError: From the iterator, when ``timeout`` has passed. Tasks that have not
                started are cancelled then, as when the iterator is dropped.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if chunksize == 1:
            calls = zip(*iterables, strict=False)
            return MapResults(_submitter(self, fn, calls), buffersize, timeout)
        if len(iterables) == 1:  # then the items need no tuples, which take time to pickle
            run, items = partial(run_items, fn), iterables[0]
        else:
            run, items = partial(run_chunk, fn), zip(*iterables, strict=False)
        lists = zip(chunks(items, chunksize))
        return flatten(MapResults(_submitter(self, run, lists), buffersize, timeout))

    def with_options(self, **options: Any) -> "ExecutorView":
        """Return a view of this executor whose tasks have other limits.

        A view is cheap, an executor like any other, and shares the daemons; its ``shutdown``
        shuts nothing down. Views of views keep what is not named again.

        Args:
            options: ``timeout``, seconds from submission in which a task has to end;
                ``run_timeout``, seconds that it may run; ``retries``, how often it may run
                again after its daemon was lost; ``cancel_running``, whether ``cancel()`` stops
                a task that runs.

        Raises:
            TypeError: There is no such option.
            ValueError: A limit is not positive.
        """
        limits = self._limits.changed(**options)
        for name in ("timeout", "run_timeout"):
            value = getattr(limits, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, or None")
        if limits.retries < 0:
            raise ValueError("retries must be >= 0")
        return ExecutorView(self._root(), limits)

    def _new_future(self) -> MiraiFuture[Any]:
        host = self._host
        return MiraiFuture(host.next_id(), host, cancel_running=self._limits.cancel_running)

    def __reduce__(self) -> Any:
        # Libraries pickle their executor along with a task (lmfit, mystic, tornado).
        return _Inert, ()


class MiraiExecutor(_Face, ProcessPoolExecutor):
    """Runs calls on daemons: Python interpreters that start afresh when there is work for them.

    It takes the place of ``concurrent.futures.ProcessPoolExecutor``, of which it is a subclass
    only because libraries ask for that; nothing of the base class's machinery runs. All methods
    are safe from any thread.

    Args:
        max_workers: The most daemons that may run at once. By default the number of processors
            that this process may use: the smallest of its affinity mask, the CPU quota of its
            control group, and ``PYTHON_CPU_COUNT``.
        mp_context: Accepted so that existing calls keep working, and not used: daemons are
            never copies of this process.
        initializer: Called on each daemon before its first task. If it raises, all tasks fail.
        initargs: The arguments of the initializer.
        max_tasks_per_child: Tasks after which a daemon is replaced by a new one.
        dispatcher: False deals tasks to the daemons round robin when they are submitted, instead
            of keeping one queue.
        cleanup: Whether daemons return to their first state after each task.
        idle_timeout: Seconds without a task after which a daemon leaves; None for never.
        start_timeout: Seconds in which a daemon must be ready, initializer included; for one that
            comes by itself, from the moment at which it has proved that it may.
        cancel_grace: Seconds that a task has to end after it was cancelled or has timed out;
            then its daemon is killed and replaced.
        output: Whether what daemons print appears at this process's standard streams.
        name: A name for threads, in debuggers and logs.
        python: The Python interpreter that runs the daemons; by default the one that runs this.
        ordering: "strict" sends a task only to a daemon that is free, so that tasks start in the
            order of their submission. By default, short tasks travel together: those that have
            shown to take microseconds may start before ones submitted a moment earlier.
        url: Where daemons of this and other machines connect, as :func:`host_url` and
            :func:`local_url` return it, or several addresses: then no daemon starts by itself,
            and as many may come as like to, at any time. What ``max_tasks_per_child`` and
            ``idle_timeout`` end is not replaced.
        remote: How daemons are started elsewhere, made by :func:`ssh_config`,
            :func:`cluster_config`, :func:`remote_config` or :func:`http_config`; it is asked for
            ``max_workers`` of them at once. Without a ``url``, that is ``host_url(tls=True)``.
        tls: For an address with TLS, the certificate that an authority has signed, and its key: a
            PEM file, or a pair. By default a certificate is made that only these daemons trust.
        tls_password: What the key is encrypted with, or a callable that returns it.
        tls_cert: The certificates that daemons are to trust, where ``tls`` does not hold them.
        tls_minimum: The oldest version of TLS that this process and its daemons speak, "1.2" or
            "1.3".
        heartbeat: Seconds between the signs of life of daemons that have connected. One that has
            been silent for four of them is taken for lost; a daemon waits twelve for its host.

    Raises:
        OSError: It cannot be listened at ``url``.
        ValueError: A number is out of its range.
        TypeError: The initializer cannot be called, or a number is none.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        dispatcher: bool = True,
        cleanup: bool = True,
        idle_timeout: float | None = None,
        start_timeout: float = 60.0,
        cancel_grace: float = 2.0,
        output: bool = True,
        name: str | None = None,
        python: str | None = None,
        ordering: Literal["bounded", "strict"] = "bounded",
        url: str | Sequence[str] | None = None,
        remote: "Launcher | None" = None,
        tls: "Source | tuple[Source, Source] | None" = None,
        tls_password: "Password | None" = None,
        tls_cert: "Source | None" = None,
        tls_minimum: Literal["1.2", "1.3"] = "1.3",
        heartbeat: float = 5.0,
    ) -> None:
        if sys.platform == "win32":
            raise RuntimeError("mirai_executor runs on Linux and macOS; on Windows, use WSL")
        _check(max_workers, initializer, max_tasks_per_child, idle_timeout, start_timeout)
        if ordering not in ("bounded", "strict"):
            raise ValueError('ordering must be "bounded" or "strict"')
        if heartbeat <= 0:
            raise ValueError("heartbeat must be positive")
        is_open = url is not None or remote is not None
        if is_open and max_workers is not None and remote is None:
            raise ValueError(
                "max_workers is how many daemons `remote` is asked for; without it, start "
                "daemons by launch_local(n), launch_remote(n, remote) or its commands"
            )
        if not is_open and (tls is not None or tls_cert is not None or tls_minimum != "1.3"):
            raise ValueError("tls, tls_cert and tls_minimum are for an executor with a url")
        # Where daemons come by themselves: how many were asked for.
        least = int(remote is not None) if is_open else usable_cpus()
        self._most: int = least if max_workers is None else max_workers
        policy = Policy(
            max_daemons=max(1, self._most),
            launches=not is_open,
            direct=not dispatcher,
            max_tasks=max_tasks_per_child,
            idle_timeout=idle_timeout,
            start_timeout=start_timeout,
            cancel_grace=cancel_grace,
            # Starts that all time out must not be too far apart to count as failures in a row.
            failure_window=60.0 + 10 * start_timeout,
            frame_time=0.0 if ordering == "strict" else _FRAME_TIME,
        )
        launcher = LocalLauncher(python=python, output=output)
        self._reception = (
            _reception(url, tls, tls_password, tls_cert, tls_minimum) if is_open else None
        )
        self._output = output
        submissions = [] if remote is None else self._plan_first(remote)
        self._host = Host(
            Settings(
                policy,
                launcher,
                cleanup,
                initializer,
                tuple(initargs),
                name,
                entrance=None if self._reception is None else self._reception.entrance,
                heartbeat=heartbeat,
            )
        )
        self._remote = remote
        self._python = python
        self._launching: threading.Thread | None = None
        self._launch_failure: LaunchError | None = None
        self._name = name
        self._limits = Limits()
        self._is_shut_down = False
        # An executor that is dropped lets accepted work finish, and leaves nothing behind.
        weakref.finalize(self, self._host.shutdown, cancel_queued=False).atexit = False
        if remote is not None:
            self._launch_soon(submissions, self._most)

    @property
    def _max_workers(self) -> int:
        """How many daemons there may be; where they come by themselves, how many have, or will."""
        if self._reception is None:
            return self._most
        return max(1, self._most, self._host.connections)

    @property
    def url(self) -> str | None:
        """The address at which daemons connect, the best of several; None if none can."""
        return None if self._reception is None else self._reception.urls[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """All addresses at which daemons connect."""
        return () if self._reception is None else self._reception.urls

    def wait_ready(self, timeout: float | None = None, *, count: int | None = None) -> None:
        """Start all daemons, and wait until they are connected.

        Args:
            count: How many; by default ``max_workers``, or where daemons connect to a ``url``, as
                many as were asked for by :meth:`launch_local` and :meth:`launch_remote`.
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            TimeoutError: They were not connected in time; those that were, stay.
            LaunchError: They cannot be started.
            RuntimeError: The executor has been shut down.
        """
        self._check_open()
        self._host.wait_ready(max(1, self._most) if count is None else count, timeout)

    def launch_local(self, n: int = 1, **options: Any) -> int:
        """Start ``n`` more daemons on this machine, beyond ``max_workers``.

        Returns once they are asked for; :meth:`wait_ready` waits for them, too.

        Args:
            n: How many.
            options: Where daemons connect to a ``url``, how these live: ``output``, whether what
                tasks print appears; ``cleanup``, whether they return to their first state after
                each task, by default as this executor says; ``dispatcher``, whether their host has
                to work with one, by default any; ``idle_time``, seconds without a task after which
                they leave;
                ``wall_time``, seconds after which they take no more tasks; ``max_tasks``;
                ``autoexit``, "now", "finish" or "never", what they do when this process is gone;
                ``retry``, for how many seconds they try to connect, by default 2.

        Returns:
            ``n``.

        Raises:
            ValueError: ``n`` is negative.
            TypeError: There is no such option.
            LaunchError: They could not be started.
            RuntimeError: The executor has been shut down.
        """
        if n < 0:
            raise ValueError("n must be >= 0")
        if self._reception is not None:
            self._check_not_shut_down()
            # This process listens already: who finds nobody there, comes too late for good.
            self._launch(self._plan(_here(self._python), n, {"retry": 2.0, **options}), n)
            self._most += n
        elif options:
            raise TypeError("daemons of an executor without a url take no options")
        else:
            self._check_open()
            self._most += n
            self._host.add_daemons(n)
        return n

    def launch_remote(
        self, n: int = 1, remote: "Launcher | None" = None, **options: Any
    ) -> list[str]:
        """Start ``n`` daemons on other machines, or say how.

        Args:
            n: How many.
            remote: How; by default as the executor was told when it was made.
            options: How they live, as for :meth:`launch_local`; by default they try for 30
                seconds to connect.

        Returns:
            What the launcher has answered, the number of a job for instance. If there is no
            launcher, the commands that start daemons when they are pasted into shells elsewhere:
            they hold the secret of this executor, and who reads them can run code as its owner.

        Raises:
            ValueError: ``n`` is negative.
            TypeError: There is no such option.
            LaunchError: The launcher has failed; it carries the command and its standard error.
            RuntimeError: The executor has no ``url``, or has been shut down.
        """
        if n < 0:
            raise ValueError("n must be >= 0")
        self._check_not_shut_down()
        if self._reception is None:
            raise RuntimeError("the executor has no url at which daemons could connect")
        launcher = remote or self._remote
        if launcher is None:
            return self._reception.shell_commands(self._python, n, **options)
        answers = self._launch(self._plan(launcher, n, options), n)
        self._most += n
        return answers

    def adapt(
        self,
        minimum: int,
        maximum: int,
        *,
        remote: "Launcher | None" = None,
        idle_time: float = 60.0,
        patience: float = 600.0,
        **options: Any,
    ) -> None:
        """Ask for daemons as tasks come, and let them go when there are none. Returns at once.

        One request asks for all that are missing. A launcher that refuses is asked again after a
        pause that doubles each time; when it has refused four times in a row and no daemon is
        connected, the tasks that wait fail with what it has said. Called again, this replaces what
        it was told before; daemons that are there stay.

        Args:
            minimum: So many daemons are kept, whether there is work or not.
            maximum: There are never more.
            remote: How they are started; by default as the executor was told when it was made,
                or else on this machine.
            idle_time: Seconds for which daemons are not needed before they are let go.
            patience: Seconds that daemons may take to come, through the queue of a scheduler for
                instance, before others are asked for.
            options: How they live, as for :meth:`launch_local`.

        Raises:
            ValueError: A number is out of its range.
            TypeError: There is no such option.
            RuntimeError: The executor has no ``url``, or has been shut down.
        """
        self._check_open()
        if self._reception is None:
            raise RuntimeError(
                "an executor without a url starts its daemons as tasks come, up to max_workers, "
                "and lets them go after idle_timeout; adapt() is for one with a url"
            )
        from ._core import ScalePolicy

        policy = ScalePolicy(minimum, maximum, idle_time, patience)
        launcher = remote or self._remote or _here(self._python)
        self._plan(launcher, 1, options)  # what cannot be asked for is said here and now
        executor = weakref.ref(self)

        def launch(count: int) -> None:
            # An executor that was dropped must not live on for its daemons.
            if (owner := executor()) is not None and not owner._is_shut_down:
                owner._launch(owner._plan(launcher, count, options), count)

        self._host.adapt(policy, launch)

    def _plan(self, launcher: "Launcher", n: int, options: dict[str, Any]) -> "list[Submission]":
        """Return what is to be run; ValueError or TypeError if that cannot work."""
        assert self._reception is not None  # noqa: S101 - for the type checker
        return self._reception.plan(launcher, n, **{"output": self._output, **options})

    def _plan_first(self, remote: "Launcher") -> "list[Submission]":
        assert self._reception is not None  # noqa: S101 - for the type checker
        try:
            return self._plan(remote, self._most, {})
        except BaseException:
            self._reception.entrance.close()
            raise

    def _launch(self, submissions: "Sequence[Submission]", n: int) -> list[str]:
        from .launchers import launch

        launched = launch(submissions)
        commands = [one.process for one in launched if one.process is not None]
        self._host.expect_daemons(n, commands)
        return [one.output for one in launched]

    def _launch_soon(self, submissions: "Sequence[Submission]", n: int) -> None:
        """Ask for daemons on a thread: who makes an executor need not wait for a scheduler."""

        def run() -> None:
            try:
                self._check_not_shut_down()
                self._launch(submissions, n)
            except LaunchError as error:
                self._launch_failure = error
                self._host.fail_launch(error)
            except RuntimeError:
                pass  # it was shut down in the meantime

        self._launching = threading.Thread(target=run, name="mirai-launch", daemon=True)
        self._launching.start()

    def _finish_launch(self) -> None:
        """Wait until ``remote`` was asked for daemons; not until they have come.

        Raises:
            LaunchError: It has failed.
        """
        if self._launching is not None:
            self._launching.join()
        if self._launch_failure is not None:
            raise self._launch_failure

    def everywhere(
        self, fn_or_source: "Callable[..., T] | str", /, *args: Any, **kwargs: Any
    ) -> list[MiraiFuture[Any]]:
        """Run a call, or code, once on each daemon, now and on each that joins later.

        What it changes in ``__main__`` stays, whatever ``cleanup`` says. On each daemon it runs
        before any task that is submitted later; daemons that have done it wait for no other.

        Args:
            fn_or_source: A function, or Python code as a string, which is evaluated in the
                daemon's ``__main__``.
            args: The arguments of the function; code takes none.
            kwargs: Its keyword arguments, or the variables of the code.

        Returns:
            A future for each daemon that there is, those that are starting included. All are
            started for it.
        """
        self._check_open()
        if not isinstance(fn_or_source, str):
            return self._host.everywhere(
                lambda encoder: encoder.encode(fn_or_source, args, kwargs), self._broadcast_future
            )
        if args:
            raise TypeError("code takes keyword arguments only: everywhere('f(x)', x=1)")
        return self._host.everywhere(
            lambda encoder: encoder.encode_source(fn_or_source, kwargs), self._broadcast_future
        )

    def share(self, obj: T, /) -> T:
        """Return a copy of an object whose large arrays lie in memory that all daemons can see.

        They are read-only. Passed to a task of this executor, each travels as a reference, and
        nothing is copied; the task sees the very same memory, also read-only. It is given back
        soon after the last reference to it is gone: here, and in the arguments of tasks. What is
        smaller than 192 KiB is copied as usual.

        Args:
            obj: An array, or anything that can be pickled; it may change later.

        Raises:
            PayloadError: It cannot be pickled.
            OSError: The system has no memory, or no descriptor, left.
        """
        self._check_open()
        return self._host.share(obj)

    def status(self) -> "Status":
        """Return what the executor is doing now."""
        from ._status import Status  # dataclasses take milliseconds to make

        return Status.of(self._host.view(), self.url)

    def info(self) -> "Info":
        """Return mirai's five counters as they are now."""
        from ._status import Info

        return Info.of(self._host.view())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and end the daemons when those accepted have ended.

        Args:
            wait: Whether to return only then. On the host thread, in a callback, it never waits.
            cancel_futures: Whether to cancel tasks that have not started.
        """
        self._is_shut_down = True
        self._host.shutdown(cancel_queued=cancel_futures)
        if wait:
            self._host.join()
            if self._launching is not None:
                self._launching.join()

    def terminate_workers(self) -> None:
        """Send SIGTERM to all daemons and shut down; running tasks end in DaemonLostError."""
        self._is_shut_down = True
        self._host.kill(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Send SIGKILL to all daemons and shut down; running tasks end in DaemonLostError."""
        self._is_shut_down = True
        self._host.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        """Shut down and wait; after Ctrl-C or ``sys.exit``, cancel everything instead."""
        if exc_type is not None and issubclass(exc_type, (KeyboardInterrupt, SystemExit)):
            self._abort()
            return
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._abort()
            raise

    def _abort(self) -> None:
        """Stop queued and running work, and return soon."""
        self._is_shut_down = True
        self._host.abort()

    def _root(self) -> "MiraiExecutor":
        return self

    def _check_not_shut_down(self) -> None:
        if is_exiting():
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _check_open(self) -> None:
        if self._is_shut_down or is_exiting():
            self._check_not_shut_down()
        if self._host.is_broken and (error := self._host.launch_error) is not None:
            raise error

    @property
    def _broken(self) -> Any:  # type: ignore[override]  # there it is an attribute
        """What ProcessPoolExecutor has by this name, and code that works with it looks at."""
        return self._host.launch_error or False

    def _broadcast_future(self) -> MiraiFuture[Any]:
        return MiraiFuture(self._host.next_id(), _NOBODY, cancel_running=False)

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        state = " shut down" if self._is_shut_down else ""
        return f"<MiraiExecutor{name} max_workers={self._max_workers}{state}>"


class ExecutorView(_Face):
    """An executor over another's daemons, with limits of its own; see ``with_options``."""

    def __init__(self, executor: MiraiExecutor, limits: Limits) -> None:
        self._executor = executor
        self._host = executor._host
        self._limits = limits

    @property
    def _max_workers(self) -> int:
        return self._executor._max_workers

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: the daemons belong to the executor that this is a view of."""

    def _root(self) -> MiraiExecutor:
        return self._executor

    def __repr__(self) -> str:
        return f"<ExecutorView of {self._executor!r} with {self._limits}>"


class _Nobody:
    """Stops nothing: a call that all daemons make cannot be cancelled."""

    def cancel(self, task: TaskId, *, running: bool) -> None:
        pass


_NOBODY = _Nobody()


class _Inert(Executor):
    """What an executor becomes when it is pickled: it can be passed around, and runs nothing."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise RuntimeError(
            "this executor was pickled, and its daemons stayed behind; create an executor where "
            "the tasks are submitted"
        )

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **options: Any) -> Any:
        self.submit(fn)


def _reception(
    url: str | Sequence[str] | None,
    tls: "Source | tuple[Source, Source] | None",
    tls_password: "Password | None",
    tls_cert: "Source | None",
    tls_minimum: str,
) -> "Reception":
    from ._reception import Reception  # sockets and certificates, which most have no use for
    from .urls import host_url

    urls = host_url(tls=True) if url is None else url
    return Reception(urls, tls, tls_password, tls_cert, tls_minimum)


def _here(python: str | None) -> "Launcher":
    from ._reception import Here

    return Here(python or sys.executable)


def _submitter(
    face: _Face, fn: Callable[..., T], calls: Iterator[tuple[Any, ...]]
) -> Callable[[], "Future[T] | None"]:
    # Weakly: a map that is half consumed must not keep a dropped executor alive. A view is made
    # again each time: `executor.with_options(...).map(...)` drops it at once.
    root = weakref.ref(face._root())
    limits = face._limits if isinstance(face, ExecutorView) else None
    fn = face._host.take(fn)

    def submit_next() -> Future[T] | None:
        executor = root()
        if executor is None or (args := next(calls, None)) is None:
            return None
        if limits is not None:
            return ExecutorView(executor, limits).submit(fn, *args)
        return executor.submit(fn, *args)  # by its public name: tqdm replaces it on the instance

    return submit_next


def _check(
    max_workers: int | None,
    initializer: object,
    max_tasks: int | None,
    idle_timeout: float | None,
    start_timeout: float,
) -> None:
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if max_tasks is not None:
        if not isinstance(max_tasks, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
    if idle_timeout is not None and idle_timeout <= 0:
        raise ValueError("idle_timeout must be positive, or None")
    if start_timeout <= 0:
        raise ValueError("start_timeout must be positive")
