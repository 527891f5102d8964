"""What a refused caller reads."""

import pytest

from api.admission.errors import AdmissionError, BudgetReached, Dimension, KeyStale, LimitReached
from api.errors import TABLE, describe
from core.limits import Limits, Subject, SubjectKind

SUBJECT = Subject(SubjectKind.TEAM, "research", Limits())


def test_every_error_has_a_place_in_the_table() -> None:
    kinds = {AdmissionError, *AdmissionError.__subclasses__(), *LimitReached.__subclasses__()} - {AdmissionError}
    assert kinds <= set(TABLE)


@pytest.mark.parametrize(("wait_s", "header"), [(0.001, "1"), (1.0, "1"), (1.001, "2"), (59.2, "60")])
def test_a_rate_says_when_to_come_back_in_whole_seconds_never_too_early(wait_s: float, header: str) -> None:
    status, body, headers = describe(LimitReached(SUBJECT, Dimension.TOKENS, 100, wait_s))
    assert (status, headers["retry-after"]) == (429, header)
    assert body["error"]["code"] == "rate_limit_exceeded"
    assert "team research" in body["error"]["message"]
    assert "100 tokens per minute" in body["error"]["message"]


def test_a_budget_is_told_as_openai_tells_a_spent_quota() -> None:
    status, body, _ = describe(BudgetReached(SUBJECT, Dimension.USD_DAY, 1_500_000_000, 10))
    assert (status, body["error"]["type"], body["error"]["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert "1.5 USD per day" in body["error"]["message"]


def test_what_never_fits_names_no_time() -> None:
    _, body, headers = describe(LimitReached(SUBJECT, Dimension.TOKENS, 100, None))
    assert "retry-after" not in headers
    assert "fewer tokens" in body["error"]["message"]


def test_a_stale_key_is_no_question_of_identity() -> None:
    status, _, headers = describe(KeyStale("key_1"))
    assert (status, headers["retry-after"]) == (503, "1")
