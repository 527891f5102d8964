"""Ids, money, usage."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.clock import ManualClock
from core.ids import new_id
from core.money import Money, Price
from core.usage import Usage


def test_ids_are_unique_and_say_what_they_are() -> None:
    ids = {new_id("doc") for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(made.startswith("doc_") and len(made) == 30 for made in ids)


@given(st.decimals(min_value=-1_000_000, max_value=1_000_000, places=9))
def test_dollars_survive_the_way_to_nano_dollars_and_back(usd: Decimal) -> None:
    assert Money.from_usd(usd).usd == usd


def test_tenths_add_up_as_floats_do_not() -> None:
    assert Money.from_usd("0.1") + Money.from_usd("0.2") == Money.from_usd("0.3")


@given(st.lists(st.integers(min_value=-(2**60), max_value=2**60)))
def test_the_order_of_a_sum_does_not_matter(amounts: list[int]) -> None:
    assert sum(map(Money, amounts), Money()) == sum(map(Money, reversed(amounts)), Money())


def test_a_cost_is_rounded_up_and_cached_tokens_are_never_dearer() -> None:
    price = Price(prompt=150_001, cached=75_000, completion=600_000)
    assert price.nano_usd(Usage(1, 0)) == 151  # 150.001 nano-dollars
    assert price.nano_usd(Usage(10, 2, 4)) == 2401  # 6 at 150.001, 4 at 75, 2 at 600
    assert price.nano_usd(Usage(2, 0, 100)) == 150  # no more can be cached than was read
    assert Price(prompt=100, cached=200).nano_usd(Usage(1000, 0, 1000)) == 100


def test_usage_reads_openais_object_and_counts_what_is_missing_as_nothing() -> None:
    read = Usage.from_openai(
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    )
    assert read == Usage(7, 3, 4)
    assert read.as_openai() == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert Usage.from_openai({"prompt_tokens": None, "completion_tokens": "x"}) == Usage()
    assert Usage(1, 2, 0) + Usage(3, 4, 1) == Usage(4, 6, 1)


def test_a_manual_clock_never_goes_back() -> None:
    clock = ManualClock(10.0)
    clock.advance(2.5)
    assert clock.time() == clock.monotonic() == 12.5
    with pytest.raises(ValueError, match="moves forward"):
        clock.advance(-1)
