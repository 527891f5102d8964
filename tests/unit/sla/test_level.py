"""Percentiles are those of Prometheus, and shares are of what there was."""

import math
import random
from pathlib import Path

import pytest
import yaml

from api.sla.counting import Reading, class_of, increase
from api.sla.report import Level
from monitoring.metrics import LATENCY_S
from tests.support.promtool import promtool

_BOUNDS = (*map(float, LATENCY_S), math.inf)


def test_percentiles_computed_by_hand() -> None:
    # 60 within 0.1 to 0.25 s, 40 within 1 to 2.5 s: the 50th is 50/60 through those, the 95th 35/40 through these.
    level = Level(requests=100, latencies={0.25: 60, 2.5: 40})
    assert level.quantile(0.5) == pytest.approx(0.1 + 0.15 * 50 / 60)
    assert level.quantile(0.95) == pytest.approx(1 + 1.5 * 35 / 40)
    assert level.quantile(0.99) == pytest.approx(1 + 1.5 * 39 / 40)
    assert Level(latencies={0.005: 4}).quantile(0.5) == 0.0025, "the first bucket begins at 0"
    assert Level(latencies={0.005: 1, math.inf: 99}).quantile(0.5) == 600, "beyond the last bound nothing is known"
    assert Level().quantile(0.5) is None


def test_percentiles_are_those_of_prometheus(tmp_path: Path) -> None:
    chance, tests = random.Random(7), []
    for _ in range(40):
        held = {bound: chance.choice((0, 0, 1, chance.randrange(10_000))) for bound in _BOUNDS}
        level, below, series = Level(latencies=held), 0, []
        for bound, count in held.items():
            below += count
            le = "+Inf" if math.isinf(bound) else f"{bound:g}"
            series.append({"series": f'x_bucket{{le="{le}"}}', "values": str(below)})
        asked = [
            {
                "expr": f"round(histogram_quantile({share}, x_bucket) * 1e6)",
                "eval_time": "0m",
                "exp_samples": [{"labels": "{}", "value": round(told * 1e6)}],
            }
            for share in (0.5, 0.95, 0.99)
            if (told := level.quantile(share)) is not None
        ]
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": asked})
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
    done = promtool("test", "rules", "tests.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_error_budget_is_a_thousandth_of_the_requests() -> None:
    assert Level(requests=10_000, errors=4).budget_left == pytest.approx(0.6)
    assert Level(requests=10_000, errors=25).budget_left == pytest.approx(-1.5)
    assert Level(requests=10_000, errors=25).error_rate == 0.0025
    assert (Level().budget_left, Level().error_rate, Level().uptime) == (None, None, None)


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/query/ws", "query"),
        ("/v1/admin/limits/{kind}/{subject_id:path}", "admin"),
        ("/v1/search", "search"),
        ("/health/ready", None),
        ("unmatched", None),
    ],
)
def test_a_routes_class_is_its_first_word_and_what_is_no_api_has_none(route: str, found: str | None) -> None:
    assert class_of(route) == found


def test_what_was_counted_before_is_not_counted_again_unless_the_folder_was_cleared() -> None:
    before = Reading("a", {"chat": {"requests": 10, "errors": 1}, "query": {"requests": 5}})
    now = Reading("a", {"chat": {"requests": 13, "errors": 1}, "query": {"requests": 5}, "search": {"requests": 2}})
    assert increase(before, now) == {"chat": {"requests": 3}, "search": {"requests": 2}}
    assert increase(now, now) == {}
    assert increase(before, Reading("b", now.counts)) == now.counts, "another folder's counters began at 0"
    fallen = Reading("a", {"chat": {"requests": 99}, "query": {"requests": 4}})
    assert increase(before, fallen) == fallen.counts, "a counter that fell began at 0, and so did all others"
