"""Submits calls, code and maps to a host, with the limits of an executor or of a view of it."""

from collections.abc import Callable, Coroutine
from functools import partial
from sys import modules
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ._arguments import check_callable, raise_if_misuse
from ._host import TRACES, Host, Options
from ._mapping import MappingExecutor
from ._rare import RareExecutor
from .errors import PayloadError
from .futures import MiraiFuture

if TYPE_CHECKING:
    from typing import Unpack

    from ._host import Limits, Share, TaskOptions
    from ._lifetime import HostOwner

P = ParamSpec("P")
T = TypeVar("T")


class Submitter(MappingExecutor, RareExecutor):
    """What an executor and its views have in common.

    Args:
        host: Runs the tasks.
        options: What has been told of them.
    """

    def __init__(self, host: Host, options: Options) -> None:
        self._host = host
        self._options = options

    def _root(self) -> "HostOwner":
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

    @overload
    def submit(  # of an async function: its coroutine is awaited
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> MiraiFuture[T]: ...
    @overload
    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> MiraiFuture[T]: ...
    def submit(
        self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> MiraiFuture[Any]:
        """Schedule ``fn(*args, **kwargs)`` to run on a daemon, and return its future at once.

        Safe from any thread, and from callbacks of futures. Every keyword argument belongs to
        ``fn``; set limits, such as a timeout, with :meth:`with_options`. In a long burst of
        submissions, a call takes 20 µs longer now and then, for the host thread to send tasks.

        The arguments are pickled now, and may be changed as soon as this returns: the task does
        not see it. Only while tasks that have not ended hold copies of more than 64 MiB, arrays of
        192 KiB or more are copied later, when the task is sent to a daemon, and must not be
        changed before. An array for many tasks is best passed through :meth:`MiraiExecutor.share`.

        With the executor's ``memory``, this waits until there is room for the call in the queue,
        and all is copied before it returns. In a callback of a future, on the thread that makes
        room, the call is queued without waiting, beyond the bound.

        Args:
            fn: The function. Lambdas, closures, and functions of scripts and notebooks work.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the call. If the function or an argument cannot be pickled, the future
            fails with a :class:`PayloadError` that names the object.

        Raises:
            TypeError: ``fn`` is not callable, or an argument is a future of ``concurrent.futures``
                or asyncio that cannot be sent: its result can.
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
        root = self._root()
        root._check_open()
        if not callable(fn):
            check_callable("submit", fn, "; code as a string goes to submit_source()")
        host, options = self._host, self._options
        if options.limits.concurrency > 1:
            options = _rarely().one_at_a_time(fn, options)
        id_ = host.next_id()
        future: MiraiFuture[Any] = MiraiFuture(
            id_,
            host,
            cancel_running=options.cancel_running,
            cancel_on_interrupt=options.cancel_on_interrupt,
        )
        if options.on_report is not None:
            future.on_report(options.on_report)
        given: dict[str, Any] = kwargs
        beside = options.context or options.limits.concurrency > 1
        if beside or root._streams is not None or TRACES in modules:
            given = _rarely().beside_call(root, future, fn, kwargs, options)
        if options.post_mortem and not host.is_inline:  # there, exceptions have their frames
            fn = _rarely().post_mortem(fn)
        host.submit(id_, future, fn, args, given, options.limits)
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
            TypeError: ``source`` is not a string, or a variable is a future that cannot be sent.
            SyntaxError: ``source`` is not valid Python.
            RuntimeError: The executor has been shut down, or the interpreter is shutting down.

        Example:
            >>> with MiraiExecutor(1) as executor:
            ...     executor.submit_source("import math; math.sqrt(x)", x=16).result()
            4.0
        """
        root = self._root()
        root._check_open()
        if not isinstance(source, str):
            raise TypeError(f"submit_source() takes Python code as a string, not {source!r:.60}")
        future = self._new_future()
        host, options = self._host, self._options
        if options.limits.concurrency > 1:
            options = _rarely().one_at_a_time(None, options)
        if options.on_report is not None:
            future.on_report(options.on_report)
        if options.context or TRACES in modules:
            variables = _rarely().with_around(root, future, None, variables, options)
        beside = {} if root._streams is None else root._streams.taken_from(variables)
        host.submit_source(future.id, future, source, variables, options.limits, beside)
        return future

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
            stopped, daemons that join later don't make the call either. With the option
            ``min_workers``, this waits until so many daemons are connected, for as long as the
            ``timeout`` says, of which they have then what is left.

        Raises:
            TypeError: The first argument is neither a function nor code, code was given
                positional arguments, or an argument is a future that cannot be sent.
            SyntaxError: The code is not valid Python.
            TimeoutError: There were not ``min_workers`` daemons in time. None makes the call.
            ValueError: There can never be so many.
            RuntimeError: The executor has been shut down.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     done = executor.everywhere("limit = 10")
            ...     executor.submit_source("limit + 1").result()
            11
        """
        self._root()._check_open()
        limits = self._options.limits
        if not isinstance(fn_or_source, str):
            check_callable("everywhere", fn_or_source, ", or code as a string")
        elif args:
            raise TypeError("code takes keyword arguments only: write everywhere('f(x)', x=1)")
        if self._options.min_workers:
            limits = _rarely().gather(self._root(), self._options)
        if self._options.context:
            kwargs = _rarely().in_context_of_now(kwargs, self._options)

        start = partial(self._start_everywhere, fn_or_source, args, limits)
        if TRACES not in modules:
            return start(kwargs)
        futures: list[MiraiFuture[Any]] = _rarely().everywhere_in_span(
            self._root(), fn_or_source, kwargs, start
        )
        return futures

    def _start_everywhere(
        self,
        fn_or_source: "Callable[..., Any] | str",
        args: tuple[Any, ...],
        limits: "Limits",
        given: dict[str, Any],
    ) -> list[MiraiFuture[Any]]:
        host, new_future = self._host, self._share_future
        try:
            if not isinstance(fn_or_source, str):
                return host.everywhere(fn_or_source, args, given, limits, new_future)
            return host.everywhere_source(fn_or_source, given, limits, new_future)
        except PayloadError as error:
            raise_if_misuse(error)
            raise

    def with_options(self, **options: "Unpack[TaskOptions]") -> "ExecutorView":
        """Return a view of this executor whose tasks have other limits.

        A view is cheap. It is an executor itself and shares the daemons; shutting it down does
        nothing. A view of a view keeps the options that are not given again.

        Args:
            **options: Any of ``timeout`` (seconds from submission until the task must be finished;
                None for no limit), ``run_timeout`` (seconds that it may run; None for no limit),
                ``retries`` (how often it is run again if its daemon is lost; exceptions of the
                task are never retried), ``cancel_running`` (whether ``future.cancel()`` stops a
                task that is running), ``cancel_on_interrupt`` (whether a KeyboardInterrupt that
                strikes while ``result()``, ``exception()``, ``concurrent.futures.wait`` or a
                ``map`` waits cancels what that waits for, and one that ends a cell of a notebook
                what the cell has submitted; by default only in IPython and notebooks),
                ``post_mortem`` (whether an exception that a function raises gets a note with the
                variables of its frames, at most 200 characters of each, and 50 of each frame),
                ``context`` (which variables of ``contextvars`` a task, or a call of
                :meth:`everywhere`, sees as they are when it is submitted: some, or True for all
                that are global variables of modules and whose values can be pickled; by default
                none), ``min_workers`` (how many daemons have to
                be connected before :meth:`everywhere` has them make a call), ``on_report`` (a
                function that is called with what each task reports, as by
                :meth:`MiraiFuture.on_report`), ``buffer`` (how many values :meth:`stream` may be
                ahead of those that have been taken, 16 by default), and ``concurrency`` (how many
                ``async def`` functions that were submitted with the same number may run at once
                on one daemon, 1 by default; others run one at a time).

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
        from ._around._options import changed

        return ExecutorView(self._root(), changed(self._options, options))

    def _new_future(self) -> MiraiFuture[Any]:
        return self._share_future(self._host)

    def _share_future(self, share: "Share | Host") -> MiraiFuture[Any]:
        options = self._options
        return MiraiFuture(
            self._host.next_id(),
            share,
            cancel_running=options.cancel_running,
            cancel_on_interrupt=options.cancel_on_interrupt,
        )

    def __reduce__(self) -> Any:
        # Libraries pickle their executor along with a task (lmfit, mystic, tornado).
        from ._inert import InertExecutor

        return InertExecutor, ()


class ExecutorView(Submitter):
    """An executor on the daemons of another, with options of its own; see ``with_options``.

    It has all methods that submit work. What is about the daemons, such as ``status()``,
    ``share()`` and ``restart()``, has its place at the executor itself.
    """

    def __init__(self, executor: "HostOwner", options: Options) -> None:
        super().__init__(executor._host, options)
        self._executor = executor

    @property
    def _max_workers(self) -> int:
        return self._executor._max_workers

    def shutdown(
        self, wait: bool = True, *, cancel_futures: bool = False, cancel_running: bool = False
    ) -> None:
        """Do nothing: the daemons belong to the executor that this is a view of."""

    def _root(self) -> "HostOwner":
        return self._executor

    def __repr__(self) -> str:
        return f"<ExecutorView of {self._executor!r} with {self._options}>"


def _rarely() -> Any:
    """Return the room of what only some tasks have, which takes time to import."""
    from ._around import _options as room

    return room
