"""Traces on their way to an OpenTelemetry collector, over OTLP in its HTTP form, by OpenTelemetry's own SDK.

Its batches leave from a thread of its own; where the collector is slow or away, what does not fit into its queue of
2,048 spans is dropped, and no request waits.
"""

import logging
import socket
from collections.abc import Sequence
from itertools import count
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from monitoring.tracing.spans import MOST_SPANS, Span, Value

_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "consumer": SpanKind.CONSUMER,
}
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("stoker")
_DEADLINE_S = 5.0


class Exporter:
    """A `Sink`. The headers that a collector wants are read from `OTEL_EXPORTER_OTLP_HEADERS`."""

    def __init__(self, process: str, endpoint: str) -> None:
        # A line for each batch that a collector does not take would fill the log of a long outage.
        lines = count()
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(lambda _: next(lines) % 100 == 0)
        # Whatever else the variables of the environment ask of the SDK, a trace here says who told it.
        self._resource = Resource.create(
            {"service.name": f"stoker-{process}", "service.namespace": "stoker", "host.name": socket.gethostname()}
        )
        address = f"{endpoint.rstrip('/')}/v1/traces"
        self._batches = BatchSpanProcessor(OTLPSpanExporter(endpoint=address, timeout=_DEADLINE_S))

    def take(self, spans: Sequence[Span]) -> None:
        """Queue them."""
        for span in spans:
            self._batches.on_end(self._written(span, spans))

    def close(self) -> None:
        """Send what is queued, for some seconds at most, whatever the SDK's own patience is."""
        thread = Thread(target=self._batches.shutdown, daemon=True)
        thread.start()
        thread.join(_DEADLINE_S)

    def _attributes(self, span: Span) -> dict[str, Value]:
        """What is known of it; a prompt that can't be shown, such as one nested too deeply, must harm no request."""
        try:
            return dict(span.details()) if span.details is not None else {}
        except Exception as error:
            return {"stoker.undescribed": type(error).__name__}

    def _written(self, span: Span, spans: Sequence[Span]) -> ReadableSpan:
        attributes = self._attributes(span)
        trace, first = span.trace, span is spans[0]
        if first and len(spans) == MOST_SPANS:
            attributes["stoker.spans_left_out"] = True
        status = Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET)
        if span.error:
            attributes.setdefault("error.type", span.error)
        parent = SpanContext(trace.id, span.parent_id, is_remote=first, trace_flags=_SAMPLED)
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace.id, span.id, is_remote=False, trace_flags=_SAMPLED),
            parent=parent if span.parent_id else None,
            resource=self._resource,
            attributes=attributes,
            kind=_KINDS[span.kind],
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=_SCOPE,
        )
