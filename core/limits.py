"""What a caller may use, and of whom it is asked."""

import enum
from dataclasses import dataclass

EVERYONE = "*"
"""Stands where a tenant's id would, for all tenants together; no tenant has it."""


class SubjectKind(enum.StrEnum):
    """Who can have limits."""

    KEY = "key"
    USER = "user"
    TEAM = "team"
    TENANT = "tenant"
    MODEL = "model"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds; None means none.

    Attributes:
        requests_per_minute: refilled evenly.
        burst: requests that may come at once when none came before; None: as many as a minute allows.
        tokens_per_minute: prompt and completion together.
        parallel: requests under way at the same time.
        nano_usd_per_day, nano_usd_per_month: money in calendar days and months, UTC.
        strict: count requests and tokens in a sliding minute instead of a bucket; `burst` then has no effect.
    """

    requests_per_minute: int | None = None
    burst: int | None = None
    tokens_per_minute: int | None = None
    parallel: int | None = None
    nano_usd_per_day: int | None = None
    nano_usd_per_month: int | None = None
    strict: bool = False

    @property
    def any(self) -> bool:
        """Whether there is anything to check."""
        return any(
            bound is not None
            for bound in (
                self.requests_per_minute,
                self.tokens_per_minute,
                self.parallel,
                self.nano_usd_per_day,
                self.nano_usd_per_month,
            )
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody or something with limits.

    Attributes:
        common: the limits are for all tenants together: of a model, of a route, or of the tenant `EVERYONE`; else they
            are those of one tenant.
    """

    kind: SubjectKind
    id: str
    limits: Limits
    common: bool = False
