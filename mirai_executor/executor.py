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

from ._arguments import (
    check_callable,
    check_count,
    check_launcher,
    check_options,
    check_seconds,
)
from ._core import Policy
from ._host import Host, Limits, Settings, Share, is_exiting
from ._map import MapResults, chunks, flatten, run_chunk, run_items
from ._place import usable_cpus
from .errors import LaunchError
from .futures import MiraiFuture
from .launchers import LocalLauncher

if TYPE_CHECKING:
    from typing import TypedDict, Unpack

    from ._reception import Password, Reception, Source
    from ._status import Info, Status
    from .launchers import Launcher, Submission

    class TaskOptions(TypedDict, total=False):
        """The fields of ``Limits``, any of which may be given."""

        timeout: float | None
        run_timeout: float | None
        retries: int
        cancel_running: bool


__all__ = ["ExecutorView", "MiraiExecutor"]

P = ParamSpec("P")
T = TypeVar("T")

_FRAME_TIME = 2.5e-3  # seconds: some times what a frame costs on its way there and back


class _Face(Executor):
    """What an executor and its views have in common: a host, and the limits of their tasks."""

    _host: Host
    _limits: Limits

    def _root(self) -> "MiraiExecutor":
        raise NotImplementedError

    @property
    def size(self) -> int:
        """The largest number of daemons that may run at once.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.size
            2
        """
        return self._root()._max_workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> MiraiFuture[T]:
        """Schedule ``fn(*args, **kwargs)`` to run on a daemon, and return its future at once.

        Safe from any thread, and from callbacks of futures. Every keyword argument belongs to
        ``fn``; set limits, such as a timeout, with :meth:`with_options`. The arguments may be
        changed as soon as this returns: the task does not see it. In a long burst of submissions,
        a call takes 20 µs longer now and then, so that the host thread can send tasks.

        Args:
            fn: The function. Lambdas, closures, and functions of scripts and notebooks work.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the call. If the function or an argument cannot be pickled, the future
            fails with a :class:`PayloadError` that names the object.

        Raises:
            TypeError: ``fn`` is not callable.
            RuntimeError: The executor has been shut down, or the interpreter is shutting down.
            LaunchError: No daemon can be started.
            ForkedExecutorError: This process was forked after this executor had started.

        Example:
            >>> factor = 3
            >>> with MiraiExecutor(2) as executor:
            ...     future = executor.submit(lambda x: factor * x, 14)
            ...     future.result()
            42
        """
        self._root()._check_open()
        if not callable(fn):
            check_callable("submit", fn, "; code as a string goes to submit_source()")
        host, limits = self._host, self._limits
        id_ = host.next_id()
        future: MiraiFuture[T] = MiraiFuture(id_, host, cancel_running=limits.cancel_running)
        host.submit(id_, future, fn, args, kwargs, limits)
        return future

    def submit_source(self, source: str, /, **variables: Any) -> MiraiFuture[Any]:
        """Schedule Python code, given as a string, to run on a daemon.

        The code runs in a namespace of its own on top of the daemon's ``__main__``: it sees what
        is there, and leaves nothing behind. Safe from any thread.

        Args:
            source: The code. Its value is that of its last line, if that is an expression.
            **variables: The names that the code can use, and their values.

        Returns:
            The future of the value. If a variable cannot be pickled, the future fails with a
            :class:`PayloadError` that names it.

        Raises:
            TypeError: ``source`` is not a string.
            SyntaxError: ``source`` is not valid Python.
            RuntimeError: The executor has been shut down, or the interpreter is shutting down.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     executor.submit_source("import math; math.sqrt(x)", x=16).result()
            4.0
        """
        self._root()._check_open()
        if not isinstance(source, str):
            raise TypeError(f"submit_source() takes Python code as a string, not {source!r:.60}")
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
        """Return an iterator over the results of ``fn``, in the order of its arguments.

        All calls are submitted at once, unless ``buffersize`` says otherwise. Safe from any
        thread; the iterator itself belongs to one thread at a time.

        Args:
            fn: Called with one item of each iterable. It is pickled once: its tasks see it, and
                what it captures, as they are now.
            *iterables: The arguments. The shortest iterable ends the map.
            timeout: Seconds from now within which each result must be available; None for no
                limit.
            chunksize: How many calls to send together as one task. Larger chunks save time when
                each call takes only microseconds.
            buffersize: How many tasks may be submitted ahead of the results that have been
                consumed; None submits all of them. With a buffer size, iterables may be endless.

        Returns:
            An iterator. If a call raised, the iterator raises the same exception when it gets
            there; in place of a StopIteration, a RuntimeError that it has caused.

        Raises:
            TypeError: ``fn`` is not callable, or a size is not an integer.
            ValueError: ``chunksize`` or ``buffersize`` is smaller than 1.
            TimeoutError: Raised by the iterator when ``timeout`` has passed. Tasks that have not
                started are then cancelled, as they are when the iterator is dropped.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     list(executor.map(pow, range(5), [2] * 5))
            [0, 1, 4, 9, 16]
        """
        _check_map(fn, timeout, chunksize, buffersize)
        if chunksize == 1:
            calls = zip(*iterables, strict=False)
            return MapResults(_submitter(self, fn, calls), buffersize, timeout)
        if len(iterables) == 1:  # then the items need no tuples, which take time to pickle
            run, items = partial(run_items, fn), iterables[0]
        else:
            run, items = partial(run_chunk, fn), zip(*iterables, strict=False)
        lists = zip(chunks(items, chunksize))
        return flatten(MapResults(_submitter(self, run, lists), buffersize, timeout))

    def everywhere(
        self, fn_or_source: "Callable[..., T] | str", /, *args: Any, **kwargs: Any
    ) -> list[MiraiFuture[Any]]:
        """Run a call, or code, once on each daemon: on those of now, and on each that joins later.

        On each daemon it runs before any task that is submitted later. What it changes in
        ``__main__`` stays, even with ``cleanup``. All daemons are started for it. Safe from any
        thread.

        Calls are kept for daemons that join later. Code that does nothing but give names the
        values of variables, as ``everywhere("weights = x", x=weights)``, is kept only until such
        code sets the same names next, with nothing else between the two.

        Args:
            fn_or_source: A function, or Python code as a string, which runs in the daemon's
                ``__main__``.
            *args: The arguments of the function; code has none.
            **kwargs: The keyword arguments of the function, or the variables of the code.

        Returns:
            One future for each daemon that is running or starting. To cancel it, or a limit of
            :meth:`with_options`, stops the call on that daemon. Where all of them have been
            stopped, daemons that join later don't make the call either.

        Raises:
            TypeError: The first argument is neither a function nor code, or code was given
                positional arguments.
            SyntaxError: The code is not valid Python.
            RuntimeError: The executor has been shut down.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     done = executor.everywhere("limit = 10")
            ...     executor.submit_source("limit + 1").result()
            11
        """
        self._root()._check_open()
        host, limits = self._host, self._limits
        if not isinstance(fn_or_source, str):
            check_callable("everywhere", fn_or_source, ", or code as a string")
            return host.everywhere(fn_or_source, args, kwargs, limits, self._share_future)
        if args:
            raise TypeError("code takes keyword arguments only: write everywhere('f(x)', x=1)")
        return host.everywhere_source(fn_or_source, kwargs, limits, self._share_future)

    def with_options(self, **options: "Unpack[TaskOptions]") -> "ExecutorView":
        """Return a view of this executor whose tasks have other limits.

        A view is cheap. It is an executor itself and shares the daemons; shutting it down does
        nothing. A view of a view keeps the options that are not given again.

        Args:
            **options: Any of ``timeout`` (seconds from submission until the task must be finished;
                None for no limit), ``run_timeout`` (seconds that it may run; None for no limit),
                ``retries`` (how often it is run again if its daemon is lost; exceptions of the
                task are never retried), and ``cancel_running`` (whether ``future.cancel()`` stops
                a task that is running).

        Raises:
            TypeError: There is no such option, or a limit is not a number.
            ValueError: A timeout is not positive, or ``retries`` is negative.

        Example:
            >>> import time
            >>> with MiraiExecutor(1) as executor:
            ...     limited = executor.with_options(timeout=0.2)
            ...     type(limited.submit(time.sleep, 3600).exception())
            <class 'mirai_executor.errors.TaskTimeoutError'>
        """
        check_options(options, Limits._fields)
        limits = self._limits.changed(**options)
        check_seconds("timeout", limits.timeout, optional=True)
        check_seconds("run_timeout", limits.run_timeout, optional=True)
        check_count("retries", limits.retries)
        return ExecutorView(self._root(), limits)

    def _new_future(self) -> MiraiFuture[Any]:
        host = self._host
        return MiraiFuture(host.next_id(), host, cancel_running=self._limits.cancel_running)

    def _share_future(self, share: Share) -> MiraiFuture[Any]:
        cancel_running = self._limits.cancel_running
        return MiraiFuture(self._host.next_id(), share, cancel_running=cancel_running)

    def __reduce__(self) -> Any:
        # Libraries pickle their executor along with a task (lmfit, mystic, tornado).
        return _Inert, ()


class MiraiExecutor(_Face, ProcessPoolExecutor):
    """A ``ProcessPoolExecutor`` whose workers are daemons, on this machine or on others.

    It is a drop-in replacement for :class:`concurrent.futures.ProcessPoolExecutor`, and a subclass
    of it only because some libraries require one: nothing of the base class runs. Daemons are
    fresh Python interpreters. They start on demand as tasks are submitted, and no
    ``if __name__ == "__main__"`` guard is needed. All methods are safe from any thread.

    At the end of a ``with`` block, the executor waits for all tasks. If the block is left by
    ``KeyboardInterrupt`` or ``SystemExit``, queued and running tasks are cancelled instead.

    Args:
        max_workers: The largest number of daemons to run at once. By default, the number of
            processors that this process may use: the smallest of its affinity mask, the CPU quota
            of its control group, and ``PYTHON_CPU_COUNT``.
        mp_context: Ignored; accepted for compatibility. Daemons are never copies of this process.
        initializer: Called on each daemon before its first task. If it raises, all tasks fail.
        initargs: The arguments of the initializer, as a tuple.
        max_tasks_per_child: How many tasks a daemon runs before a new one replaces it; None for
            any number.
        dispatcher: True keeps all tasks in one queue, from which free daemons are served. False
            assigns each task to a daemon, in turn, when it is submitted.
        cleanup: Whether a daemon's interpreter is reset to its initial state after each task. By
            default, a daemon keeps what tasks change, as a worker of ``ProcessPoolExecutor`` does.
        idle_timeout: Seconds without a task after which a daemon exits; None for never.
        start_timeout: Seconds within which a daemon must be ready, initializer included. For one
            that connects to a ``url``, they start when it has authenticated.
        cancel_grace: Seconds that a task has to stop after it was cancelled or has timed out;
            after that, its daemon is killed and replaced.
        output: Whether what tasks print appears on this process's standard streams.
        name: A name for the executor's threads, shown in debuggers and logs.
        python: The Python interpreter that runs the daemons, of the same minor version as this
            one; by default, the one that runs this process.
        ordering: ``"strict"`` starts tasks exactly in the order of submission: a task is sent only
            to a daemon that is free. By default (``"bounded"``), short tasks are sent together,
            and tasks that are known to take microseconds may overtake ones submitted just before.
        url: The address, or list of addresses, to which daemons connect, as returned by
            :func:`host_url` or :func:`local_url`. The executor then starts no daemons by itself;
            any number of them can connect, and they can come and go at any time. Daemons that end
            because of ``max_tasks_per_child`` or ``idle_timeout`` are not replaced.
        remote: How to start daemons on other machines, as returned by :func:`ssh_config`,
            :func:`cluster_config`, :func:`remote_config` or :func:`http_config`. ``max_workers``
            daemons are requested at once. Without a ``url``, ``host_url(tls=True)`` is used.
        tls: The certificate for a TLS address, signed by an authority, and its key: one PEM file,
            or a pair of them. By default, a certificate is made that only these daemons trust.
        tls_password: The password of the key, or a callable that returns it.
        tls_cert: The certificates that daemons trust, if they are not in ``tls``.
        tls_minimum: The oldest version of TLS to accept, ``"1.2"`` or ``"1.3"``.
        heartbeat: Seconds between signs of life of daemons that connect to a ``url``. A daemon
            that has been silent for four of them is considered lost; a daemon waits for its host
            for twelve.

    Raises:
        TypeError: ``initializer`` is not callable, or another argument has the wrong type.
        ValueError: A number is out of range, or arguments contradict each other.
        OSError: Listening on ``url`` failed.

    Example:
        >>> with MiraiExecutor(2) as executor:
        ...     sum(executor.map(abs, range(-10, 0)))
        55
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
        cleanup: bool = False,
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
        _check(max_workers, initializer, initargs, max_tasks_per_child)
        _check_times(idle_timeout, start_timeout, cancel_grace, heartbeat)
        if ordering not in ("bounded", "strict"):
            raise ValueError(f'ordering must be "bounded" or "strict", not {ordering!r}')
        check_launcher(remote)
        is_open = url is not None or remote is not None
        if is_open and max_workers is not None and remote is None:
            raise ValueError(
                "an executor with a url but without remote starts no daemons by itself: leave "
                "out max_workers, and call launch_local(n) or launch_remote(n, remote)"
            )
        if not is_open and (tls is not None or tls_cert is not None or tls_minimum != "1.3"):
            raise ValueError("tls, tls_cert and tls_minimum need a url such as host_url(tls=True)")
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
        """How many daemons there may be; with a url, how many have connected or were requested."""
        if self._reception is None:
            return self._most
        return max(1, self._most, self._host.connections)

    @property
    def url(self) -> str | None:
        """The address to which daemons connect, the best one of several; None without a ``url``.

        Example:
            >>> with MiraiExecutor(url="tcp://127.0.0.1:0") as executor:
            ...     executor.url.startswith("tcp://127.0.0.1:")
            True
        """
        return None if self._reception is None else self._reception.urls[0]

    @property
    def urls(self) -> tuple[str, ...]:
        """All addresses to which daemons can connect, best first.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.urls
            ()
        """
        return () if self._reception is None else self._reception.urls

    def wait_ready(self, timeout: float | None = None, *, count: int | None = None) -> None:
        """Start all daemons, and wait until they are connected.

        Args:
            timeout: Seconds to wait; None for as long as it takes.
            count: How many daemons; by default ``max_workers``, or with a ``url``, as many as were
                requested with :meth:`launch_local` and :meth:`launch_remote`, and at least one.

        Raises:
            TimeoutError: Not all of them were connected in time. Those that were stay connected.
            LaunchError: They cannot be started.
            RuntimeError: The executor has been shut down, or this is a callback of a future, on
                the thread that would have to start them.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.wait_ready()
            ...     executor.status().connections
            2
        """
        self._check_open()
        check_seconds("timeout", timeout, optional=True, zero=True)
        check_count("count", count, optional=True)
        self._host.wait_ready(max(1, self._most) if count is None else count, timeout)

    def launch_local(self, n: int = 1, **options: Any) -> int:
        """Start ``n`` more daemons on this machine, in addition to ``max_workers``.

        Returns as soon as they have been requested. :meth:`wait_ready` then waits for them, too.

        Args:
            n: How many.
            **options: Only for an executor with a ``url``. ``output``: whether what tasks print
                appears. ``cleanup``: whether to reset the interpreter after each task; by default,
                the executor decides. ``dispatcher``: whether to accept only a host with (or
                without) a dispatcher. ``idle_time``: seconds without a task after which they exit.
                ``wall_time``: seconds after which they accept no more tasks. ``max_tasks``: how
                many tasks they run. ``autoexit``: what they do when this process is gone,
                ``"now"``, ``"finish"`` or ``"never"``. ``retry``: for how many seconds they try to
                connect (2 by default).

        Returns:
            ``n``.

        Raises:
            TypeError: There is no such option, or it has the wrong type.
            ValueError: ``n`` is negative, or an option is out of range.
            LaunchError: They could not be started.
            RuntimeError: The executor has been shut down.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     executor.launch_local(1)
            ...     executor.wait_ready()
            ...     executor.status().connections
            1
            2
        """
        check_count("n", n)
        if self._reception is not None:
            self._check_not_shut_down()
            # This process listens already: who finds nobody there, comes too late for good.
            submissions = self._plan(_here(self._python), n, {"retry": 2.0, **options})
            self._launch(submissions, n, stay=_stays(options))
            self._most += n
        elif options:
            raise TypeError(
                f"without a url, launch_local() takes no options, not {next(iter(options))!r}"
            )
        else:
            self._check_open()
            self._most += n
            self._host.add_daemons(n)
        return n

    def launch_remote(
        self, n: int = 1, remote: "Launcher | None" = None, **options: Any
    ) -> list[str]:
        """Start ``n`` daemons on other machines, or return the commands that start them.

        Args:
            n: How many.
            remote: How to start them, as returned by :func:`ssh_config` and the like; by default,
                as given to the executor.
            **options: The same as for :meth:`launch_local`. By default, daemons try to connect for
                30 seconds.

        Returns:
            The answers of the launcher, such as the number of a job. If there is no launcher,
            shell commands to paste on other machines, one for each daemon. They contain the
            executor's secret: anyone who reads one can run code as you until the executor is shut
            down.

        Raises:
            TypeError: There is no such option, or it has the wrong type.
            ValueError: ``n`` is negative, or an option is out of range.
            LaunchError: The launcher failed; the error has its command and its standard error.
            RuntimeError: The executor has no ``url``, or has been shut down.

        Example:
            >>> with MiraiExecutor(url=local_url(tcp=True)) as executor:
            ...     commands = executor.launch_remote(2)
            ...     len(commands), "mirai_executor daemon tcp://127.0.0.1" in commands[0]
            (2, True)
        """
        check_count("n", n)
        check_launcher(remote)
        self._check_not_shut_down()
        if self._reception is None:
            raise RuntimeError(
                "launch_remote() needs an executor with a url: create it with "
                "MiraiExecutor(url=host_url(tls=True))"
            )
        launcher = remote or self._remote
        if launcher is None:
            return self._reception.shell_commands(self._python, n, **options)
        answers = self._launch(self._plan(launcher, n, options), n, stay=_stays(options))
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
        """Request daemons when there are tasks, and release them when there are none.

        Returns at once. One request asks for all daemons that are missing. If the launcher
        refuses, it is asked again after a pause that doubles each time; after four refusals in a
        row with no daemon connected, the waiting tasks fail with the launcher's error. Calling
        this again replaces the previous settings; daemons that are connected stay.

        Args:
            minimum: The number of daemons to keep even when there is no work.
            maximum: The largest number of daemons.
            remote: How to start them; by default, as given to the executor, or else on this
                machine.
            idle_time: Seconds without work after which a daemon is released.
            patience: Seconds that a daemon may take to connect, for instance through the queue of
                a scheduler, before another one is requested.
            **options: The same as for :meth:`launch_local`.

        Raises:
            TypeError: There is no such option, or it has the wrong type.
            ValueError: A number is out of range.
            RuntimeError: The executor has no ``url``, or has been shut down.

        Example:
            >>> with MiraiExecutor(url=local_url()) as executor:
            ...     executor.adapt(0, 2)
            ...     executor.submit(pow, 2, 10).result()
            1024
        """
        self._check_open()
        if self._reception is None:
            raise RuntimeError(
                "adapt() needs an executor with a url; without one, daemons start on demand, "
                "up to max_workers, and exit after idle_timeout"
            )
        check_launcher(remote)
        check_count("minimum", minimum)
        check_count("maximum", maximum, 1)
        check_seconds("idle_time", idle_time)
        check_seconds("patience", patience)
        from ._core import ScalePolicy

        policy = ScalePolicy(minimum, maximum, idle_time, patience)
        launcher = remote or self._remote or _here(self._python)
        self._plan(launcher, 1, options)  # what cannot be asked for is said here and now
        executor = weakref.ref(self)

        def launch(count: int) -> None:
            # An executor that was dropped must not live on for its daemons.
            if (owner := executor()) is not None and not owner._is_shut_down:
                submissions = owner._plan(launcher, count, options)
                owner._launch(submissions, count, stay=_stays(options))

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

    def _launch(
        self, submissions: "Sequence[Submission]", n: int, *, stay: bool = False
    ) -> list[str]:
        from .launchers import launch

        launched = launch(submissions)
        commands = [one.process for one in launched if one.process is not None]
        self._host.expect_daemons(n, commands, stay=stay)
        return [one.output for one in launched]

    def _launch_soon(self, submissions: "Sequence[Submission]", n: int) -> None:
        """Request daemons on a thread, so that the constructor need not wait for a scheduler."""

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
        """Wait until daemons have been requested from ``remote``, but not until they connect.

        Raises:
            LaunchError: The request failed.
        """
        if self._launching is not None:
            self._launching.join()
        if self._launch_failure is not None:
            raise self._launch_failure

    def share(self, obj: T, /) -> T:
        """Return a copy of an object whose large arrays are in memory shared with all daemons.

        When the copy is passed to a task of this executor, its arrays are not copied again: all
        tasks read the same, read-only memory. The memory is freed soon after the last reference to
        it is gone, in this process and in the arguments of tasks. Buffers smaller than 192 KiB are
        copied as usual, and so are objects that are not buffers, such as columns of strings.

        Args:
            obj: An array, or anything else that can be pickled. It may be changed afterwards; the
                copy does not change.

        Returns:
            The copy, of the same type and shape. Its large arrays are read-only.

        Raises:
            PayloadError: The object cannot be pickled.
            OSError: The system has no memory, or no file descriptor, left.

        Example:
            >>> import numpy as np
            >>> with MiraiExecutor(2) as executor:
            ...     table = executor.share(np.ones((1000, 50)))
            ...     float(executor.submit(np.sum, table).result())
            50000.0
        """
        self._check_open()
        return self._host.share(obj)

    def status(self) -> "Status":
        """Return a snapshot of what the executor is doing now. Never waits for tasks.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.submit(abs, -1).result()
            ...     executor.status().completed
            1
            1
        """
        from ._status import Status  # dataclasses take milliseconds to make

        return Status.of(self._host.view(), self.url)

    def info(self) -> "Info":
        """Return mirai's five counters as they are now. Never waits for tasks.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.info()
            Info(connections=0, cumulative=0, awaiting=0, executing=0, completed=0)
        """
        from ._status import Info

        return Info.of(self._host.view())

    def story(self) -> str:
        """Return the last 1,000 events and commands of the scheduler, for a bug report.

        Safe from any thread, also after the executor has ended, and never waits. One a line, the
        oldest first: the moment, in seconds of ``time.monotonic()``; whether it is an event, which
        the scheduler was told of, or a command, which it gave; and what it says of tasks and
        daemons by their numbers. Functions, arguments, results and errors are not in it; of code
        for :meth:`everywhere`, the names of the variables that it sets are.

        Returns:
            An empty text, as long as nothing has happened.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     executor.submit(abs, -1).result()
            ...     "command LaunchDaemon(daemon=1)" in executor.story()
            1
            True
        """
        return self._host.story()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks, and end the daemons when those already submitted have finished.

        Safe from any thread, and may be called more than once. Where daemons connect to a ``url``,
        and none is there or has been asked for, waiting tasks end in :class:`LaunchError` after
        ``start_timeout``; when an error leaves the ``with``, also if some have been asked for.

        Args:
            wait: Whether to return only when the daemons have ended. In a callback of a future, it
                never waits.
            cancel_futures: Whether to cancel tasks that have not started.

        Example:
            >>> executor = MiraiExecutor(2)
            >>> future = executor.submit(pow, 2, 10)
            >>> executor.shutdown()
            >>> future.result()
            1024
        """
        self._is_shut_down = True
        self._host.shutdown(cancel_queued=cancel_futures)
        if wait:
            self._host.join()
            if self._launching is not None:
                self._launching.join()

    def terminate_workers(self) -> None:
        """Shut down, and send SIGTERM to all daemons. Does not wait until they have ended.

        Running tasks fail with :class:`DaemonLostError`, and queued tasks are cancelled.

        Example:
            >>> executor = MiraiExecutor(1)
            >>> executor.submit(abs, -1).result()
            1
            >>> executor.terminate_workers()
            >>> executor.submit(abs, -1)
            Traceback (most recent call last):
                ...
            RuntimeError: cannot schedule new futures after shutdown
        """
        self._is_shut_down = True
        self._host.kill(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Shut down, and send SIGKILL to all daemons. Does not wait until they have ended.

        Running tasks fail with :class:`DaemonLostError`, and queued tasks are cancelled.

        Example:
            >>> executor = MiraiExecutor(1)
            >>> executor.submit(abs, -1).result()
            1
            >>> executor.kill_workers()
            >>> executor.submit(abs, -1)
            Traceback (most recent call last):
                ...
            RuntimeError: cannot schedule new futures after shutdown
        """
        self._is_shut_down = True
        self._host.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        """Shut down and wait; after Ctrl-C or ``sys.exit``, cancel everything instead."""
        if exc_type is not None and issubclass(exc_type, (KeyboardInterrupt, SystemExit)):
            self._abort()
            return
        if exc_type is not None and self._reception is not None:
            # Nobody waits for ever in an error for daemons that may never come.
            self._host.shutdown(cancel_queued=False, hurried=True)
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
        """What ProcessPoolExecutor calls by this name: libraries look at it."""
        return self._host.launch_error or False

    @property
    def _processes(self) -> Any:  # type: ignore[override]  # as above
        """What ProcessPoolExecutor calls by this name: programs that monitor it look at it."""
        from ._workers import Worker, Workers

        daemons = self._host.local_daemons()
        workers = {each.pid: Worker(each, self._host.call_soon) for each in daemons}
        return Workers.of(self._max_workers, workers)

    @property
    def _pending_work_items(self) -> Any:  # type: ignore[override]  # as above
        """As above: as many items as there are tasks that have not ended."""
        view = self._host.view()
        return range(0 if view is None else view.awaiting + view.executing)

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        state = " shut down" if self._is_shut_down else ""
        return f"<MiraiExecutor{name} max_workers={self._max_workers}{state}>"


class ExecutorView(_Face):
    """An executor on the daemons of another, with limits of its own; see ``with_options``."""

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


class _Inert(Executor):
    """What an executor becomes when it is pickled: it can be passed around, but runs nothing."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise RuntimeError(
            "this is a copy of an executor, which was pickled without its daemons; create an "
            "executor in the process that submits the tasks"
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


def _stays(options: dict[str, Any]) -> bool:
    return options.get("autoexit") == "never"


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
    initargs: object,
    max_tasks: int | None,
) -> None:
    if isinstance(max_workers, str):
        hint = "; did you mean url=?" if "://" in max_workers else ""
        raise TypeError(f"max_workers must be an integer or None, not {max_workers!r}{hint}")
    if max_workers is not None and max_workers <= 0:
        raise ValueError("max_workers must be greater than 0")
    check_count("max_workers", max_workers, optional=True)
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if isinstance(initargs, str) or not hasattr(initargs, "__iter__"):
        raise TypeError(f"initargs must be a tuple of arguments, not {initargs!r:.60}")
    check_count("max_tasks_per_child", max_tasks, 1, optional=True)


def _check_map(fn: object, timeout: float | None, chunksize: int, buffersize: int | None) -> None:
    check_callable("map", fn)
    if timeout is not None and not hasattr(type(timeout), "__float__"):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    check_count("chunksize", chunksize, 1)
    if buffersize is not None and not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
    if buffersize is not None and buffersize < 1:
        raise ValueError(f"buffersize must be None or > 0, not {buffersize!r}")


def _check_times(
    idle_timeout: float | None, start_timeout: float, cancel_grace: float, heartbeat: float
) -> None:
    check_seconds("idle_timeout", idle_timeout, optional=True)
    check_seconds("start_timeout", start_timeout)
    check_seconds("cancel_grace", cancel_grace, zero=True)
    check_seconds("heartbeat", heartbeat)
