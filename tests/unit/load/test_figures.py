"""Figures of samples that are known, and the report of them."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.load.generator.answer import Failure, Sample
from tests.load.generator.counters import Counted, compared
from tests.load.generator.driver import Driven
from tests.load.generator.figures import Slo, figures
from tests.load.generator.plan import Plan, PlanInvalid
from tests.load.generator.report import table, write

_PLAN = Plan(seed=1, duration_s=10, rate=1, warmup_s=1, cooldown_s=1)


def _sample(at_s: float, first_s: float = 0.5, tokens: int = 4, gap_s: float = 0.1, **more: Any) -> Sample:
    """An answer whose frames hold two tokens each."""
    moments = [at_s + first_s + number * gap_s for number in range(tokens // 2)]
    given = {"tokens_s": moments, "output_tokens": tokens, "prompt_tokens": 10, "sent_s": at_s, **more}
    return Sample(0, "chat", at_s, ended_s=more.pop("ended_s", moments[-1]), **given)


def _found(samples: list[Sample], slo: Slo | None = None, cpu: float = 0.1) -> dict[str, Any]:
    return figures(_PLAN, slo or Slo(), [Driven(samples, cpu)])


def test_what_is_scheduled_while_it_warms_up_or_cools_down_is_not_measured() -> None:
    found = _found([_sample(0.5, 5.0), _sample(2.0), _sample(9.5, 5.0)])
    assert (found["requests"], found["ttft_s"]["max"], found["whole"]["requests"]) == (1, 0.5, 3)


def test_tokens_of_the_window_are_those_that_came_in_it() -> None:
    begun_before, over_after = _sample(0.8, 0.1, tokens=4, gap_s=0.2), _sample(8.0, 0.9, tokens=4, gap_s=0.2)
    found = _found([begun_before, over_after])
    assert found["output_tokens_per_s"] * 8 == pytest.approx(2 + 2), "a frame of each came in the window, of two tokens"
    assert found["whole"]["output_tokens"] == 8


def test_goodput_counts_answers_within_all_bounds_and_no_failure() -> None:
    samples = [
        _sample(2.0),
        _sample(3.0, 2.0),  # the first token is late
        _sample(4.0, 0.5, gap_s=3.0),  # the others are
        _sample(5.0, failure=Failure.TRUNCATED),
    ]
    found = _found(samples, Slo.parse(["ttft=1", "tpot=0.5"]))
    assert (found["good_share"], found["goodput_per_s"]) == (0.25, 1 / 8)
    assert _found(samples)["good_share"] == 0.75
    assert found["failures"] == {"truncated": 1}


def test_a_time_out_counts_with_the_time_that_was_waited() -> None:
    late = Sample(0, "chat", 2.0, ended_s=62.0, failure=Failure.TIMEOUT)
    refused = Sample(0, "chat", 2.0, ended_s=2.001, failure=Failure.STATUS, detail="503 overloaded")
    found = _found([_sample(3.0), late, refused])
    assert found["ttft_s"]["max"] == found["e2e_s"]["max"] == 60.0
    assert found["ttft_s"]["count"] == 2, "a refusal is quick, and no answer"
    assert found["failures"] == {"status 503 overloaded": 1, "timeout": 1}


def test_a_client_without_processor_to_spare_or_that_is_late_says_that_it_is_not_to_be_believed() -> None:
    calm = _found([_sample(2.0)])
    busy = _found([_sample(2.0)], cpu=0.95)
    late = _found([_sample(2.0, ready_s=0.2)])
    assert (calm["believable"], calm["warnings"]) == (True, [])
    for found in (busy, late):
        assert not found["believable"]
        assert "SATURATED" in found["warnings"][0]
        assert "--processes" in found["warnings"][0]


def test_answers_without_usage_are_said_to_be_uncounted() -> None:
    found = _found([_sample(2.0, output_tokens=None)])
    assert found["output_tokens_per_s"] == 0
    assert "1 answers named no usage" in found["warnings"][0]


def test_shares_of_caches_and_citations() -> None:
    found = _found(
        [
            _sample(2.0, cached_tokens=5, cache="exact", citations=1),
            _sample(3.0, cache="miss", citations=0),
            _sample(4.0),
        ]
    )
    assert found["cached_tokens_share"] == pytest.approx(5 / 30)
    assert (found["cache_hits_share"], found["cited_share"]) == (0.5, 0.5)


def test_engines_counters_are_held_against_the_answers() -> None:
    whole = {"prompt_tokens": 10, "output_tokens": 4, "failed": 0}
    before = Counted(100, 50)
    assert compared(before, Counted(110, 54), whole) == {"prompt_tokens": 10, "output_tokens": 4, "equal": True}
    assert compared(before, Counted(110, 55), whole) == {"prompt_tokens": 10, "output_tokens": 5, "equal": False}
    assert compared(before, Counted(110, 55), {**whole, "failed": 1})["equal"] is None  # type: ignore[index]
    assert compared(None, Counted(1, 1), whole) is None


@pytest.mark.parametrize("word", ["ttft", "ttft=", "ttft=x", "ttft=0", "ttft=-1", "ttft=inf", "ttft=nan", "p99=1"])
def test_a_bound_that_cannot_be_read_is_refused(word: str) -> None:
    with pytest.raises(PlanInvalid, match="--slo"):
        Slo.parse([word])


def test_the_report_is_whole_and_asks_no_other_host(tmp_path: Path) -> None:
    samples = [_sample(2.0), _sample(3.0, failure=Failure.STATUS, detail="503 overloaded")]
    driven = [Driven(samples, 0.1)]
    found = figures(_PLAN, Slo(ttft_s=1), driven)
    found["asked"] = {"model": "<script>alert(1)</script>"}
    found["engine"] = None
    files = write(tmp_path / "a" / "b", found, driven, rows=True)
    page = (tmp_path / "a" / "b" / "report.html").read_text()
    assert [file.name for file in files] == ["report.json", "report.html", "requests.csv"]
    assert json.loads(files[0].read_text())["requests"] == 2
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    plots = [part.partition("</svg>")[0] + "</svg>" for part in page.split("<svg")[1:]]
    assert len([ET.fromstring("<svg" + plot) for plot in plots]) == 4
    assert files[2].read_text().splitlines()[2].endswith("status 503 overloaded")
    assert "status 503 overloaded" in table(found)


def test_a_run_in_which_nothing_ended_well_still_has_a_report(tmp_path: Path) -> None:
    driven = [Driven([Sample(0, "chat", 2.0, ended_s=2.0, failure=Failure.CONNECT)], 0.1)]
    found = figures(_PLAN, Slo(), driven)
    write(tmp_path, found, driven)
    assert not found["believable"]
    assert "connect" in table(found)
