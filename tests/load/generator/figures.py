"""What samples come to: percentiles, throughput, goodput, failures by class, and whether any of it may be believed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.load.generator.answer import Failure, Sample
from tests.load.generator.driver import Driven
from tests.load.generator.plan import Plan, PlanInvalid

_FULL = 0.8  # of a core: beyond it a process of the client is late with what it sees
_LATE_S = 0.02


@dataclass(frozen=True, slots=True)
class Slo:
    """Bounds that an answer keeps to count as good, in seconds; None: any."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None

    @classmethod
    def parse(cls, words: Sequence[str]) -> "Slo":
        """Read `ttft=0.5` and the like. Raises: PlanInvalid."""
        found: dict[str, float] = {}
        for word in words:
            name, _, value = word.partition("=")
            try:
                bound = float(value)
            except ValueError:
                bound = -1.0
            if name not in ("ttft", "tpot", "e2e") or not 0 < bound < float("inf"):
                raise PlanInvalid(f"--slo {word}: say ttft=, tpot= or e2e= and seconds, such as --slo ttft=0.5")
            found[f"{name}_s"] = bound
        return cls(**found)

    def holds(self, sample: Sample) -> bool:
        """Whether an answer is good: it ended well, and within all bounds. A single token has no TPOT, and keeps it."""
        if sample.failure is not None:
            return False
        pairs = ((self.ttft_s, sample.ttft_s), (self.tpot_s, sample.tpot_s), (self.e2e_s, sample.e2e_s))
        return all(bound is None or found is None or found <= bound for bound, found in pairs)


def figures(plan: Plan, slo: Slo, driven: Sequence[Driven]) -> dict[str, Any]:
    """All figures of a run, as they stand in the report: seconds, tokens, shares from 0 to 1."""
    everything = [sample for each in driven for sample in each.samples]
    begin_s, end_s = plan.window
    samples = [sample for sample in everything if begin_s <= sample.scheduled_s < end_s]
    kinds = sorted({sample.kind for sample in samples})
    found = {
        "plan": asdict(plan),
        "slo": asdict(slo),
        "window_s": [begin_s, end_s],
        **_of(samples, slo, end_s - begin_s),
        **_throughput(everything, begin_s, end_s),
        "kinds": {kind: _of([one for one in samples if one.kind == kind], slo, end_s - begin_s) for kind in kinds},
        "whole": _whole(everything),
        "client": _client(samples, driven),
    }
    saturated = _saturated(found)
    found["believable"] = not saturated and found["ended_well"] > 0
    found["warnings"] = _warnings(found, samples, saturated=saturated)
    return found


def latencies(samples: Sequence[Sample], of: Callable[[Sample], float | None]) -> list[float]:
    """A latency of the answers that ended well; what timed out counts with the time that was waited for it."""
    values = [sample.e2e_s if sample.failure is Failure.TIMEOUT else of(sample) for sample in samples if _told(sample)]
    return [value for value in values if value is not None]


def gaps(samples: Sequence[Sample]) -> list[float]:
    """Times between the frames of text of each answer that ended well."""
    return [float(gap) for sample in samples if sample.failure is None for gap in np.diff(sample.tokens_s)]


def _told(sample: Sample) -> bool:
    return sample.failure in (None, Failure.TIMEOUT)


def _of(samples: Sequence[Sample], slo: Slo, seconds: float) -> dict[str, Any]:
    well = [sample for sample in samples if sample.failure is None]
    good = sum(slo.holds(sample) for sample in samples)
    prompt = sum(sample.prompt_tokens or 0 for sample in well)
    looked = [sample for sample in well if sample.cache]
    questions = [sample for sample in well if sample.citations is not None]
    return {
        "requests": len(samples),
        "ended_well": len(well),
        "failures": dict(sorted(Counter(sample.what for sample in samples if sample.failure is not None).items())),
        "goodput_per_s": good / seconds,
        "good_share": _share(good, len(samples)),
        "ttft_s": percentiles(latencies(samples, lambda one: one.ttft_s)),
        "itl_s": percentiles(gaps(samples)),
        "tpot_s": percentiles([one.tpot_s for one in well if one.tpot_s is not None]),
        "e2e_s": percentiles(latencies(samples, lambda one: one.e2e_s)),
        "cached_tokens_share": _share(sum(sample.cached_tokens for sample in well), prompt),
        "cache_hits_share": _share(sum(one.cache in ("exact", "semantic") for one in looked), len(looked)),
        "cited_share": _share(sum(bool(one.citations) for one in questions), len(questions)),
    }


def _throughput(everything: Sequence[Sample], begin_s: float, end_s: float) -> dict[str, Any]:
    """Tokens that came within the window, whenever their request began; of frames that hold several, evenly."""
    output, prompt = 0.0, 0
    for sample in everything:
        if not sample.tokens_s:
            continue
        inside = sum(begin_s <= at_s < end_s for at_s in sample.tokens_s)
        output += (sample.output_tokens or 0) * inside / len(sample.tokens_s)
        if begin_s <= sample.tokens_s[0] < end_s:
            prompt += sample.prompt_tokens or 0
    seconds = end_s - begin_s
    return {"output_tokens_per_s": output / seconds, "total_tokens_per_s": (output + prompt) / seconds}


def _whole(everything: Sequence[Sample]) -> dict[str, Any]:
    """The whole run with warm-up, cool-down and what came after: what an engine's own counters can be held against."""
    sent = [sample.sent_s for sample in everything if sample.sent_s is not None]
    seconds = max((sample.ended_s for sample in everything), default=0.0) - min(sent, default=0.0)
    output = sum(sample.output_tokens or 0 for sample in everything)
    return {
        "requests": len(everything),
        "failed": sum(sample.failure is not None for sample in everything),
        "prompt_tokens": sum(sample.prompt_tokens or 0 for sample in everything),
        "output_tokens": output,
        "seconds": seconds,
        "output_tokens_per_s": output / seconds if seconds > 0 else 0.0,
    }


def _client(samples: Sequence[Sample], driven: Sequence[Driven]) -> dict[str, Any]:
    return {
        "processes": len(driven),
        "cpu_share": [each.cpu_share for each in driven],
        "late_s": percentiles([sample.ready_s for sample in samples]),
        "held_s": percentiles([sample.held_s for sample in samples]),
    }


def _saturated(found: dict[str, Any]) -> bool:
    """Whether the client itself is in the figures: it had no processor to spare, or was late by what matters."""
    bearable_s = max(_LATE_S, found["ttft_s"]["p50"] / 10)
    return max(found["client"]["cpu_share"], default=0.0) > _FULL or found["client"]["late_s"]["p99"] > bearable_s


def _warnings(found: dict[str, Any], samples: Sequence[Sample], *, saturated: bool) -> list[str]:
    """Why these figures should not be believed, or not as they stand."""
    client, told = found["client"], []
    if saturated:
        told.append(
            f"THE CLIENT WAS SATURATED: it used {max(client['cpu_share']):.0%} of a core and was "
            f"{client['late_s']['p99'] * 1e3:.0f} ms late at p99: these figures are its own as much as the server's; "
            "give it more --processes, a core of its own, or less to do"
        )
    if client["held_s"]["p99"] > _LATE_S:
        told.append(
            f"requests waited for one of the client's connections ({client['held_s']['p99']:.2f} s at p99; it counts): "
            "--connections is lower than what was open at once"
        )
    unmetered = sum(one.failure is None and bool(one.tokens_s) and one.output_tokens is None for one in samples)
    if unmetered:
        told.append(f"{unmetered} answers named no usage: their tokens are not counted")
    if not found["ended_well"]:
        told.append("no answer ended well: there is nothing to be measured; look at the failures")
    return told


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Of no values all are 0, and `count` says so."""
    if not values:
        return dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max"), 0.0) | {"count": 0}
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
    mean = float(np.mean(values))
    return {"mean": mean, "p50": p50, "p90": p90, "p95": p95, "p99": p99, "max": max(values), "count": len(values)}


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
