"""Makes spans of tasks, maps and profiles, where the program has a tracer (OpenTelemetry).

::

    the caller's span ─► mirai ───────────────────────► ends with the future
                           │ traceparent, in the task     links to
                           ▼                              ▼
                         daemon eval (at the daemon)    daemons set … daemons reset

Nothing here is imported unless the program has imported ``opentelemetry.trace``, and nothing is
done until it has set a provider of an SDK.
"""

import itertools
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry import propagate, trace

from ._payload.common.traced import TRACER, Traced, fail_span
from .errors import MiraiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._lifetime import HostOwner
    from ._mirai_map import MiraiMap
    from .futures import MiraiFuture

__all__ = ["Setting", "is_on", "traced", "traced_map"]

T = TypeVar("T")

_NO_SDK = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)

# The tracer that was asked for last, with the provider that has made it.
_known: list[tuple[trace.TracerProvider, trace.Tracer]] = []
# The "daemons set" of executors that are profiles, and what is known of them.
_set: "weakref.WeakKeyDictionary[HostOwner, tuple[trace.SpanContext, dict[str, Any]]]" = (
    weakref.WeakKeyDictionary()
)


def _tracer() -> trace.Tracer | None:
    """Return what makes spans; None as long as nobody would see them."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, _NO_SDK):
        return None
    if not (_known and _known[0][0] is provider):
        _known[:] = [(provider, provider.get_tracer(*TRACER))]
    return _known[0][1]


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


def _name_of(fn: Any) -> str:
    while isinstance(fn, partial):  # a chunk of a map is one: of ours, with the user's function
        ours = fn.func.__module__.startswith("mirai_executor.")
        fn = fn.args[0] if ours else fn.func
    fn = getattr(fn, "__wrapped__", fn)
    named = fn if hasattr(fn, "__qualname__") else type(fn)
    return f"{named.__module__}.{named.__qualname__}"


def _end(span: trace.Span, future: "MiraiFuture[Any]") -> None:
    """End the span of a task. Its result is not looked at: whoever asks for it decodes it."""
    if future.cancelled():
        span.set_attribute("error.type", "concurrent.futures.CancelledError")
        span.set_status(trace.Status(trace.StatusCode.ERROR, "cancelled"))
    elif (end := future._end) is not None and end[2] and (error := future.exception()):
        fail_span(span, error)
        if isinstance(error, MiraiError) and future.code is not None:
            span.set_attribute("mirai.code", future.code)
    span.end()


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
    try:
        with trace.use_span(span):
            started = start()
    except BaseException:
        span.end()
        raise
    left = itertools.count(len(started), -1)

    def end_after_the_last(_: object) -> None:
        if next(left) == 0:
            span.end()

    for future in list(started._futures):
        future.add_done_callback(end_after_the_last)
    end_after_the_last(None)  # for there may be no element
    return started


# Profiles


class Setting:
    """The setting of a profile, or its reset, from when this is made."""

    def __init__(self) -> None:
        self._began = time.time_ns()

    def is_done(self, executor: "HostOwner", compute: str, *, dispatcher: bool) -> None:
        """Note a profile, for the spans of its tasks to refer to."""
        if (tracer := _tracer()) is None:
            return
        attributes = {"mirai.compute": compute, "mirai.dispatcher": dispatcher, **_place(executor)}
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


def _place(executor: "HostOwner") -> dict[str, Any]:
    """Return where daemons connect, in the words of the semantic conventions."""
    if executor.url is None:
        return {"network.transport": "pipe"}
    from .urls import Url

    url = Url.parse(executor.url)
    place: dict[str, Any] = {"url.scheme": url.scheme, "server.address": url.host or url.path}
    if url.host:
        place["server.port"] = url.port
    place["network.transport"] = "tcp" if url.host else "unix"
    return place
