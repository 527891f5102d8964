"""Limits as they are written and shown: no digit of money is lost."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api.admission.meters import MAX_NANO_USD
from api.errors import RequestInvalid
from api.limits_form import LimitsForm, shown_limits
from core.limits import Limits

amounts = st.integers(0, MAX_NANO_USD)


@given(amounts)
def test_money_is_read_and_shown_to_the_last_nano_dollar(nano_usd: int) -> None:
    text = shown_limits(Limits(nano_usd_per_day=nano_usd))["usd_per_day"]
    assert LimitsForm(usd_per_day=text).usd_per_day == nano_usd
    assert LimitsForm(usd_per_day=Decimal(nano_usd).scaleb(-9)).usd_per_day == nano_usd


@pytest.mark.parametrize(
    ("written", "nano_usd"),
    [("0.1", 100_000_000), (3, 3_000_000_000), ("1e-9", 1), ("0", 0), (Decimal("2.50"), 2_500_000_000), (None, None)],
)
def test_forms_of_money(written: object, nano_usd: int | None) -> None:
    assert LimitsForm.model_validate({"usd_per_month": written}).usd_per_month == nano_usd


@pytest.mark.parametrize(
    "written",
    [0.5, True, "", "x", "1,5", "NaN", "Infinity", "-1", "0.0000000001", "1e400", "1e-400", "9" * 41, [], 10**9 + 1],
)
def test_money_that_would_be_rounded_or_is_none_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        LimitsForm.model_validate({"usd_per_day": written})


def test_what_is_written_changes_what_was_and_the_rest_stays() -> None:
    base = Limits(requests_per_minute=60, burst=100, tokens_per_minute=5)
    assert LimitsForm().on(base) == base
    assert LimitsForm(tpm=None, parallel=2).on(base) == Limits(requests_per_minute=60, burst=100, parallel=2)
    assert LimitsForm(rpm=5).on(base) == Limits(requests_per_minute=5, tokens_per_minute=5)
    assert LimitsForm(rpm=5, burst=9).on(base) == Limits(requests_per_minute=5, burst=9, tokens_per_minute=5)


def test_a_burst_without_a_rate_is_refused() -> None:
    with pytest.raises(RequestInvalid, match="burst needs rpm"):
        LimitsForm(burst=5).on(Limits())
