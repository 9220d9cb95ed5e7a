"""A tracer for a process, whose spans stay in memory. Daemons import this module by name."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mirai_executor import mirai

EXPORTER = InMemorySpanExporter()


class _FileExporter(SpanExporter):
    """Appends spans to a file, a line each: also the last one of a process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        with self.path.open("a") as file:
            for span in spans:
                print(json.dumps(_told(span)), file=file)
        return SpanExportResult.SUCCESS


def trace_here(exporter: SpanExporter = EXPORTER) -> None:
    """Have this process keep its spans."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)


def trace_into(path: Path) -> None:
    """Have this process write its spans to a file."""
    trace_here(_FileExporter(path))


def trace_no_more() -> None:
    """Have this process forget its tracer, as OpenTelemetry's own tests do."""
    trace._TRACER_PROVIDER = None
    trace._TRACER_PROVIDER_SET_ONCE._done = False


def spans() -> list[dict[str, Any]]:
    """Return the spans that have ended here since the last call, as plain data."""
    ended = EXPORTER.get_finished_spans()
    EXPORTER.clear()
    return [_told(span) for span in ended]


def _told(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind.name,
        "id": span.context.span_id,
        "trace": span.context.trace_id,
        "parent": span.parent and span.parent.span_id,
        "links": [link.context.span_id for link in span.links],
        "attributes": dict(span.attributes),
        "status": (span.status.status_code.name, span.status.description),
        "events": [event.name for event in span.events],
        "scope": span.instrumentation_scope.name,
        "seconds": (span.end_time - span.start_time) / 1e9,
    }


def work_in_a_span() -> int:
    """Do something that makes a span of its own."""
    with trace.get_tracer("app").start_as_current_span("work"):
        return 5


async def work_in_a_loop() -> int:
    await asyncio.sleep(0)
    return work_in_a_span()


async def fail_in_a_loop() -> None:
    await asyncio.sleep(0)
    raise ZeroDivisionError


def current_trace() -> int:
    return int(trace.get_current_span().get_span_context().trace_id)


def nested() -> int:
    return mirai(abs, -1).result()
