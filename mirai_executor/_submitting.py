"""Submits calls, code and maps to a host, with the limits of an executor or of a view of it."""

import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ._admitting import AdmittingExecutor
from ._arguments import (
    check_callable,
    check_count,
    check_flag,
    check_map,
    check_options,
    check_seconds,
)
from ._host import Host, Limits
from ._seeding import SeededExecutor
from .futures import MiraiFuture

if TYPE_CHECKING:
    from typing import TypedDict, Unpack

    from ._host import Share
    from ._lifetime import HostOwner

    class TaskOptions(TypedDict, total=False):
        """The fields of ``Limits``, any of which may be given."""

        timeout: float | None
        run_timeout: float | None
        retries: int
        cancel_running: bool
        cancel_on_interrupt: bool
        post_mortem: bool


__all__ = ["ExecutorView", "Submitter"]

P = ParamSpec("P")
T = TypeVar("T")

_NOTHING: dict[str, Any] = {}


class Submitter(SeededExecutor, AdmittingExecutor):
    """What an executor and its views have in common.

    Args:
        host: Runs the tasks.
        limits: What each of them may take.
    """

    def __init__(self, host: Host, limits: Limits) -> None:
        self._host = host
        self._limits = limits

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

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> MiraiFuture[T]:
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
        root = self._root()
        root._check_open()
        if not callable(fn):
            check_callable("submit", fn, "; code as a string goes to submit_source()")
        host, limits = self._host, self._limits
        id_ = host.next_id()
        future: MiraiFuture[T] = MiraiFuture(
            id_,
            host,
            cancel_running=limits.cancel_running,
            cancel_on_interrupt=limits.cancel_on_interrupt,
        )
        if limits.post_mortem:
            fn = _post_mortem(fn)
        given: dict[str, Any] = kwargs
        if root._streams is not None:
            given = root._streams.added_to(given)
        host.submit(id_, future, fn, args, given, limits)
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
        root = self._root()
        root._check_open()
        if not isinstance(source, str):
            raise TypeError(f"submit_source() takes Python code as a string, not {source!r:.60}")
        future = self._new_future()
        beside = {} if root._streams is None else root._streams.taken_from(variables)
        self._host.submit_source(future.id, future, source, variables, self._limits, beside)
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
            TypeError: ``fn`` is not callable, an argument is not iterable, or a size is not an
                integer.
            ValueError: ``chunksize`` or ``buffersize`` is smaller than 1.
            TimeoutError: Raised by the iterator when ``timeout`` has passed. Tasks that have not
                started are then cancelled, as they are when the iterator is dropped.

        Example:
            >>> with MiraiExecutor(2) as executor:
            ...     list(executor.map(pow, range(5), [2] * 5))
            [0, 1, 4, 9, 16]
        """
        from . import _map  # many use no map

        check_map(fn, iterables, timeout, chunksize, buffersize)
        streams = self._root()._streams
        beside = repeat(_NOTHING) if streams is None else streams.of_map(chunksize)
        if chunksize == 1:
            calls = zip(*iterables, strict=False)
            return _map.MapResults(_submitter(self, fn, calls, beside), buffersize, timeout)
        run: Callable[..., list[T]]
        if len(iterables) == 1:  # then the items need no tuples, which take time to pickle
            items = iterables[0]
            run = _map.run_items if streams is None else _map.run_seeded_items
        else:
            run = _map.run_chunk if streams is None else _map.run_seeded_chunk
            items = zip(*iterables, strict=False)
        lists = zip(_map.chunks(items, chunksize))
        submit_next = _submitter(self, partial(run, fn), lists, beside)
        return _map.flatten(_map.MapResults(submit_next, buffersize, timeout))

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
                task are never retried), ``cancel_running`` (whether ``future.cancel()`` stops a
                task that is running), ``cancel_on_interrupt`` (whether a KeyboardInterrupt that
                strikes while ``result()``, ``exception()`` or a ``map`` waits cancels that future,
                or the rest of the map; by default only in IPython and notebooks), and
                ``post_mortem`` (whether an exception that a function raises gets a note with the
                variables of its frames, at most 200 characters of each, and 50 of each frame).

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
        check_flag("cancel_running", limits.cancel_running)
        return ExecutorView(self._root(), limits)

    def _new_future(self) -> MiraiFuture[Any]:
        return self._share_future(self._host)

    def _share_future(self, share: "Share | Host") -> MiraiFuture[Any]:
        limits = self._limits
        return MiraiFuture(
            self._host.next_id(),
            share,
            cancel_running=limits.cancel_running,
            cancel_on_interrupt=limits.cancel_on_interrupt,
        )

    def __reduce__(self) -> Any:
        # Libraries pickle their executor along with a task (lmfit, mystic, tornado).
        from ._inert import InertExecutor

        return InertExecutor, ()


class ExecutorView(Submitter):
    """An executor on the daemons of another, with limits of its own; see ``with_options``."""

    def __init__(self, executor: "HostOwner", limits: Limits) -> None:
        super().__init__(executor._host, limits)
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
        return f"<ExecutorView of {self._executor!r} with {self._limits}>"


def _submitter(
    face: Submitter,
    fn: Callable[..., T],
    calls: Iterator[tuple[Any, ...]],
    beside: Iterator[dict[str, Any]],
) -> Callable[[], Future[T] | None]:
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
            return ExecutorView(executor, limits).submit(fn, *args, **next(beside))
        # By its public name: tqdm replaces it on the instance.
        return executor.submit(fn, *args, **next(beside))

    return submit_next


def _post_mortem(fn: Callable[..., T]) -> Callable[..., T]:
    from ._payload.common.postmortem import PostMortem  # which few ask for

    wrapped: Any = PostMortem(fn)
    return wrapped  # type: ignore[no-any-return]  # it can be called as fn can
