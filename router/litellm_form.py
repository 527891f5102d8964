"""The configuration's shape: LiteLLM's own form, as far as it is honoured, and the `stoker:` section.

A key of LiteLLM's that isn't listed here has no effect, and `router/config.py` says so, with file and line.
Source: https://docs.litellm.ai/docs/proxy/configs
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from router.strategy import Name as Strategy

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Cost = Annotated[Decimal, Field(ge=0, le=1)]  # US dollars a token
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class _Lenient(BaseModel):
    """Keeps unknown keys, so that they can be named."""

    model_config = ConfigDict(extra="allow")


class _Strict(BaseModel):
    """Ours: an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid")


class LitellmParams(_Lenient):
    """How to reach a deployment."""

    model: Name
    api_base: str | None = None
    api_key: str | None = None
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    # Connection parameters that LiteLLM's providers take; passed to it unchanged.
    api_version: str | None = None
    organization: str | None = None
    custom_llm_provider: str | None = None
    region_name: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None
    aws_region_name: str | None = None
    aws_bedrock_runtime_endpoint: str | None = None
    aws_profile_name: str | None = None
    aws_role_name: str | None = None
    aws_session_name: str | None = None
    aws_external_id: str | None = None
    aws_web_identity_token: str | None = None
    aws_sts_endpoint: str | None = None
    model_id: str | None = None
    hf_model_name: str | None = None
    azure_ad_token: str | None = None
    vertex_project: str | None = None
    vertex_location: str | None = None
    vertex_credentials: str | None = None
    extra_headers: dict[str, str] | None = None
    input_cost_per_token: Cost | None = None
    output_cost_per_token: Cost | None = None
    cache_read_input_token_cost: Cost | None = None
    weight: Annotated[float, Field(ge=0, le=1_000_000)] | None = None
    max_parallel_requests: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


class LitellmModelInfo(_Lenient):
    """What a deployment is."""

    id: Name | None = None
    mode: Annotated[str, StringConstraints(max_length=100)] = "chat"  # of LiteLLM's many, those of `Kind` are served
    input_cost_per_token: Cost | None = None  # LiteLLM lets prices stand here too; those of `litellm_params` win
    output_cost_per_token: Cost | None = None
    cache_read_input_token_cost: Cost | None = None
    default_max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 1024  # Stoker's own
    rescue: bool = True  # Stoker's own: another deployment may go on with a stream that breaks here
    wakes_in_s: Seconds | None = None  # Stoker's own: it may be asleep or scaled to zero; seconds until it is back
    provider: Name | None = None  # Stoker's own: who runs it, for policy, where that is not what `model` says
    region: Name | None = None  # Stoker's own: where it runs, where no connection parameter says so
    engine: Literal["vllm", "vllm-cpu"] | None = None  # Stoker's own: a CPU engine gets a longer first-token deadline
    # Stoker's own, for monitoring: where it runs; see `monitoring.gpus.placement.Place`.
    gpus: list[Name] = []
    pods: list[Name] = []
    containers: list[Name] = []


class ModelEntry(_Lenient):
    """One deployment; entries of one `model_name` form a group."""

    model_name: Name
    litellm_params: LitellmParams
    model_info: LitellmModelInfo = LitellmModelInfo()


Fallbacks = list[dict[str, list[Name]]]


class RouterSettings(_Lenient):
    """Routing."""

    fallbacks: Fallbacks = []
    default_fallbacks: list[Name] = []
    context_window_fallbacks: Fallbacks = []
    num_retries: Annotated[int, Field(ge=0, le=20)] | None = None
    allowed_fails: Annotated[int, Field(ge=1, le=1000)] | None = None
    cooldown_time: Seconds | None = None
    timeout: Seconds | None = None
    stream_timeout: Seconds | None = None
    # Stoker's own beside LiteLLM's: prefix-affinity.
    routing_strategy: Strategy = "simple-shuffle"


class LitellmSettings(_Lenient):
    """LiteLLM lets some of routing stand here too; `router_settings` wins."""

    fallbacks: Fallbacks = []
    default_fallbacks: list[Name] = []
    context_window_fallbacks: Fallbacks = []
    num_retries: Annotated[int, Field(ge=0, le=20)] | None = None
    allowed_fails: Annotated[int, Field(ge=1, le=1000)] | None = None
    cooldown_time: Seconds | None = None
    request_timeout: Seconds | None = None


class GeneralSettings(_Lenient):
    """Settings of LiteLLM's proxy server; Stoker has its own, so none is honoured."""


class DeadlineSettings(_Strict):
    """Seconds; see `router.deployment.Deadlines`."""

    connect_s: Seconds = 5.0
    first_token_s: Seconds = 10.0
    first_token_cpu_s: Seconds = 60.0
    between_tokens_s: Seconds = 10.0
    total_s: Seconds = 600.0
    embedding_s: Seconds = 60.0


class BreakerSettings(_Strict):
    """When a deployment is rested; see `core.breaker.BreakerPolicy`."""

    failures_to_open: Annotated[int, Field(ge=1, le=1000)] = 5
    probe_local_s: Seconds = 1.0
    probe_hosted_s: Seconds = 30.0
    successes_to_close: Annotated[int, Field(ge=1, le=100)] = 2


class HealthSettings(_Strict):
    """How engines are watched; see `router.health.HealthPolicy`."""

    enabled: bool = True
    poll_s: Seconds = 0.5
    idle_poll_s: Seconds = 2.0
    standstill_s: Seconds = 3.0
    standstill_cpu_s: Seconds = 10.0
    cold_s: Seconds = 60.0
    deadline_s: Seconds = 2.0
    away_s: Seconds = 2.5
    probe_every_s: Seconds = 1.0
    probe_s: Seconds = 2.0


class WakingSettings(_Strict):
    """How long a call is held for an engine that is asleep or scaled to zero, in seconds."""

    hold_s: Annotated[float, Field(ge=0, le=86_400)] = 60.0


class PolicySettings(_Strict):
    """Where text may go that is for a group; see `core.reach.Reach`."""

    local_only: bool = False
    providers: list[Name] | None = None
    regions: list[Name] | None = None


class StopSettings(_Strict):
    """When an experiment ends itself; see `router.experiments.Stop`."""

    after: Annotated[int, Field(ge=10, le=1_000_000)] = 200
    failures: Annotated[float, Field(ge=0, le=1)] = 0.02
    slower: Annotated[float, Field(ge=1, le=1000)] = 1.5


class ExperimentSettings(_Strict):
    """See `router.experiments.Experiment`."""

    group: Name | None = None
    to: Name | None = None
    collection: Name | None = None
    tenant: Name | None = None
    answers: dict[str, Any] | None = None
    percent: Annotated[float, Field(ge=0, le=100)]
    shadow: bool = False
    stop: StopSettings | None = StopSettings()


class GuardSettings(_Strict):
    """A guard of a group; see `router.guards`."""

    use: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    options: dict[str, Any] = {}


class StokerSection(_Strict):
    """What LiteLLM's form has no word for."""

    deadlines: DeadlineSettings = DeadlineSettings()
    breaker: BreakerSettings = BreakerSettings()
    health: HealthSettings = HealthSettings()
    waking: WakingSettings = WakingSettings()
    policy: dict[str, PolicySettings] = {}
    experiments: dict[Name, ExperimentSettings] = {}
    guards: dict[Name, list[GuardSettings]] = {}
    media_hosts: list[Name] = []
    prefix_cache: Literal["tenant", "shared"] = "tenant"


class Form(_Lenient):
    """The whole file."""

    model_list: list[ModelEntry] = []
    router_settings: RouterSettings = RouterSettings()
    litellm_settings: LitellmSettings = LitellmSettings()
    general_settings: GeneralSettings = GeneralSettings()
    stoker: StokerSection = StokerSection()


def unknown_keys(model: BaseModel, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The places of all keys that no field honours."""
    found: list[tuple[str | int, ...]] = [(*place, key) for key in model.model_extra or {}]
    for name in type(model).model_fields:
        value: Any = getattr(model, name)
        for at, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(item, BaseModel):
                found += unknown_keys(item, (*place, name) if at is None else (*place, name, at))
    return found
