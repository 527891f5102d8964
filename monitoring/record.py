"""The record of one request: filled on the way, and read once, at the end, by metrics and log."""

import logging
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import Counter, Histogram

from core.usage import Usage
from monitoring import metrics
from monitoring.logs import write_line
from monitoring.series import found_once
from monitoring.tally import tally
from monitoring.tracing import Span
from monitoring.tracing import finish as finish_trace
from monitoring.tracing.spans import Value

UNMATCHED = "unmatched"


@dataclass(slots=True)
class RequestRecord:
    """What happened to one request. Times are readings of one monotonic clock, in seconds.

    Attributes:
        route: the route's template, never the raw path.
        model_group: the group that was asked for, set only once the router knows it.
        deployment: the one that answered.
        fallback: the group that answered instead of the one asked for.
        error_code: the `code` of the error envelope that was sent.
        span: of the whole request; None: traces are off.
    """

    request_id: str
    method: str
    started_s: float
    route: str = UNMATCHED
    status: int = 0
    tenant_id: str | None = None
    key_id: str | None = None
    model_group: str | None = None
    deployment: str | None = None
    fallback: str | None = None
    usage: Usage = field(default_factory=Usage)
    first_token_s: float | None = None
    ended_s: float = 0.0
    client_left: bool = False
    degraded: bool | None = None
    error_code: str | None = None
    span: Span | None = None

    @property
    def duration_s(self) -> float:
        return self.ended_s - self.started_s

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_token_s is None else self.first_token_s - self.started_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; None unless the answer was streamed and had two."""
        if self.first_token_s is None or self.usage.completion_tokens < 2:
            return None
        return (self.ended_s - self.first_token_s) / (self.usage.completion_tokens - 1)


def finish(record: RequestRecord, ended_s: float) -> None:
    """Close the record and derive from it what is counted and logged; call it once, in `finally`."""
    record.ended_s = ended_s
    tally.add(_requests(record.route, record.method, record.status))
    tally.observe(_seconds(record.route), record.duration_s)
    if record.model_group is not None:
        _count_tokens(record, record.model_group)
    if record.degraded is not None:
        metrics.ANSWERS.labels(str(record.degraded).lower()).inc()
    write_line(
        logging.ERROR if record.status >= 500 else logging.INFO,
        "request",
        {
            "request_id": record.request_id,
            "method": record.method,
            "route": record.route,
            "status": record.status,
            "duration_ms": round(record.duration_s * 1000, 2),
            **_known(record),
        },
    )
    if record.span is not None:
        record.span.name = f"{record.method} {record.route}"
        record.span.details = partial(_attributes, record)
        finish_trace(record.span, record.error_code or str(record.status) if record.status >= 500 else "")


# Finding a series by its labels costs more than counting in it.
@found_once
def _requests(route: str, method: str, status: int) -> Counter:
    return metrics.REQUESTS.labels(route, method, str(status))


@found_once
def _seconds(route: str) -> Histogram:
    return metrics.REQUEST_SECONDS.labels(route)


@found_once
def _tokens(group: str) -> tuple[Counter, Counter, Counter, Histogram, Histogram]:
    return (
        metrics.TOKENS.labels(group, "in"),
        metrics.TOKENS.labels(group, "cached"),
        metrics.TOKENS.labels(group, "out"),
        metrics.TTFT_SECONDS.labels(group),
        metrics.TPOT_SECONDS.labels(group),
    )


def count_tokens(group: str, usage: Usage) -> None:
    """Count the tokens of a call that is not the request's own, such as one that works on its question."""
    tokens_in, cached, tokens_out, _, _ = _tokens(group)
    tally.add(tokens_in, usage.prompt_tokens)
    if usage.cached_tokens:
        tally.add(cached, usage.cached_tokens)
    tally.add(tokens_out, usage.completion_tokens)


def _count_tokens(record: RequestRecord, group: str) -> None:
    count_tokens(group, record.usage)
    _, _, _, ttft, tpot = _tokens(group)
    if record.ttft_s is not None:
        tally.observe(ttft, record.ttft_s)
    if record.tpot_s is not None:
        tally.observe(tpot, record.tpot_s)
    if record.fallback is not None:
        metrics.FALLBACKS.labels(group, record.fallback).inc()


def _known(record: RequestRecord) -> dict[str, object]:
    """The optional fields that were filled."""
    usage = record.usage
    fields: dict[str, object] = {
        "tenant": record.tenant_id,
        "key": record.key_id,
        "model_group": record.model_group,
        "deployment": record.deployment,
        "fallback": record.fallback,
        "tokens_in": usage.prompt_tokens or None,
        "tokens_out": usage.completion_tokens or None,
        "ttft_ms": None if record.ttft_s is None else round(record.ttft_s * 1000, 2),
        "client_left": record.client_left or None,
        "degraded": record.degraded,
        "error": record.error_code,
        "trace_id": None if record.span is None else f"{record.span.trace.id:032x}",
    }
    return {name: value for name, value in fields.items() if value is not None}


def _attributes(record: RequestRecord) -> dict[str, Value]:
    """Of the span, as the semantic conventions for HTTP servers name them, and ours."""
    found: dict[str, Value] = {
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.status,
    }
    own = {
        "stoker.request_id": record.request_id,
        "stoker.tenant": record.tenant_id,
        "stoker.key": record.key_id,
        "stoker.model_group": record.model_group,
        "stoker.deployment": record.deployment,
        "stoker.fallback": record.fallback,
        "stoker.degraded": record.degraded,
        "stoker.client_left": record.client_left or None,
        "stoker.error_code": record.error_code,
    }
    found.update({name: value for name, value in own.items() if value is not None})
    return found
