"""Limits as clients write and read them: rpm, burst, tpm, parallel, usd_per_day, usd_per_month, strict."""

import dataclasses
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from api.admission.meters import MAX_NANO_USD, MAX_PER_MINUTE
from api.errors import RequestInvalid
from core.limits import Limits
from core.money import NANO_PER_USD, Money

_MOST_USD = MAX_NANO_USD // NANO_PER_USD
_COLUMNS = {
    "rpm": "requests_per_minute",
    "burst": "burst",
    "tpm": "tokens_per_minute",
    "parallel": "parallel",
    "usd_per_day": "nano_usd_per_day",
    "usd_per_month": "nano_usd_per_month",
    "strict": "strict",
}


def _nano_usd(value: object) -> int | None:
    """Dollars as they are written, to whole nano-dollars; nothing is rounded."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal) or len(str(value)) > 40:
        raise ValueError("write US dollars as a number or a text such as 12.50")
    try:
        usd = Decimal(value)
    except InvalidOperation:
        raise ValueError("write US dollars as a number or a text such as 12.50") from None
    if not usd.is_finite() or not 0 <= usd <= _MOST_USD:
        raise ValueError(f"write between 0 and {_MOST_USD:,} US dollars")
    if usd % Decimal(1).scaleb(-9):
        raise ValueError("a thousand-millionth of a US dollar is the smallest part")
    return Money.from_usd(usd).nano_usd


Usd = Annotated[
    int | None,
    BeforeValidator(_nano_usd),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}], "examples": ["12.50"]}),
]


class LimitsForm(BaseModel):
    """Upper bounds; null means none. Money is held in nano-dollars."""

    model_config = ConfigDict(extra="forbid")

    rpm: int | None = Field(None, ge=1, le=10**9, description="Requests a minute.")
    burst: int | None = Field(None, ge=1, le=10**9, description="Requests at once; unset: as many as a minute allows.")
    tpm: int | None = Field(
        None, ge=1, le=MAX_PER_MINUTE, description="Tokens a minute, prompt and completion together."
    )
    parallel: int | None = Field(None, ge=1, le=10**6, description="Requests at the same time.")
    usd_per_day: Usd = Field(None, description="US dollars a calendar day, UTC, exact to nine places.")
    usd_per_month: Usd = Field(None, description="US dollars a calendar month, UTC, exact to nine places.")
    strict: bool = Field(False, description="Count in a sliding minute; burst then has no effect.")

    def on(self, base: Limits) -> Limits:
        """`base` with what was written here; a new rate without a burst takes the old burst away.

        Raises: RequestInvalid: a burst without a rate.
        """
        written = {_COLUMNS[name]: getattr(self, name) for name in self.model_fields_set}
        if "rpm" in self.model_fields_set and "burst" not in self.model_fields_set:
            written["burst"] = None
        merged = dataclasses.replace(base, **written)
        if merged.burst is not None and merged.requests_per_minute is None:
            raise RequestInvalid("burst needs rpm", "limits.burst")
        return merged


def shown_limits(bounds: Limits) -> dict[str, Any]:
    """Limits as clients see them; dollars as text, since a JSON number may lose digits on its way."""
    shown = {name: getattr(bounds, column) for name, column in _COLUMNS.items()}
    for name in ("usd_per_day", "usd_per_month"):
        shown[name] = None if shown[name] is None else _usd_text(shown[name])
    return shown


def _usd_text(nano_usd: int) -> str:
    whole, rest = divmod(nano_usd, NANO_PER_USD)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".")
