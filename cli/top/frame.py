"""One frame: what two looks at all sources say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.counting import Growth, Scrape
from monitoring.gpus.engines import GENERATED, PROMPT
from monitoring.gpus.readings import Gpu

BREAKERS = {"open": "resting", "half_open": "on trial"}  # closed: all is well
"""What a person calls the states of a breaker."""
_LOOKING_ON = ("/v1/admin/", "/v1/usage")


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one moment.

    Attributes:
        parts: what the gateway's parts say of themselves; None: the key may not see it.
        deployments: as `/v1/admin/deployments` lists them; None: the key may not see them.
        spent_usd: of today (UTC), as a decimal text, and of whom; None: not known.
        engines: by deployment; one that did not answer is left out.
        gpus: of all exporters that answered.
        notes: what a person should know of this look.
    """

    gateway: Scrape
    parts: Mapping[str, str] | None = None
    deployments: Sequence[Mapping[str, Any]] | None = None
    spent_usd: tuple[str, str] | None = None
    engines: Mapping[str, Scrape] | None = None
    gpus: Sequence[Gpu] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model group. Rates are a second; TTFT is in seconds."""

    name: str
    calls_s: float
    tokens_in_s: float
    tokens_out_s: float
    ttft_p50_s: float | None
    ttft_p95_s: float | None


@dataclass(frozen=True, slots=True)
class DeploymentRow:
    """A deployment, and its engine where one of ours answers; rates are a second, None is not known.

    Attributes:
        state: `ok`, or why it gets no calls or fewer.
        running: calls that the gateway has there.
        kv_share: of the KV cache that is in use, 0 to 1.
    """

    name: str
    model: str
    state: str
    calls_s: float
    running: int
    engine_running: int | None
    engine_waiting: int | None
    kv_share: float | None
    tokens_in_s: float | None
    tokens_out_s: float | None


@dataclass(frozen=True, slots=True)
class Frame:
    """What is shown.

    Attributes:
        seconds: the interval of the rates.
        window_s: over which TTFT is looked at.
    """

    seconds: float
    window_s: float
    requests_s: float
    failed_s: float
    running: int
    ingest_waiting: int | None
    ingest_waited_s: float | None
    models: Sequence[ModelRow]
    deployments: Sequence[DeploymentRow]
    look: Look


def frame_of(oldest: Look, before: Look, now: Look) -> Frame:
    """Make a frame.

    Args:
        oldest: the first look of the window over which TTFT is looked at: a first token is rarer than a frame.
        before: the look before this one, which is earlier.
    """
    grown, window = Growth(before.gateway, now.gateway), Growth(oldest.gateway, now.gateway)
    waiting = now.gateway.total("stoker_ingest_waiting_documents")
    return Frame(
        seconds=grown.seconds,
        window_s=window.seconds,
        requests_s=grown.rate("stoker_requests_total", _asked),
        failed_s=grown.rate("stoker_requests_total", lambda labels: _asked(labels) and labels["status"] >= "500"),
        running=max(0, round(now.gateway.total("stoker_requests_running") or 0) - 1),  # but for the look itself
        ingest_waiting=None if waiting is None else round(waiting),
        ingest_waited_s=now.gateway.total("stoker_ingest_waiting_seconds"),
        models=[_model(name, grown, window) for name in sorted(_models(now))],
        deployments=[_deployment(name, model, before, now, grown) for name, model in sorted(_deployments(now).items())],
        look=now,
    )


def _asked(labels: Mapping[str, str]) -> bool:
    """A request of somebody, and none by which somebody looks on."""
    return labels["route"].startswith("/v1/") and not labels["route"].startswith(_LOOKING_ON)


def _models(now: Look) -> set[str]:
    counted = ("stoker_tokens_total", "stoker_upstream_calls_total")
    found = {name for series in counted for name in now.gateway.named(series, "model_group")}
    return found | {each["model_group"] for each in now.deployments or () if "model_group" in each}


def _model(name: str, grown: Growth, window: Growth) -> ModelRow:
    p50, p95 = (window.quantile(share, "stoker_time_to_first_token_seconds", model_group=name) for share in (0.5, 0.95))
    return ModelRow(
        name=name,
        calls_s=grown.rate("stoker_upstream_calls_total", model_group=name),
        tokens_in_s=grown.rate("stoker_tokens_total", model_group=name, direction="in"),
        tokens_out_s=grown.rate("stoker_tokens_total", model_group=name, direction="out"),
        ttft_p50_s=p50,
        ttft_p95_s=p95,
    )


def _deployments(now: Look) -> dict[str, str]:
    """Names to model groups, as far as they are known."""
    if now.deployments is not None:
        return {each["id"]: each.get("model_group") or "" for each in now.deployments}
    found = dict.fromkeys(now.gateway.named("stoker_upstream_running", "deployment"), "")
    for at in now.gateway.values.get("stoker_upstream_calls_total", {}):
        labels = dict(at)
        found[labels["deployment"]] = labels["model_group"]
    return found


def _deployment(name: str, model: str, before: Look, now: Look, grown: Growth) -> DeploymentRow:
    engine, past = (now.engines or {}).get(name), (before.engines or {}).get(name)

    def count(series: str) -> int | None:
        found = None if engine is None else engine.total(series)
        return None if found is None else round(found)

    def rate(series: str) -> float | None:
        if engine is None or past is None or engine.total(series) is None:
            return None
        return Growth(past, engine).rate(series)

    return DeploymentRow(
        name=name,
        model=model,
        state=_state(name, now),
        calls_s=grown.rate("stoker_upstream_calls_total", deployment=name),
        running=round(now.gateway.total("stoker_upstream_running", deployment=name) or 0),
        engine_running=count("vllm:num_requests_running"),
        engine_waiting=count("vllm:num_requests_waiting"),
        kv_share=None if engine is None else engine.most("vllm:kv_cache_usage_perc"),
        tokens_in_s=rate(PROMPT),
        tokens_out_s=rate(GENERATED),
    )


def _state(name: str, now: Look) -> str:
    """From the gateway's list, where the key may see it, else from its metrics, which know less."""
    listed = next((each for each in now.deployments or () if each["id"] == name), None)
    if listed is not None:
        found = [] if listed["state"] == "active" else [listed["state"]]
        found += [BREAKERS[listed["breaker"]]] if listed.get("breaker") in BREAKERS else []
        found += [listed["ejected"]] if listed.get("ejected") else []
    else:
        found = [BREAKERS["open"]] if now.gateway.most("stoker_deployment_breaker_open", deployment=name) else []
        ejected = "stoker_deployment_ejected"
        found += [
            reason
            for reason in sorted(now.gateway.named(ejected, "reason"))
            if now.gateway.most(ejected, deployment=name, reason=reason)
        ]
    return ", ".join(found) or "ok"
