"""Spans of one process, noted as cheaply as Python can, and handed on when their trace is over and to be kept."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from random import getrandbits
from time import time_ns
from types import TracebackType
from typing import Literal, Protocol, Self

from monitoring.metrics import TRACES
from monitoring.tally import tally
from monitoring.tracing.ration import Ration

Kind = Literal["internal", "server", "client", "consumer"]
Value = str | bool | int | float | list[str]

MOST_SPANS = 1000  # of one trace; what begins after them is left out
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NS_PER_S = 1_000_000_000


class Trace:
    """What one request of this process passes through.

    Attributes:
        id: 128 bits; the caller's where it sent one.
        sampled: it is to be kept however it ends, and whoever is asked is told so.
        over: nothing is added any more.
    """

    __slots__ = ("failed", "id", "over", "sampled", "spans")

    def __init__(self, trace_id: int, *, sampled: bool) -> None:
        self.id = trace_id
        self.sampled = sampled
        self.failed = False
        self.over = False
        self.spans: list[Span] = []


class Span:
    """One stage. Times are nanoseconds since the epoch.

    Attributes:
        parent_id: 64 bits; 0: it has none.
        details: gives what is known of it, for a trace that is kept.
        error: what went wrong, in a word; empty: nothing.
    """

    __slots__ = ("details", "end_ns", "error", "id", "kind", "name", "parent_id", "start_ns", "trace")

    def __init__(self, trace: Trace, name: str, kind: Kind, parent_id: int) -> None:
        self.trace = trace
        self.name = name
        self.kind: Kind = kind
        self.id = getrandbits(64) or 1
        self.parent_id = parent_id
        self.details: Callable[[], Mapping[str, Value]] | None = None
        self.error = ""
        self.end_ns = 0
        self.start_ns = time_ns()
        if len(trace.spans) < MOST_SPANS:
            trace.spans.append(self)

    def end(self, error: str = "") -> None:
        """Once; a second call does nothing."""
        if not self.end_ns:
            self.end_ns = time_ns()
            if error:
                self.error, self.trace.failed = error, True


class Sink(Protocol):
    """Takes traces that are kept."""

    def take(self, spans: Sequence[Span]) -> None:
        """All of one trace, its first span first, all ended; must not block, nor raise."""
        ...


@dataclass(frozen=True, slots=True)
class _Tracing:
    sink: Sink
    ordinary: Ration
    notable: Ration
    slow_ns: int
    text: bool


_OUTCOMES = {kept: TRACES.labels(kept) for kept in ("sampled", "failed", "slow", "left out")}
_NOTABLE = 4  # times as many traces of failed, slow or foreign requests as ordinary ones

_tracing: _Tracing | None = None
_current: ContextVar[Span | None] = ContextVar("span", default=None)


def install(sink: Sink | None, per_second: float = 0.0, slow_s: float = 0.0, *, text: bool = False) -> None:
    """Have traces of this process noted; None: none are.

    Args:
        per_second: ordinary traces that are kept; of those that failed, took `slow_s` or whose caller wants them kept,
            four times as many.
        text: spans may show prompts and questions.
    """
    global _tracing
    notable = Ration(_NOTABLE * per_second)
    _tracing = None if sink is None else _Tracing(sink, Ration(per_second), notable, int(slow_s * _NS_PER_S), text)


def shows_text() -> bool:
    """Whether spans may show prompts and questions."""
    return _tracing is not None and _tracing.text


def begin(name: str, kind: Kind = "server", parent: str = "") -> Span | None:
    """Begin a trace, and make its first span the current one of this task.

    Args:
        parent: the caller's `traceparent` of W3C Trace Context, version 00 or later; what is none is left alone. Where
            it says that the caller keeps no trace, this one is kept only if it fails or is slow.
    """
    tracing = _tracing
    if tracing is None:
        return None
    found = _PARENT.fullmatch(parent) if parent else None
    trace_id, parent_id = (int(found[2], 16), int(found[3], 16)) if found and found[1] != "ff" else (0, 0)
    if found and trace_id and parent_id:
        sampled = bool(int(found[4], 16) & 1) and tracing.notable.spend()
    else:
        trace_id, parent_id, sampled = getrandbits(128) or 1, 0, tracing.ordinary.spend()
    span = Span(Trace(trace_id, sampled=sampled), name, kind, parent_id)
    _current.set(span)
    return span


def finish(root: Span, error: str = "") -> None:
    """End a trace with its first span; what has not ended by now ends here."""
    root.end(error)
    trace = root.trace
    trace.over, spans, trace.spans = True, trace.spans, []
    tracing, kept = _tracing, "left out"
    if tracing is not None:
        if trace.sampled:
            kept = "sampled"
        elif (trace.failed or root.end_ns - root.start_ns >= tracing.slow_ns) and tracing.notable.spend():
            kept = "failed" if trace.failed else "slow"
        if kept != "left out":
            for span in spans:
                span.end()
            tracing.sink.take(spans)
    for span in spans:  # a connection that was opened meanwhile keeps the context in which it was, and so its span
        span.details = None
    tally.add(_OUTCOMES[kept])
    if _current.get() is root:
        _current.set(None)


def start(name: str, kind: Kind = "internal") -> Span | None:
    """Begin a span below the current one, which stays the current one; whoever begins it ends it."""
    above = _current.get()
    if above is None or above.trace.over:
        return None
    return Span(above.trace, name, kind, above.id)


class stage:  # noqa: N801 - used as a function is
    """A span around a `with` block, below which others come; of an error that passes its class is noted."""

    __slots__ = ("_above", "_kind", "_name", "span")

    def __init__(self, name: str, kind: Kind = "internal") -> None:
        self._name = name
        self._kind: Kind = kind
        self.span: Span | None = None

    def __enter__(self) -> Self:
        self._above = above = _current.get()
        if above is not None and not above.trace.over:
            self.span = Span(above.trace, self._name, self._kind, above.id)
            _current.set(self.span)
        return self

    def describe(self, details: Callable[[], Mapping[str, Value]]) -> None:
        """Have it called for what is known of the span, if the trace is kept."""
        if self.span is not None:
            self.span.details = details

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        span = self.span
        if span is not None:
            span.end("" if kind is None or not issubclass(kind, Exception) else kind.__name__)
            if _current.get() is span:  # a generator may be closed by another task than it was run by
                _current.set(self._above)


class below:  # noqa: N801 - used as a function is
    """What begins within a `with` block stands below this span; None: below the current one."""

    __slots__ = ("_above", "_span")

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._above = _current.get()
        if self._span is not None:
            _current.set(self._span)

    def __exit__(self, *_: object) -> None:
        _current.set(self._above)


def traceparent(span: Span | None = None) -> str:
    """What whoever is asked is told of this span, or of the current one; empty: there is none."""
    span = span or _current.get()
    if span is None or span.trace.over:
        return ""
    return f"00-{span.trace.id:032x}-{span.id:016x}-{'01' if span.trace.sampled else '00'}"


def current_trace_id() -> str:
    """In hexadecimal, as logs name it; empty: there is none."""
    span = _current.get()
    return "" if span is None or span.trace.over else f"{span.trace.id:032x}"
