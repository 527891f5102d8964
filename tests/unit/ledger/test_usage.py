"""Periods, and reports as text."""

import csv
import io
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import NotAllowed, RequestInvalid
from api.ledger.reports import UsageRow, bounds, day_of, dollars, month_of
from api.usage import _as_csv, _groups, own_lines
from core.principal import Principal, Role


@given(st.dates(date(1970, 1, 1), date(2200, 1, 1)), st.floats(0, 86_400, exclude_max=True))
def test_a_moment_lies_in_its_day_and_month_and_in_no_other(day: date, seconds: float) -> None:
    at = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + seconds
    if at >= datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + 86_400:
        day += timedelta(days=1)  # the sum was rounded up to midnight
    assert day_of(at) == day.isoformat()
    for period in (day_of(at), month_of(day_of(at))):
        start, end = bounds(period)
        assert start <= at < end
    following = (day.replace(day=1) + timedelta(days=31)).strftime("%Y-%m")
    assert bounds(day.strftime("%Y-%m"))[1] == bounds(following)[0]


@pytest.mark.parametrize("period", ["", "2026", "2026-13", "2026-11-31", "2026/11"])
def test_what_is_no_period_is_refused(period: str) -> None:
    with pytest.raises(ValueError):
        bounds(period)


def test_money_is_shown_whole() -> None:
    assert dollars(0) == "0.000000000"
    assert dollars(2**62) == "4611686018.427387904"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", 'a,"b"\n=c', "plain"])
def test_a_table_runs_nothing_in_a_spreadsheet(name: str) -> None:
    row = UsageRow({"model": name, "user": None}, 1, 2, 0, 3, 4_000, 500)
    text = bytes(_as_csv(["model", "user"], [row]).body).decode()
    header, values = csv.reader(io.StringIO(text, newline=""))
    assert ",".join(header) == "model,user,requests,tokens_in,tokens_cached,tokens_out,nano_usd,usd,usd_saved"
    assert values[0].removeprefix("'") == name
    assert values[0][0] not in "=+-@\t\r\n＝＋－＠"
    assert values[1:] == ["", "1", "2", "0", "3", "4000", "0.000004000", "0.000000500"]


def test_groups_come_in_the_order_asked_for() -> None:
    assert _groups("model, day") == ["model", "day"]
    assert _groups("") == []
    for wrong in ("model,colour", "day,day"):
        with pytest.raises(RequestInvalid):
            _groups(wrong)


def test_a_member_sees_the_own_key_and_a_manager_the_tenant() -> None:
    assert own_lines(Principal("t", "k", Role.MEMBER)) == {"tenant": "t", "key": "k"}
    assert own_lines(Principal("t", None, Role.READER, user_id="u")) == {"tenant": "t", "user": "u"}
    assert own_lines(Principal("t", "k", Role.MANAGER)) == own_lines(Principal("t", "k", Role.ADMIN)) == {"tenant": "t"}
    with pytest.raises(NotAllowed):
        own_lines(Principal("t", None, Role.MEMBER))
