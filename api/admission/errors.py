"""Why a request was not admitted.

AdmissionError
├── LimitReached       a rate or the number of parallel requests
│   └── BudgetReached  money
└── KeyStale           the key was changed since the worker read it
"""

import enum

from core.limits import EVERYONE, Subject


class Dimension(enum.StrEnum):
    """What is limited, in the order in which scripts count it."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    PARALLEL = "parallel"
    USD_DAY = "usd_day"
    USD_MONTH = "usd_month"

    @property
    def rate(self) -> bool:
        return self in (Dimension.REQUESTS, Dimension.TOKENS)

    @property
    def money(self) -> bool:
        return self in (Dimension.USD_DAY, Dimension.USD_MONTH)


_NAMES = {
    Dimension.REQUESTS: "requests per minute",
    Dimension.TOKENS: "tokens per minute",
    Dimension.PARALLEL: "requests at the same time",
    Dimension.USD_DAY: "USD per day",
    Dimension.USD_MONTH: "USD per month",
}


class AdmissionError(Exception):
    """A request was not admitted; it has used nothing."""


class LimitReached(AdmissionError):
    """A limit leaves no room for the request.

    Attributes:
        subject: whose limit; of several the one that opens last.
        limit: its upper bound, in requests, tokens or nano-USD.
        retry_after_s: seconds until the request would fit if nobody else asked; None: it never will, being larger than
            the limit. Nobody knows when a parallel request ends: 1 then.
    """

    def __init__(self, subject: Subject, dimension: Dimension, limit: int, retry_after_s: float | None) -> None:
        bound = f"{limit / 1e9:.9f}".rstrip("0").rstrip(".") if dimension.money else str(limit)
        remedy = (
            f"try again in {retry_after_s:.3g} s"
            if retry_after_s is not None
            else "this request alone is larger than that; ask for fewer tokens, or have the limit raised"
        )
        if not subject.common:
            what = f"{subject.kind} {subject.id}, {bound} {_NAMES[dimension]},"
        else:  # how much it is, is nobody's but the admins'
            whose = "all tenants together" if subject.id == EVERYONE else f"{subject.kind} {subject.id} for all tenants"
            what = f"{whose} of {_NAMES[dimension]}"
        super().__init__(f"the limit of {what} is reached: {remedy}")
        self.subject = subject
        self.dimension = dimension
        self.limit = limit
        self.retry_after_s = retry_after_s


class BudgetReached(LimitReached):
    """A budget of money leaves no room for the request."""


class KeyStale(AdmissionError):
    """The worker's copy of a key is older than the key: read it anew, and ask again once."""

    retry_after_s = 1.0

    def __init__(self, key_id: str) -> None:
        super().__init__(f"key {key_id} has just been changed; try again")
        self.key_id = key_id
