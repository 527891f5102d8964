"""What the metrics say of ledger lines, by tenant."""

import subprocess
import sys
from pathlib import Path

from prometheus_client import Counter

from api.ledger.counts import SpentCounts
from api.ledger.line import Line
from monitoring import metrics
from tests.support.process import ROOT


def line(tenant: str, request: str, segment: int = 0) -> Line:
    return Line(
        request, segment, tenant, "/v1/chat/completions", "g", "g-1", 1.0,
        tokens_in=7, tokens_cached=2, tokens_out=3, nano_usd=500_000_000, outcome="ok", status=200,
    )  # fmt: skip


def told(metric: Counter, *labels: str) -> float:
    return float(metric.labels(*labels)._value.get())


def test_as_many_tenants_as_are_allowed_have_series_of_their_own() -> None:
    counts = SpentCounts(2)
    before = told(metrics.TENANT_REQUESTS, "other")
    counts.note([line("ten_a", "1"), line("ten_b", "2"), line("ten_c", "3")])
    counts.note([line("ten_a", "4"), line("ten_a", "4", segment=1), line("ten_d", "5")])
    assert told(metrics.TENANT_REQUESTS, "ten_a") == 2
    assert told(metrics.TENANT_REQUESTS, "ten_b") == 1
    assert told(metrics.TENANT_REQUESTS, "other") - before == 2
    assert told(metrics.TENANT_USD, "ten_a") == 1.5
    assert [told(metrics.TENANT_TOKENS, "ten_a", way) for way in ("in", "cached", "out")] == [21, 6, 9]
    assert ("ten_c",) not in metrics.TENANT_REQUESTS._metrics


def test_none_has_unless_that_is_allowed() -> None:
    SpentCounts(0).note([line("ten_nobody", "1")])
    assert ("ten_nobody",) not in metrics.TENANT_REQUESTS._metrics


def test_the_bound_holds_over_keepers(tmp_path: Path) -> None:
    code = (
        "import sys; from api.ledger.counts import SpentCounts; from monitoring import metrics; "
        "from tests.unit.ledger.test_counts import line; "
        "SpentCounts(2).note([line(name, name) for name in sys.argv[1:]]); "
        "print(*sorted({one.labels['tenant'] for one in metrics.samples_of(metrics.TENANT_REQUESTS)}))"
    )
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PATH": ""}
    told = [
        subprocess.run(
            [sys.executable, "-c", code, *names], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        ).stdout.split()
        for names in (("a", "b"), ("c", "a"))
    ]
    assert told == [["a", "b"], ["a", "b", "other"]]
