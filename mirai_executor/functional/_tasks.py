"""Runs tasks on the daemons of the current profile, or of an executor for single tasks.

All functions of this module are safe from any thread.
"""

import functools
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from mirai_executor._around._options import check_task_options
from mirai_executor.executor import MiraiExecutor
from mirai_executor.futures import MiraiFuture

from ._profiles import current_or_none, executor_for

if TYPE_CHECKING:
    from typing import Unpack

    from mirai_executor._around._options import TaskOptions
    from mirai_executor._maps._mirai_map import MiraiMap
    from mirai_executor._submitting import ExecutorView

P = ParamSpec("P")
T = TypeVar("T")

# By process, since a forked child has none: what starts daemons for single tasks, while some run.
_ephemeral: dict[int, weakref.ref[MiraiExecutor]] = {}
_MOST_EPHEMERAL = 64  # daemons at once
_DESCRIPTORS = 16  # for each: it takes 6 at its host, which has other uses for them


@overload
def mirai(source: str, /, **variables: Any) -> MiraiFuture[Any]: ...
@overload
def mirai(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> MiraiFuture[T]: ...
def mirai(fn_or_source: "Callable[..., Any] | str", /, *args: Any, **kwargs: Any) -> Any:
    """Run a call, or code, on a daemon of the current profile, and return its future at once.

    If no daemons are set, a daemon is started for this task alone, and ends with it. There are at
    most 64 of those at once, fewer where this process may open fewer than 1024 files; further
    tasks wait. Every keyword argument belongs to the function; to set a timeout or retries, use
    :func:`mirai_with`. Safe from any thread.

    Args:
        fn_or_source: A function, or Python code as a string. The value of code is that of its last
            line, if that is an expression.
        *args: The arguments of the function; code has none.
        **kwargs: The keyword arguments of the function, or the variables of the code.

    Returns:
        The future of the task.

    Raises:
        TypeError: The first argument is neither a function nor code, code was given positional
            arguments, or an argument is a future that cannot be sent: its result can.
        SyntaxError: The code is not valid Python.
        DaemonsNotSetError: The current profile is not the default one, and has been reset.
        LaunchError: No daemon can be started.

    Example:
        >>> mirai(pow, 2, 10).result()
        1024
        >>> mirai("x + y", x=1, y=2).result()
        3
    """
    return _run(fn_or_source, args, kwargs)


def mirai_with(**options: "Unpack[TaskOptions]") -> "MiraiWith":
    """Return a :func:`mirai` whose tasks have limits, also where no daemons are set.

    Args:
        **options: Those of :meth:`MiraiExecutor.with_options`, such as ``timeout`` in seconds.

    Returns:
        What is called as :func:`mirai` is, any number of times, from any thread.

    Raises:
        TypeError: There is no such option, or it has the wrong type.
        ValueError: It is out of range.

    Example:
        >>> import time
        >>> type(mirai_with(timeout=0.2)(time.sleep, 3600).exception())
        <class 'mirai_executor.errors.TaskTimeoutError'>
    """
    return MiraiWith(check_task_options(options))


class MiraiWith:
    """What :func:`mirai_with` returns."""

    def __init__(self, options: "TaskOptions") -> None:
        self._options = options

    @overload
    def __call__(self, source: str, /, **variables: Any) -> MiraiFuture[Any]: ...
    @overload
    def __call__(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> MiraiFuture[T]: ...
    def __call__(self, fn_or_source: Any, /, *args: Any, **kwargs: Any) -> Any:
        return _run(fn_or_source, args, kwargs, self._options)


def _run(
    fn_or_source: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: "TaskOptions | None" = None,
) -> MiraiFuture[Any]:
    known = current_or_none()
    executor = _ephemeral_executor() if known is None else known
    view = executor if options is None else executor.with_options(**options)
    future = _submit(view, fn_or_source, args, kwargs)
    if known is None:
        # Until then, the task keeps it: with the last of them it shuts down, as it is dropped.
        future.add_done_callback(functools.partial(_let_go, executor))
    return future


@overload
def try_mirai(source: str, /, **variables: Any) -> MiraiFuture[Any] | None: ...
@overload
def try_mirai(
    fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> MiraiFuture[T] | None: ...
def try_mirai(fn_or_source: "Callable[..., Any] | str", /, *args: Any, **kwargs: Any) -> Any:
    """Do as :func:`mirai`, unless the queue of the profile has no room: then return None.

    A profile has a bound if it was given one: ``daemons(n, memory=...)``. There, :func:`mirai`
    waits until there is room. A call that is turned away takes no random numbers of a ``seed``.

    Args:
        fn_or_source: As for :func:`mirai`.
        *args: The arguments of the function; code has none.
        **kwargs: The keyword arguments of the function, or the variables of the code.

    Returns:
        The future of the task, or None.

    Raises:
        TypeError: As for :func:`mirai`; so with all other errors.

    Example:
        >>> with daemons(1, memory=10_000_000):
        ...     future = try_mirai(pow, 2, 10)
        ...     None if future is None else future.result()
        1024
    """
    executor = current_or_none()
    if executor is None:
        return mirai(fn_or_source, *args, **kwargs)
    _check_call("try_mirai", fn_or_source, args)
    if isinstance(fn_or_source, str):
        return executor.try_submit_source(fn_or_source, **kwargs)
    return executor.try_submit(fn_or_source, *args, **kwargs)


class _Ephemeral(MiraiExecutor):
    """Gives each task a daemon of its own. It may use all processors: often there is no other."""

    _shares_processors = False


def _ephemeral_executor() -> MiraiExecutor:
    """Return the executor whose daemons run one task each."""
    known = _ephemeral.get(pid := os.getpid())
    executor = None if known is None else known()
    if executor is None:
        made = _Ephemeral(_most_ephemeral(), name="ephemeral", cleanup=True, max_tasks_per_child=1)
        # Of several threads that come here at the same time, most find that of the last one.
        _ephemeral[pid] = weakref.ref(made)
        executor = _ephemeral[pid]() or made
    return executor


def _most_ephemeral() -> int:
    import resource  # Windows has none; and not before it is needed

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _MOST_EPHEMERAL
    return max(1, min(_MOST_EPHEMERAL, limit // _DESCRIPTORS))


def _let_go(executor: MiraiExecutor, future: object) -> None:
    """Do nothing: the partial that calls this is gone with the task, and with it a reference."""


def everywhere(
    fn_or_source: "Callable[..., Any] | str", /, *args: Any, **kwargs: Any
) -> list[MiraiFuture[Any]]:
    """Run a call, or code, once on each daemon of the current profile.

    It also runs on each daemon that joins later, before any task. What it changes in ``__main__``
    stays there; the cleanup between tasks does not undo it.

    Args:
        fn_or_source: As for :func:`mirai`, but code runs in the daemon's ``__main__`` itself.
        *args: The arguments of the function; code has none.
        **kwargs: The keyword arguments of the function, or the variables of the code.

    Returns:
        One future for each daemon that is running or starting.

    Raises:
        DaemonsNotSetError: The current profile has no daemons.
        TypeError: The first argument is neither a function nor code, code was given positional
            arguments, or an argument is a future that cannot be sent: its result can.

    Example:
        >>> with daemons(2):
        ...     done = everywhere("limit = 10")
        ...     mirai("limit + 1").result()
        11
    """
    _check_call("everywhere", fn_or_source, args)
    return executor_for().everywhere(fn_or_source, *args, **kwargs)


def mirai_map(
    xs: Any,
    fn: Callable[..., T],
    *,
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    on_result: Callable[[Any, T], object] | None = None,
    on_error: Callable[[Any, BaseException], object] | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> "MiraiMap[T]":
    """Call a function with each element, on the daemons of the current profile.

    The arguments are those of :meth:`MiraiExecutor.mirai_map`.

    Args:
        xs: The elements: of an iterable; the values of a mapping, whose keys the results keep;
            the rows of a frame, as keyword arguments; or of an array, as positional ones.
        fn: Called with each element.
        args: Further positional arguments, the same for all.
        kwargs: Further keyword arguments, the same for all.
        timeout: Seconds that each element may run; None for no limit.
        on_result: Called with the key or place of each element, and its value.
        on_error: Called with the key or place of each element that has failed, and its error.
        on_progress: Called with how many elements have ended, and how many there are.

    Returns:
        A :class:`MiraiMap`, to be collected, iterated over or awaited.

    Raises:
        DaemonsNotSetError: The current profile has no daemons. Unlike :func:`mirai`, this starts
            none: a daemon for each element would not end well.
        TypeError: ``fn`` is not callable, ``xs`` has no elements, or another argument has the
            wrong type.
        ValueError: ``timeout`` is not positive.

    Example:
        >>> with daemons(2):
        ...     mirai_map([1, 2, 3], pow, args=(2,)).collect()
        [1, 4, 9]
    """
    return executor_for().mirai_map(
        xs,
        fn,
        args=args,
        kwargs=kwargs,
        timeout=timeout,
        on_result=on_result,
        on_error=on_error,
        on_progress=on_progress,
    )


def _submit(
    executor: "MiraiExecutor | ExecutorView",
    fn_or_source: "Callable[..., Any] | str",
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> MiraiFuture[Any]:
    _check_call("mirai", fn_or_source, args)
    if isinstance(fn_or_source, str):
        return executor.submit_source(fn_or_source, **kwargs)
    return executor.submit(fn_or_source, *args, **kwargs)


def _check_call(call: str, fn_or_source: object, args: tuple[Any, ...]) -> None:
    if isinstance(fn_or_source, str):
        if args:
            raise TypeError(f"code takes keyword arguments only: write {call}('f(x)', f=f, x=1)")
    elif not callable(fn_or_source):
        # `mirai(f(x))` has called f already; a daemon could not tell.
        raise TypeError(
            f"{call}() takes a function and its arguments, or code as a string: write "
            f"{call}(f, x) or {call}('f(x)', f=f, x=x), not {call}(f(x)); got {fn_or_source!r:.60}"
        )
