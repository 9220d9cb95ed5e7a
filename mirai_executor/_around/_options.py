"""What the options of a view of an executor mean for its tasks, where they are given at all."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mirai_executor._arguments import (
    check_count,
    check_flag,
    check_options,
    check_seconds,
)
from mirai_executor._host import TRACES as TRACES
from mirai_executor._host import Limits, Options

if TYPE_CHECKING:
    from contextvars import ContextVar

    from mirai_executor._host import TaskOptions as TaskOptions
    from mirai_executor._lifetime import HostOwner
    from mirai_executor._payload.common.around import Around
    from mirai_executor.futures import MiraiFuture

# Its functions call the one that they are given first.
_ELEMENTS = "mirai_executor._maps._elements"


def _check_listener(name: str, value: object) -> None:
    if not (value is None or callable(value)):
        raise TypeError(f"{name} must be a function or None, not {value!r:.60}")


_NAMES = (*Limits._fields, *Options._fields[1:])
_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "timeout": partial(check_seconds, optional=True),
    "run_timeout": partial(check_seconds, optional=True),
    "retries": check_count,
    "concurrency": partial(check_count, least=1),
    "cancel_running": check_flag,
    "cancel_on_interrupt": check_flag,
    "post_mortem": check_flag,
    "min_workers": check_count,
    "buffer": partial(check_count, least=1),
    "on_report": _check_listener,
}


def changed(options: Options, given: "TaskOptions") -> Options:
    """Return options of which some are others.

    Raises:
        TypeError: There is no such option, or it has the wrong type.
        ValueError: It is out of range.
    """
    check_options(given, _NAMES)
    if "context" in given:  # for who goes on with them, too: it may be an iterator
        given["context"] = _checked_context(given["context"])
    limits: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for name, value in given.items():
        if (check := _CHECKS.get(name)) is not None:
            check(name, value)
        (limits if name in Limits._fields else others)[name] = value
    if limits:
        others["limits"] = options.limits.changed(**limits)
    return options.changed(**others)


def check_task_options(options: "TaskOptions") -> "TaskOptions":
    """Return options of tasks if they can be some; raises as :func:`changed`."""
    changed(Options(), options)
    return options


def _checked_context(context: Any) -> "bool | tuple[ContextVar[Any], ...]":
    if isinstance(context, bool):
        return context
    from contextvars import ContextVar

    variables = tuple(context) if hasattr(type(context), "__iter__") else (None,)
    if not all(isinstance(variable, ContextVar) for variable in variables):
        raise TypeError(
            f"context must be True, False or a list of ContextVar objects, not {context!r:.60}"
        )
    return variables


def post_mortem(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose errors tell of the variables of their frames."""
    from mirai_executor._payload.common.postmortem import PostMortem  # which few ask for

    return PostMortem(fn)


def one_at_a_time(fn: Callable[..., Any] | None, options: Options) -> Options:
    """Return the options of a task that no other may join, unless its function is ``async def``.

    Args:
        fn: The function; None for code.
        options: How it is to run.
    """
    from inspect import iscoroutinefunction

    if hasattr(fn, "pickled_payload"):  # it was taken as it is, for many calls
        fn = getattr(fn, "__wrapped__", fn)
    while type(fn) is partial:
        is_of_ours = fn.args and getattr(fn.func, "__module__", None) == _ELEMENTS
        fn = fn.args[0] if is_of_ours else fn.func
    is_async = iscoroutinefunction(fn) or iscoroutinefunction(type(fn).__call__)
    return options if is_async else options.changed(limits=options.limits.changed(concurrency=1))


def is_traced() -> bool:
    """Tell whether tasks are spans."""
    if TRACES not in sys.modules:
        return False
    from ._tracing import is_on  # as below

    return is_on()


def everywhere_in_span(
    executor: "HostOwner",
    fn_or_source: "Callable[..., Any] | str",
    kwargs: dict[str, Any],
    start: Callable[[dict[str, Any]], "list[MiraiFuture[Any]]"],
) -> "list[MiraiFuture[Any]]":
    """Have all daemons make a call by ``start``, in a span of its own if the program traces."""
    from ._tracing import traced_everywhere  # as above

    named = None if isinstance(fn_or_source, str) else fn_or_source
    return traced_everywhere(executor, named, kwargs, start)


def beside_call(
    executor: "HostOwner",
    future: "MiraiFuture[Any]",
    fn: Callable[..., Any],
    kwargs: dict[str, Any],
    options: Options,
) -> dict[str, Any]:
    """Do as :func:`with_around`, and add the stream of random numbers, if there is a seed."""
    if options.context or options.limits.concurrency > 1 or TRACES in sys.modules:
        kwargs = with_around(executor, future, fn, kwargs, options)
    streams = executor._streams
    return kwargs if streams is None else streams.added_to(kwargs)


def with_around(
    executor: "HostOwner",
    future: "MiraiFuture[Any]",
    fn: Callable[..., Any] | None,
    kwargs: dict[str, Any],
    options: Options,
) -> dict[str, Any]:
    """Return keyword arguments, or the variables of code, with what stands around the call.

    Args:
        executor: Runs the task.
        future: Ends with it.
        fn: Its function; None for code.
        kwargs: What it is called with.
        options: How it runs.
    """
    around: list[Around] = []
    if options.limits.concurrency > 1:
        from mirai_executor._payload.common.company import InCompany  # as below

        around.append(InCompany(future.id))
    if TRACES in sys.modules:
        from ._tracing import traced  # as above

        if (span := traced(executor, future, fn)) is not None:
            around.append(span)
    if options.context:
        from mirai_executor._payload.host.context import in_context  # as above

        around.append(in_context(options.context))
    if not around:
        return kwargs
    from mirai_executor._payload.common.entries import AROUND

    return {**kwargs, AROUND: around}


def in_context_of_now(kwargs: dict[str, Any], options: Options) -> dict[str, Any]:
    """Return keyword arguments, or the variables of code, with the context that these ask for."""
    from mirai_executor._payload.common.entries import AROUND
    from mirai_executor._payload.host.context import in_context  # as above

    return {**kwargs, AROUND: [in_context(options.context)]}


def gather(executor: "HostOwner", options: Options) -> Limits:
    """Wait for as many daemons as have to be there; return the limits from then on.

    Raises:
        TimeoutError: They have not come in time.
        ValueError: There can never be so many.
    """
    since, limits, least = time.monotonic(), options.limits, options.min_workers
    if executor._launching is None and least > executor._max_workers:
        raise ValueError(
            f"min_workers is {least}, but there are {executor._max_workers} daemons "
            "at most; create the executor with more, or call launch_local(n)"
        )
    executor._host.wait_ready(least, limits.timeout)
    if limits.timeout is None:
        return limits
    return limits.changed(timeout=max(1e-3, limits.timeout - (time.monotonic() - since)))
