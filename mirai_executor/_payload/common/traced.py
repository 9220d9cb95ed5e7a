"""Has a task be a span of the trace that it was submitted in (OpenTelemetry)."""

import os
from collections.abc import Callable, Mapping

from mirai_executor._payload.common.around import Around
from mirai_executor._typing import TYPE_CHECKING, Any
from mirai_executor._version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["TRACER", "Traced", "fail_span"]

TRACER = ("mirai_executor", __version__)  # the instrumentation scope of all our spans


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
        """Call a function, and tell of its error."""
        try:
            from opentelemetry import context, propagate, trace
        except ImportError:  # a daemon elsewhere need not have it
            return fn(*args, **kwargs)
        tracer = trace.get_tracer(*TRACER)
        token = context.attach(propagate.extract(self.carrier))
        try:
            with tracer.start_as_current_span(
                "daemon eval",
                kind=trace.SpanKind.SERVER,
                attributes={**self.attributes, "process.pid": os.getpid()},
                record_exception=False,  # nor what is no Exception, otherwise
                set_status_on_exception=False,
            ) as span:
                try:
                    return fn(*args, **kwargs)
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
