"""Traces: what one request passed through, stage by stage, told to an OpenTelemetry collector.

A span of OpenTelemetry's SDK costs as much as half a request of the hot path, so spans are plain objects here, and only
those of traces that are kept become OpenTelemetry's (`exporting`). What is kept is settled at the end of a request: a
ration of ordinary ones for each second, chosen when they begin so that engines can be told, and those that failed or
were slow. Where nothing listens, `begin` gives None and everything else does nothing.

The GenAI semantic conventions, which still move, are in `genai` alone.
"""

from monitoring.tracing.opening import traced
from monitoring.tracing.spans import (
    Span,
    Value,
    begin,
    below,
    current_trace_id,
    finish,
    install,
    stage,
    start,
    traceparent,
)

__all__ = [
    "Span",
    "Value",
    "begin",
    "below",
    "current_trace_id",
    "finish",
    "install",
    "stage",
    "start",
    "traced",
    "traceparent",
]
