"""Growth between two scrapes: never negative, and quantiles as Prometheus reckons them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.counting import Growth, Scrape

_VALUES = st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e9, allow_nan=False), max_size=4)


def scrape(at_s: float = 0.0, **values: float) -> Scrape:
    lines = ["# TYPE seen_total counter", *(f'seen_total{{who="{who}"}} {value!r}' for who, value in values.items())]
    return Scrape.read("\n".join(lines) + "\n", at_s)


def histogram(at_s: float, counts: dict[str, float], group: str = "a") -> Scrape:
    lines = [f'took_seconds_bucket{{group="{group}",le="{le}"}} {count}' for le, count in counts.items()]
    total = counts.get("+Inf", 0)
    return Scrape.read(
        "\n".join(["# TYPE took_seconds histogram", *lines, f'took_seconds_count{{group="{group}"}} {total}', ""]), at_s
    )


def test_a_rate_is_the_growth_of_all_series_by_the_time_between() -> None:
    grown = Growth(scrape(10.0, a=5, b=100), scrape(14.0, a=9, b=100, c=8))
    assert grown.seconds == 4.0
    assert grown.rate("seen_total") == 3.0  # one that came new has grown from nothing
    assert grown.rate("seen_total", who="a") == 1.0
    assert grown.of("seen_total", lambda labels: labels["who"] in "ab") == 4.0
    assert grown.of("never_total") == 0.0


def test_a_source_that_was_started_again_has_grown_from_nothing() -> None:
    """Also in series that have passed their old values meanwhile."""
    grown = Growth(scrape(0.0, a=50, b=2), scrape(2.0, a=6, b=4))
    assert grown.of("seen_total", who="a") == 6.0
    assert grown.of("seen_total", who="b") == 4.0


def test_one_counter_of_many_that_fell_has_begun_anew_alone() -> None:
    """Regression: one series that fell had all others counted from nothing, and a frame showed all of their past."""
    grown = Growth(scrape(0.0, a=50, b=1000, c=2000), scrape(2.0, a=6, b=1010, c=2020))
    assert [grown.of("seen_total", who=who) for who in "abc"] == [6.0, 10.0, 20.0]


def test_a_histogram_among_many_counters_begins_anew_as_a_whole() -> None:
    def both(at_s: float, seen: float, *counts: float) -> Scrape:
        parts = histogram(at_s, dict(zip(("1.0", "2.0", "+Inf"), counts, strict=True))).values
        return Scrape(at_s, {**parts, **scrape(at_s, a=seen, b=2 * seen, c=3 * seen).values})

    grown = Growth(both(0.0, 100, 5, 10, 10), both(1.0, 110, 6, 8, 8))
    assert grown.of("seen_total") == 60.0
    assert grown.quantile(0.75, "took_seconds") == 1.0


@pytest.mark.parametrize(("started", "expected"), [(7.0, 4.0), (8.0, 9.0)], ids=["the same", "another"])
def test_a_process_that_says_when_it_started_is_believed(started: float, expected: float) -> None:
    """Even where every counter has passed its old value, or where one has fallen."""

    def said(at_s: float, value: float, started: float) -> Scrape:
        return Scrape(at_s, {**scrape(at_s, a=value).values, "process_start_time_seconds": {frozenset(): started}})

    assert Growth(said(0.0, 5, 7.0), said(1.0, 9, started)).of("seen_total") == expected


@given(_VALUES, _VALUES, st.floats(0.001, 100))
def test_no_rate_is_ever_negative(before: dict[str, float], now: dict[str, float], seconds: float) -> None:
    grown = Growth(scrape(0.0, **before), scrape(seconds, **now))
    for labels in ({}, *({"who": who} for who in "abcd")):
        assert 0 <= grown.rate("seen_total", **labels) < math.inf


def test_a_sum_over_processes_that_differs_in_its_last_digit_is_no_restart() -> None:
    assert Growth(scrape(0.0, a=0.1 + 0.2, b=7), scrape(1.0, a=0.3, b=8)).of("seen_total") == 1.0


def test_no_time_has_no_rate() -> None:
    assert Growth(scrape(1.0, a=1), scrape(1.0, a=2)).rate("seen_total") == 0.0


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.5, 1.0),  # the tenth of twenty: the first bucket's end
        (0.25, 0.5),
        (0.95, 2.8),  # the nineteenth: eight tenths of the way from 2 to 3
        (0.75, 2.0),
        (0.0, 0.0),
    ],
)
def test_a_quantile_lies_in_its_bucket_by_its_rank(share: float, expected: float) -> None:
    before = histogram(0.0, {"1.0": 100, "2.0": 100, "3.0": 100, "+Inf": 100})
    now = histogram(1.0, {"1.0": 110, "2.0": 115, "3.0": 120, "+Inf": 120})
    assert Growth(before, now).quantile(share, "took_seconds", group="a") == pytest.approx(expected)


def test_what_is_beyond_the_last_bound_is_told_as_that_bound_and_nothing_as_nothing() -> None:
    before = histogram(0.0, {"1.0": 0, "2.0": 0, "+Inf": 0})
    now = histogram(1.0, {"1.0": 1, "2.0": 1, "+Inf": 10})
    assert Growth(before, now).quantile(0.95, "took_seconds") == 2.0
    assert Growth(now, now).quantile(0.95, "took_seconds") is None
    assert Growth(before, now).quantile(0.95, "took_seconds", group="b") is None


def test_a_histogram_that_began_anew_counts_what_it_holds_now() -> None:
    before = histogram(0.0, {"1.0": 5, "2.0": 10, "+Inf": 10})
    now = histogram(1.0, {"1.0": 6, "2.0": 8, "+Inf": 8})  # its first bucket has passed the old one
    assert Growth(before, now).quantile(1.0, "took_seconds") == 2.0
    assert Growth(before, now).quantile(0.75, "took_seconds") == 1.0


def test_gauges_are_summed_or_the_largest_is_taken() -> None:
    text = '# TYPE full gauge\nfull{engine="0",model="m"} 0.25\nfull{engine="1",model="m"} 0.5\n'
    found = Scrape.read(text, 0.0)
    assert (found.total("full"), found.most("full"), found.most("full", engine="0")) == (0.75, 0.5, 0.25)
    assert (found.total("empty"), found.most("empty")) == (None, None)
    assert found.named("full", "engine") == {"0", "1"}


def test_what_is_no_text_of_prometheus_is_refused() -> None:
    with pytest.raises(ValueError):
        Scrape.read("<html>hello", 0.0)
