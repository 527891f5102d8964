"""Lines of the ledger for tests."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from api.ledger.line import Line
from core.money import Price

PRICE = Price(prompt=150_000, cached=75_000, completion=600_000)
NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC

_LINE = Line(
    request_id="req_1",
    segment=0,
    tenant_id="default",
    route="/v1/chat/completions",
    model_group="words",
    deployment="words-1",
    at=NOON,
    key_id="key_1",
)

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
_COUNTS = st.integers(0, 10**9)
LINES = st.builds(
    Line,
    request_id=_TEXTS,
    segment=st.integers(0, 9),
    tenant_id=_TEXTS,
    route=_TEXTS,
    model_group=_TEXTS,
    deployment=_TEXTS,
    at=st.floats(0, 4e9),
    user_id=st.none() | _TEXTS,
    team_id=st.none() | _TEXTS,
    key_id=st.none() | _TEXTS,
    tokens_in=_COUNTS,
    tokens_cached=_COUNTS,
    tokens_out=_COUNTS,
    nano_usd=_COUNTS,
    cache=st.sampled_from(["off", "miss", "hit"]),
    outcome=st.sampled_from(["ok", "client_left", "failed", "lost"]),
    status=st.integers(0, 599),
    latency_ms=st.floats(0, 1e6),
    ttft_ms=st.none() | st.floats(0, 1e6),
    nano_usd_saved=_COUNTS,
)


def a_line(request_id: str = "req_1", **fields: Any) -> Line:
    """A line that has begun."""
    return replace(_LINE, request_id=request_id, **fields)


def finished(line: Line, tokens_in: int = 7, tokens_out: int = 3, **fields: Any) -> Line:
    """The same line when it ended well."""
    return replace(line, **{"tokens_in": tokens_in, "tokens_out": tokens_out, "outcome": "ok", "status": 200, **fields})


class LoggedErrors(list[str]):
    """Stands in for a module's logger, and keeps its errors."""

    def error(self, event: str, **fields: object) -> None:
        self.append(event)
