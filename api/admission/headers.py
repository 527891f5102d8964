"""Rate headers of a response: OpenAI's, and the IETF's draft fields.

Source: https://platform.openai.com/docs/guides/rate-limits (headers), draft-ietf-httpapi-ratelimit-headers-10
"""

import math

from api.admission.reservation import Rate

# All that `rate_headers` can send; browsers show their pages only headers that are listed.
RATE_HEADERS = (
    *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
    "ratelimit-policy",
    "ratelimit",
)


def rate_headers(rate: Rate | None) -> dict[str, str]:
    """Headers for a caller with limits of requests or tokens; none without."""
    if rate is None:
        return {}
    headers: dict[str, str] = {}
    policies, states = [], []
    for unit, limit, remaining, reset_s, window_s in (
        ("requests", rate.limit_requests, rate.remaining_requests, rate.reset_requests_s, rate.window_requests_s),
        ("tokens", rate.limit_tokens, rate.remaining_tokens, rate.reset_tokens_s, rate.window_tokens_s),
    ):
        if limit is None or remaining is None or reset_s is None or window_s is None:
            continue
        headers[f"x-ratelimit-limit-{unit}"] = str(limit)
        headers[f"x-ratelimit-remaining-{unit}"] = str(remaining)
        headers[f"x-ratelimit-reset-{unit}"] = duration(reset_s)
        policies.append(f'"{unit}";q={limit};w={window_s};qu="{unit}"')
        states.append(f'"{unit}";r={remaining};t={math.ceil(reset_s)}')
    headers["ratelimit-policy"] = ", ".join(policies)
    headers["ratelimit"] = ", ".join(states)
    return headers


def duration(seconds: float) -> str:
    """OpenAI's form: `0s`, `6ms`, `1s`, `8.64s`, `6m0s`, `1h0m30s`; whole milliseconds, rounded up."""
    total_ms = math.ceil(round(seconds * 1000, 6))
    if 0 < total_ms < 1000:
        return f"{total_ms}ms"
    minutes, ms = divmod(total_ms, 60_000)
    text = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes_left}m{text}"
    return f"{minutes}m{text}" if minutes else text
