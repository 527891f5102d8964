"""Where text may go: what both allow, and nothing else, however it is written down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.reach import ANYWHERE, HEADER, HOME, Reach

PROVIDERS = ("azure", "bedrock", "openai")
REGIONS = ("eu", "eu-west", "eu-west-1", "europe", "us", "us_east")

reaches = st.builds(
    Reach,
    st.none() | st.frozensets(st.sampled_from(PROVIDERS)),
    st.none() | st.frozensets(st.sampled_from(REGIONS)),
)


@given(reaches, reaches, st.sampled_from(PROVIDERS), st.none() | st.sampled_from((*REGIONS, "eu-west-1-a", "eur")))
def test_two_together_allow_what_both_allow(one: Reach, other: Reach, provider: str, region: str | None) -> None:
    both = one.allows(provider, region) and other.allows(provider, region)
    assert one.narrowed(other).allows(provider, region) is both
    assert other.narrowed(one).allows(provider, region) is both


@given(reaches)
def test_it_is_read_as_it_was_written(reach: Reach) -> None:
    assert Reach.read(reach.row()) == reach
    said = reach.header()
    assert (Reach.asked(said[HEADER]) if said else ANYWHERE) == reach
    assert reach.narrowed(ANYWHERE) == ANYWHERE.narrowed(reach) == reach


@given(reaches, st.sampled_from(PROVIDERS), st.none() | st.sampled_from(REGIONS))
def test_at_home_nothing_is_allowed(reach: Reach, provider: str, region: str | None) -> None:
    assert not HOME.narrowed(reach).allows(provider, region)
    assert HOME.narrowed(reach).local_only


def test_a_region_stands_for_those_within_it_and_for_no_others() -> None:
    eu = Reach(regions=frozenset({"eu"}))
    assert eu.allows("bedrock", "eu-west-1")
    assert eu.allows("bedrock", "eu")
    for other in ("europe-west4", "us-east-1", "e", None):
        assert not eu.allows("bedrock", other)


@pytest.mark.parametrize("text", ["", "everywhere", "providers", "providers=a; providers=b", "models=a", "local;"])
def test_a_header_that_says_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Reach.asked(text)


def test_a_header_may_say_home_or_nobody() -> None:
    assert Reach.asked(" local ") == Reach.asked("providers=") == HOME
    assert Reach.asked("providers=azure, openai;regions=eu").providers == {"azure", "openai"}
