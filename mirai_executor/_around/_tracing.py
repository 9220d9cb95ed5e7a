"""Makes spans of what an executor and its profile do, where the program has a tracer.

::

    the caller's span ─► mirai ───────────────────────► ends with the future
                           │ traceparent, in the task     links to
                           ▼                              ▼
                         daemon eval (at the daemon)    daemons set … daemons reset

Nothing here is imported unless the program has imported ``opentelemetry.trace``, and nothing is
done until it has set a provider of an SDK. What daemons do of this is in a room of the payload.
"""

import itertools
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import propagate, trace

from mirai_executor._host import address_attributes
from mirai_executor._payload.common.entries import AROUND
from mirai_executor._payload.common.traced import Traced, fail_span
from mirai_executor._payload.common.traced import tracer as _tracer
from mirai_executor.errors import MiraiError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from mirai_executor._lifetime import HostOwner
    from mirai_executor._maps._mirai_map import MiraiMap
    from mirai_executor.futures import MiraiFuture

T = TypeVar("T")

# The "daemons set" of executors that are profiles, and what is known of them.
_set: "weakref.WeakKeyDictionary[HostOwner, tuple[trace.SpanContext, dict[str, Any]]]" = (
    weakref.WeakKeyDictionary()
)


# Tasks


def is_on() -> bool:
    """Tell whether the program has set a provider of an SDK."""
    return _tracer() is not None


def traced(executor: "HostOwner", future: "MiraiFuture[Any]", named: object) -> Traced | None:
    """Begin the span of a task; return what stands around its call then.

    Args:
        executor: Runs it.
        future: Ends with it, and so does the span.
        named: The function that the user has submitted; None for code.
    """
    tracer = _tracer()
    if tracer is None:
        return None
    attributes = {"mirai.id": future.id, **_attributes(executor, named)}
    span = tracer.start_span(
        "mirai", kind=trace.SpanKind.CLIENT, attributes=attributes, links=_links(executor)
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    future.add_done_callback(partial(_end, span))
    return Traced(carrier, attributes)


def _attributes(executor: "HostOwner", named: object) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if executor._name is not None:
        attributes["mirai.compute"] = executor._name
    if named is not None:
        attributes["code.function.name"] = _name_of(named)
    return attributes


def _links(executor: "HostOwner") -> list[trace.Link] | None:
    known = _set.get(executor)
    return None if known is None else [trace.Link(known[0])]


_DEEPEST = 100  # functions in each other: some objects have each attribute that they are asked for


def _name_of(fn: Any) -> str:
    for _ in range(_DEEPEST):
        if isinstance(fn, partial):  # a chunk of a map is one: of ours, with the user's function
            ours = str(fn.func.__module__).startswith("mirai_executor.")
            fn = fn.args[0] if ours else fn.func
        elif hasattr(fn, "__wrapped__"):  # as what is pickled once for many calls
            fn = fn.__wrapped__
        else:
            break
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{named.__module__ or 'builtins'}.{named.__qualname__}"  # as {}.get has no module


def _end(span: trace.Span, future: "MiraiFuture[Any]") -> None:
    _tell_of_end(span, future)
    span.end()


def _tell_of_end(span: trace.Span, future: "MiraiFuture[Any]") -> None:
    """Tell how it has ended. Its result is not looked at: whoever asks for it decodes it."""
    if future.cancelled():
        span.set_attribute("error.type", "concurrent.futures.CancelledError")
        span.set_status(trace.Status(trace.StatusCode.ERROR, "cancelled"))
    elif (end := future._end) is not None and end[2] and (error := future.exception()):
        fail_span(span, error)
        if isinstance(error, MiraiError) and future.code is not None:
            span.set_attribute("mirai.code", future.code)


# Maps


def traced_map(
    executor: "HostOwner", named: object, start: "Callable[[], MiraiMap[T]]"
) -> "MiraiMap[T]":
    """Start a map, in a span that is the parent of those of its elements.

    Args:
        executor: Runs the elements.
        named: The function that the user has given.
        start: Submits the elements. The span ends with the last of them.
    """
    tracer = _tracer()
    if tracer is None:
        return start()
    attributes = _attributes(executor, named)
    span = tracer.start_span("mirai_map", attributes=attributes, links=_links(executor))
    started = _in_span(span, start)
    _end_after_all(span, list(started._futures), lambda _: None)
    return started


def traced_everywhere(
    executor: "HostOwner",
    named: object,
    kwargs: dict[str, Any],
    start: "Callable[[dict[str, Any]], list[MiraiFuture[T]]]",
) -> "list[MiraiFuture[T]]":
    """Have all daemons make a call, in a span that is the parent of theirs.

    Args:
        executor: Has the daemons.
        named: The function that the user has given; None for code.
        kwargs: The keyword arguments of the call, or the variables of the code.
        start: Has it be made with these. The span ends with the last daemon of now.
    """
    tracer = _tracer()
    if tracer is None:
        return start(kwargs)
    attributes = _attributes(executor, named)
    span = tracer.start_span("everywhere", attributes=attributes, links=_links(executor))
    carrier: dict[str, str] = {}
    propagate.inject(carrier, trace.set_span_in_context(span))
    around = [Traced(carrier, attributes)]
    given = {**kwargs, AROUND: [*around, *kwargs.get(AROUND, ())]}
    futures = _in_span(span, lambda: start(given))
    _end_after_all(span, futures, partial(_tell_of_end, span))
    return futures


def _in_span(span: trace.Span, step: "Callable[[], T]") -> T:
    """Do something in a span, which only an error ends; it is told there."""
    try:
        with trace.use_span(span):
            return step()
    except BaseException:
        span.end()
        raise


def _end_after_all(
    span: trace.Span,
    futures: "Sequence[Future[Any]]",
    tell: "Callable[[Any], object]",
) -> None:
    """End a span once all futures have ended; ``tell`` is called with each of them before."""
    left = itertools.count(len(futures), -1)

    def end_after_the_last(future: object) -> None:
        if future is not None:
            tell(future)
        if next(left) == 0:
            span.end()

    for future in futures:
        future.add_done_callback(end_after_the_last)
    end_after_the_last(None)  # for there may be none


# Profiles


class Setting:
    """The setting of a profile, or its reset, from when this is made."""

    def __init__(self) -> None:
        self._began = time.time_ns()

    def is_done(self, executor: "HostOwner", compute: str, *, dispatcher: bool) -> None:
        """Note a profile, for the spans of its tasks to refer to."""
        if (tracer := _tracer()) is None:
            return
        attributes = {
            "mirai.compute": compute,
            "mirai.dispatcher": dispatcher,
            **address_attributes(executor.url),
        }
        span = tracer.start_span(
            _with_url("daemons set", executor), attributes=attributes, start_time=self._began
        )
        span.end()
        _set[executor] = span.get_span_context(), attributes

    def is_undone(self, executor: "HostOwner") -> None:
        """Note the end of a profile."""
        known = _set.pop(executor, None)
        if known is None or (tracer := _tracer()) is None:
            return
        context, attributes = known
        tracer.start_span(
            _with_url("daemons reset", executor),
            attributes=attributes,
            links=[trace.Link(context)],
            start_time=self._began,
        ).end()


def _with_url(name: str, executor: "HostOwner") -> str:
    return name if executor.url is None else f"{name} {executor.url}"
