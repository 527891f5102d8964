"""vLLM's own counters of tokens, before and after a run: what answers said of themselves is held against them."""

from dataclasses import dataclass
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

_NAMES = {"vllm:prompt_tokens": "prompt_tokens", "vllm:generation_tokens": "output_tokens"}


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of all engines since their start."""

    prompt_tokens: int
    output_tokens: int


def counted(urls: list[str]) -> Counted | None:
    """Read the engines' `/metrics`; None: there are none, or one is out of reach or no vLLM."""
    sums = dict.fromkeys(_NAMES.values(), 0.0)
    for url in urls:
        found = set()
        try:
            families = list(
                text_string_to_metric_families(httpx.get(url, timeout=10, trust_env=False).raise_for_status().text)
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None
        for family in families:
            for one in family.samples:
                if (name := _NAMES.get(family.name)) and one.name.endswith("_total"):
                    found.add(name)
                    sums[name] += one.value
        if len(found) < len(_NAMES):
            return None
    return Counted(int(sums["prompt_tokens"]), int(sums["output_tokens"])) if urls else None


def compared(before: Counted | None, after: Counted | None, whole: dict[str, Any]) -> dict[str, Any] | None:
    """What the engines counted beside what their answers said; None: they could not be read.

    Answers that failed were computed in part, and say nothing of it, so `equal` is then None.
    """
    if before is None or after is None:
        return None
    prompt, output = after.prompt_tokens - before.prompt_tokens, after.output_tokens - before.output_tokens
    equal = (prompt, output) == (whole["prompt_tokens"], whole["output_tokens"])
    return {"prompt_tokens": prompt, "output_tokens": output, "equal": None if whole["failed"] and not equal else equal}
