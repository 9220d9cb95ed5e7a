"""Makes the spans of a daemon, where it has a tracer (OpenTelemetry).

::

    daemon connect ◄──── daemon eval ... ◄──── daemon disconnect      links
                              │
                         the trace that the task was submitted in     its parent
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CoroutineType

from mirai_executor._payload.common.around import Around
from mirai_executor._typing import TYPE_CHECKING, Any
from mirai_executor._version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

_TRACER = ("mirai_executor", __version__)  # the instrumentation scope of all our spans

# The tracer that was asked for last, with the provider that has made it.
_known: "list[tuple[object, Tracer]]" = []
# How this daemon is connected, once it has a span for that: what begins the names of the two
# spans, their attributes, and a link to the first one.
_connection: "tuple[str, Mapping[str, Any], Link] | None" = None


def tracer() -> "Tracer | None":
    """Return what makes spans; None as long as nobody would see them."""
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return None
    if not (_known and _known[0][0] is provider):
        _known[:] = [(provider, provider.get_tracer(*_TRACER))]
    return _known[0][1]


# Tasks


class Traced(Around):
    """Calls functions in a span ``daemon eval``, where their daemon has a tracer.

    Args:
        carrier: The trace context of the submission, as the host's propagators write it.
        attributes: What is known of the task.
    """

    def __init__(self, carrier: Mapping[str, str], attributes: Mapping[str, Any]) -> None:
        self.carrier = carrier
        self.attributes = attributes

    def run(self, fn: Callable[..., object], *args: Any, **kwargs: Any) -> object:
        """Call a function, and tell of its error; of a coroutine, once it has been awaited."""
        try:
            from opentelemetry import propagate, trace
        except ImportError:  # a daemon elsewhere need not have it
            return fn(*args, **kwargs)
        parent = propagate.extract(self.carrier)
        span = trace.get_tracer(*_TRACER).start_span(
            "daemon eval",
            parent,
            kind=trace.SpanKind.SERVER,
            attributes={**self.attributes, "process.pid": os.getpid()},
            links=None if _connection is None else [_connection[2]],
        )
        there = trace.set_span_in_context(span, parent)
        value: object = None
        try:
            with _at_work(span, there):
                value = fn(*args, **kwargs)
        finally:
            if type(value) is not CoroutineType:
                span.end()
        return _awaited(span, there, value) if type(value) is CoroutineType else value


async def _awaited(span: "Span", there: "Context", coroutine: Any) -> object:
    try:
        with _at_work(span, there):
            return await coroutine
    finally:
        span.end()


@contextmanager
def _at_work(span: "Span", there: "Context") -> Iterator[None]:
    """Have what happens in the block be in the span, and an error that leaves it be told there."""
    from opentelemetry import context

    token = context.attach(there)
    try:
        yield
    except BaseException as error:
        span.record_exception(error)
        fail_span(span, error)
        raise
    finally:
        context.detach(token)


def fail_span(span: "Span", error: BaseException) -> None:
    """Have a span say that it, or its task, has failed."""
    from opentelemetry.trace import Status, StatusCode

    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    span.set_attribute("error.type", name)
    span.set_status(Status(StatusCode.ERROR, f"{kind.__name__}: {error}"))


# The daemon itself


def connected(url: str, attributes: Mapping[str, Any]) -> None:
    """Make the span of a connection; called on a daemon that is to get its first task now.

    Args:
        url: Where daemons connect; empty for those of the host's machine, which have pipes.
        attributes: What there is to say of that place, and of the executor.
    """
    global _connection  # a daemon has one
    try:
        from opentelemetry.trace import Link
    except ImportError:  # as above
        return
    if (here := tracer()) is None:
        return
    attributes = {**attributes, "process.pid": os.getpid()}
    span = here.start_span(f"daemon connect {url}".rstrip(), attributes=attributes)
    span.end()
    _connection = url, attributes, Link(span.get_span_context())


def disconnected() -> None:
    """Make the span of its end, if there was one of its begin; called on a daemon that leaves."""
    if _connection is None or (here := tracer()) is None:
        return
    url, attributes, link = _connection
    name = f"daemon disconnect {url}".rstrip()
    here.start_span(name, attributes=attributes, links=[link]).end()
