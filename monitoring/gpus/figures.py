"""What follows for each deployment from its shares of GPUs and its tokens."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monitoring.gpus.engines import Tokens
from monitoring.gpus.join import NOBODY, Share, total
from monitoring.gpus.placement import Place

_PER = 1_000_000  # prices are those of a million tokens


@dataclass(frozen=True, slots=True)
class Prices:
    """In US dollars.

    Attributes:
        gpu_usd_per_hour: of one whole GPU.
        hosted_prompt_usd, hosted_completion_usd: for a million tokens read and written by the hosted model that
            would do the same work.
    """

    gpu_usd_per_hour: float
    hosted_prompt_usd: float
    hosted_completion_usd: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One deployment in an interval of s seconds. None is what can't be told from what was read.

    Attributes:
        deployment, model: empty for what no deployment has.
        gpus: sum of its shares' ratios; GPUs that it has alone count 1.
        power_watts: sum over its shares; likewise `energy_joules` of the interval and both `memory_..._bytes`.
        tokens_per_gpu_s: generated tokens / s / gpus.
        tokens_per_joule: generated tokens / energy_joules.
        usd: gpus * price of a GPU's hour * s / 3600.
        usd_per_million_tokens: usd / (prompt + generated tokens) * 10^6.
        hosted_usd_per_million_tokens: what the same mix costs there: (prompt tokens * prompt price + generated tokens *
            completion price) / (prompt + generated tokens), at prices for a million.
        idle_usd: sum over its shares of idle_ratio * price of a GPU's hour * s / 3600: money for time in which nothing
            ran on its part of the GPU; under MIG by slices, also where it generated nothing and so pays for no power.
    """

    deployment: str
    model: str
    gpus: float
    power_watts: float | None
    energy_joules: float | None
    memory_used_bytes: float | None
    memory_free_bytes: float | None
    tokens_per_gpu_s: float | None
    tokens_per_joule: float | None
    usd: float | None
    usd_per_million_tokens: float | None
    hosted_usd_per_million_tokens: float | None
    idle_usd: float | None


def figures(
    shares: Iterable[Share], tokens: Mapping[str, Tokens], seconds: float, prices: Prices | None = None
) -> tuple[Figures, ...]:
    """The figures of every deployment that has shares, and of what nobody has.

    Args:
        tokens: deployment to its tokens of the interval.
        seconds: length of the interval, above 0.
        prices: None: nothing is said of money.
    """
    by_place: dict[Place, list[Share]] = {}
    for share in shares:
        by_place.setdefault(share.place, []).append(share)
    return tuple(_of(place, its, tokens.get(place.deployment), seconds, prices) for place, its in by_place.items())


def _of(place: Place, shares: Sequence[Share], tokens: Tokens | None, seconds: float, prices: Prices | None) -> Figures:
    gpus = sum(share.ratio for share in shares)
    energy = total(share.energy_joules for share in shares)
    usd = None if prices is None else gpus * prices.gpu_usd_per_hour * seconds / 3600
    idle = total(share.idle_ratio for share in shares)
    if place == NOBODY:
        tokens = None
    both = 0.0 if tokens is None else tokens.prompt + tokens.generated
    return Figures(
        deployment=place.deployment,
        model=place.model,
        gpus=gpus,
        power_watts=total(share.power_watts for share in shares),
        energy_joules=energy,
        memory_used_bytes=total(share.memory_used_bytes for share in shares),
        memory_free_bytes=total(share.memory_free_bytes for share in shares),
        tokens_per_gpu_s=tokens.generated / seconds / gpus if tokens and gpus else None,
        tokens_per_joule=tokens.generated / energy if tokens and energy else None,
        usd=usd,
        usd_per_million_tokens=usd / both * _PER if usd is not None and both else None,
        hosted_usd_per_million_tokens=_hosted(tokens, prices) if tokens and prices and both else None,
        idle_usd=None if prices is None or idle is None else idle * prices.gpu_usd_per_hour * seconds / 3600,
    )


def _hosted(tokens: Tokens, prices: Prices) -> float:
    usd = tokens.prompt * prices.hosted_prompt_usd + tokens.generated * prices.hosted_completion_usd
    return usd / (tokens.prompt + tokens.generated)
