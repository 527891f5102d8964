"""The states of a batch: each leads to an end, and what an answer means for its line."""

from decimal import Decimal

import pytest

from api.batches.forms import LineUsage
from api.batches.sending import Reply
from api.batches.states import FOLLOWING, ON_PAPER, Status, before, reached
from api.batches.verdict import Again, Rests, Stands, Verdict, judge
from core.money import Price
from core.usage import Usage


def test_every_state_leads_to_an_end_and_no_end_goes_on() -> None:
    reachable = {Status.VALIDATING}
    while (more := reachable | {after for one in reachable for after in FOLLOWING[one]}) != reachable:
        reachable = more
    assert reachable == set(Status)
    assert {one for one in Status if one.ended} == {
        Status.COMPLETED,
        Status.FAILED,
        Status.EXPIRED,
        Status.CANCELLED,
    }
    assert {Status.IN_PROGRESS} == {one for one in Status if not one.ended} - set(ON_PAPER)


def test_what_is_being_ended_can_be_cancelled_no_more() -> None:
    assert before(Status.CANCELLING) == [Status.VALIDATING, Status.IN_PROGRESS]
    assert before(Status.COMPLETED) == [Status.FINALIZING]


def test_a_row_that_reaches_a_state_says_when() -> None:
    assert reached(Status.CANCELLING, 7.0) == {"status": "cancelling", "cancelling_at": 7.0}
    assert reached(Status.EXPIRED, 7.0) == {"status": "expired", "expired_at": 7.0, "ended_at": 7.0}


@pytest.mark.parametrize(
    ("reply", "attempt", "verdict"),
    [
        (Reply(200, {}), 1, Stands()),
        (Reply(400, {}), 1, Stands()),
        (Reply(404, {}), 1, Stands()),
        (Reply(429, {}, 7.0), 5, Rests(7.0)),
        (Reply(429, {}, 80_000.0), 5, Rests(60.0)),  # a budget: somebody may raise it before the day ends
        (Reply(429, {}), 1, Stands()),  # larger than the limit itself
        (Reply(503, {}, 2.0), 5, Rests(2.0)),
        (Reply(503, {}), 5, Rests(5.0)),
        (Reply(503, {"error": {"code": "guard_failed"}}), 1, Again(2.0)),  # of this one text, it may be
        (Reply(503, {"error": {"code": "guard_failed"}}), 5, Stands()),
        (Reply(401, {}), 5, Rests(1.0)),
        (Reply(502, {}), 1, Again(2.0)),
        (Reply(504, {}), 4, Again(16.0)),
        (Reply(500, {}), 5, Stands()),
    ],
)
def test_what_an_answer_means_for_its_line(reply: Reply, attempt: int, verdict: Verdict) -> None:
    assert judge(reply, attempt, 5) == verdict


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}, LineUsage(5, 0, 2, 0)),
        (
            {
                "usage": {
                    "prompt_tokens": 5,
                    "completion_tokens": 2,
                    "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 1},
                }
            },
            LineUsage(5, 4, 2, 1),
        ),
        ({"usage": {"prompt_tokens": 5, "total_tokens": 5}}, LineUsage(5)),
        (
            {
                "usage": {
                    "input_tokens": 5,
                    "input_tokens_details": {"cached_tokens": 3},
                    "output_tokens": 2,
                    "output_tokens_details": {"reasoning_tokens": 1},
                }
            },
            LineUsage(5, 3, 2, 1),
        ),
        ({"usage": {"prompt_tokens": -5, "completion_tokens": True, "prompt_tokens_details": None}}, LineUsage()),
        ({"usage": []}, LineUsage()),
        ([], LineUsage()),
    ],
)
def test_usage_is_what_the_answer_says(body: object, usage: LineUsage) -> None:
    assert LineUsage.of(body) == usage


@pytest.mark.parametrize("factor", ["0", "0.5", "1", "0.333", "1.7"])
def test_a_price_times_a_factor_is_whole_and_never_below(factor: str) -> None:
    price, usage = Price(150_001, 75_003, 600_007), Usage(1003, 77, 500)
    times = price.times(Decimal(factor))
    exact = Decimal(factor) * ((1003 - 500) * 150_001 + 500 * 75_003 + 77 * 600_007) / 1000
    assert 0 <= times.nano_usd(usage) - exact < 1 + Decimal(1003 + 77) / 1000  # one pico-USD a token at most, then up
    assert price.times(Decimal(1)) == price
    assert Price(1, 1, 5).times(Decimal("0.25")) == Price(1, 1, 2)
