"""All settings of the gateway and the keeper, read once per process."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from api.issuers import Issuer
from api.login.provider import Provider, origin_of
from core.limits import Limits
from monitoring.names import GRACE_S
from retrieval.settings import RetrievalSettings


class ApiSettings(RetrievalSettings):
    """Read from `STOKER_...` environment variables; `./stoker up` sets those of the embedded parts."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)  # it may be a secret

    host: str = Field("127.0.0.1", description="Address of the gateway.")
    port: int = Field(8080, ge=1, le=65535, description="Port that the gateway listens on.")
    gateway_url: str = Field(
        "http://127.0.0.1:8080",
        description="Address of this host's gateway, which the keeper asks whether it is ready.",
    )
    workers: int = Field(1, ge=1, le=64, description="Processes of the gateway.")
    hosts: int = Field(
        1,
        ge=1,
        le=1000,
        description="Gateways that share one SQL database and one Redis, this one included; each has as many workers.",
    )
    admin_key_file: Path | None = Field(
        None, description="File of the first admin key, made once with mode 0600. Unset: admin.key in the data folder."
    )
    config: Path | None = Field(None, description="Deployments and routing, in LiteLLM's form (stoker.yaml).")
    local_deployments: Annotated[list[dict[str, Any]], NoDecode] = Field(
        default_factory=list, description="JSON list of the local engines, in LiteLLM's model_list form."
    )
    gpu_figures_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Where the figures of GPUs by model are served, `stoker_gpu_*`. Unset: the console shows no GPUs.",
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Origins, separated by commas, whose pages may call this gateway."
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Bytes of the largest request body, uploads included."
    )
    max_json_bytes: int = Field(
        1024 * 1024, ge=1024, description="Bytes of the largest body of other requests than uploads and model requests."
    )
    body_deadline_s: float = Field(
        30.0, gt=0, le=3600, description="Seconds in which a model request's body must come."
    )
    request_deadline_s: float = Field(
        660.0, gt=0, le=86_400, description="Seconds in which a model request's answer must be given and taken."
    )
    drain_s: float = Field(
        30.0,
        ge=0,
        le=86_400,
        description="Seconds that running requests get after SIGTERM; new ones are refused meanwhile.",
    )
    queue_s: float = Field(
        20.0,
        ge=0,
        le=600,
        description="Seconds that a request waits for a model that has more to do than it can, before it is refused.",
    )
    admission_lease_s: float = Field(
        60.0, ge=1, le=3600, description="Seconds after which what a dead worker had reserved goes back."
    )
    answer_model: str | None = Field(
        None, description="Model group that answers questions when a request names none. Unset: the first chat model."
    )
    answer_passages: int = Field(1, ge=1, le=20, description="Passages that the answering model is shown.")
    answer_quotes: int = Field(
        3,
        ge=1,
        le=20,
        description="Passages that are quoted, the best stretch of each, where nothing that a model wrote can be told.",
    )
    answer_context_characters: int = Field(
        300,
        ge=200,
        le=16_000,
        description="Characters of context at most, where the model is shown sentences; 4 are about one token.",
    )
    answer_pack: Literal["sentences", "passages"] = Field(
        "sentences",
        description="What the answering model is shown of the passages: the sentences around the best one, or all.",
    )
    answer_max_context_tokens: int = Field(
        4000, ge=64, le=200_000, description="Tokens of documents that the answering model is shown at most."
    )
    answer_generate: Literal["model", "quote"] = Field(
        "model", description="Whether a model writes answers, or the sources are quoted."
    )
    answer_verify: Literal["strict", "mark", "off"] = Field(
        "strict", description="What becomes of a sentence that no source supports, where a request does not say."
    )
    answer_question_characters: int = Field(
        8000, ge=100, le=20_000, description="Characters of a question that is answered from documents, at most."
    )
    answer_retrieve_deadline_s: float = Field(
        30.0, gt=0, le=600, description="Seconds to find an answer's passages, reranking included."
    )
    answer_pack_deadline_s: float = Field(
        2.0,
        gt=0,
        le=600,
        description="Seconds to ask an engine how many tokens its sources are; after that they are cut by their bytes.",
    )
    answer_generate_deadline_s: float = Field(
        180.0, gt=0, le=600, description="Seconds that an answer's model is waited for, both times it may be asked."
    )
    answer_first_token_share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of these seconds in which the first token must come; else the model is asked again with "
        "fewer passages.",
    )
    answer_verify_deadline_s: float = Field(
        15.0, gt=0, le=600, description="Seconds to hold an answer's sentences against their documents."
    )
    answer_max_tokens: int = Field(64, ge=1, le=4096, description="Tokens of an answer, where a request says nothing.")
    answer_min_coverage: float = Field(
        0.75,
        ge=0,
        le=1,
        description="Share of what a sentence says beyond the question that one source sentence must hold for it to be "
        "kept.",
    )
    answer_link_hosts: list[str] = Field(
        default_factory=list,
        description="Hosts to which links in answers may lead, beside this machine; `.example.org` stands for all "
        "below it, `*` for every host.",
    )
    cache_entry_bytes: int = Field(
        262_144, ge=1024, le=16_777_216, description="The longest answer that a cache keeps."
    )
    cache_tenant_bytes: int = Field(
        67_108_864,
        ge=1_048_576,
        le=17_179_869_184,
        description="What a tenant's caches may hold in Redis; beyond it those entries that end first go.",
    )
    chat_cache_s: float = Field(
        3600.0, ge=0, le=604_800, description="Seconds for which a model's answer is kept where a request asks for it."
    )
    answer_cache_s: float = Field(
        3600.0, ge=0, le=604_800, description="Seconds for which an answer of /v1/query is kept; 0: none is."
    )
    search_cache_s: float = Field(
        600.0, ge=0, le=604_800, description="Seconds for which what /v1/search found is kept; 0: nothing is."
    )
    question_cache_s: float = Field(
        3600.0, ge=0, le=604_800, description="Seconds for which the vector of a question is kept; 0: none is."
    )
    answer_cache_semantic: bool = Field(
        False,
        description="Answers of /v1/query are also told to English questions of the same words written otherwise.",
    )
    semantic_check_share: float = Field(
        0.05, ge=0, le=1, description="Of such hits, those that are held against a new answer, which is told instead."
    )
    semantic_false_share: float = Field(
        0.02,
        gt=0,
        le=0.5,
        description="Share of false hits among those; where it is surely passed, a worker has no more of them for the "
        "collection.",
    )
    answer_stale_s: float = Field(
        86_400.0,
        ge=0,
        le=604_800,
        description="Seconds for which an answer of /v1/query is kept for when no model answers, whatever has become "
        "of other documents than those that it was made from; 0: none is.",
    )
    auto_models: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Model groups, separated by commas, from the cheapest to the most able, among which a request to "
        "the model `auto` chooses. Unset: there is no such model.",
    )
    auto_thresholds: Annotated[list[float], NoDecode] = Field(
        default_factory=lambda: [0.15],
        description="Difficulties from 0 to 1, rising, separated by commas: from the first one on the second of these "
        "models is asked, from the next the third.",
    )
    query_work_deadline_s: float = Field(
        10.0,
        gt=0,
        le=120,
        description="Seconds for all that a model does with a question before it is searched: rewriting, other "
        "wordings, a passage to search by, a filter.",
    )
    socket_auth_s: float = Field(
        10.0, gt=0, le=300, description="Seconds in which who opens a WebSocket must say who is there."
    )
    socket_idle_s: float = Field(
        300.0, gt=0, le=86_400, description="Seconds without a question after which a WebSocket is closed."
    )
    file_search_characters: int = Field(
        8000,
        ge=400,
        le=400_000,
        description="Characters of documents that file_search shows a model at most, and less where its window is too "
        "small for them; 4 are about one token.",
    )
    response_days: float = Field(
        30.0, gt=0, le=3650, description="Days that an answer of /v1/responses is kept, unless its request says not to."
    )
    batch_parallel: int = Field(
        2, ge=0, le=64, description="Lines of batches that a worker sends at once. 0: this gateway runs no batches."
    )
    batch_attempts: int = Field(5, ge=1, le=20, description="Attempts at a line of a batch whose upstream fails.")
    batch_max_lines: int = Field(50_000, ge=1, le=1_000_000, description="Lines of one batch at most.")
    batch_max_line_bytes: int = Field(2**20, ge=1024, description="Bytes of the largest line of a batch.")
    batch_max_open: int = Field(100, ge=1, le=1000, description="Batches of one tenant that have not ended, at most.")
    batch_price_factor: Decimal = Field(
        Decimal(1), ge=0, le=10, description="What a batch's tokens cost, as a factor of the model's price."
    )
    batch_lease_s: float = Field(
        30.0, ge=2, le=3600, description="Seconds after which a silent worker loses its lines of batches."
    )
    metrics_tenants: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Tenants that have series of their own in /metrics, by their ids, of requests, tokens and money; "
        "`other` has the rest. 0: none, since /metrics asks nobody who is there.",
    )
    metrics_grace_s: float = Field(
        GRACE_S,
        ge=0,
        le=86_400,
        description="Seconds for which /metrics tells counters of a deployment, model or experiment that is gone; "
        "longer than Prometheus takes between two scrapes.",
    )
    budget_webhook: SecretStr | None = Field(
        None,
        description="URL to which the keeper posts budget alerts, at 50, 80 and 100 % of a day's or month's limit. "
        "Unset: they are logged.",
    )

    hooks_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Key from which the secrets of signed webhooks follow; the same on every host, and another one "
        "makes all of them void. Unset: hooks.key in the data folder, made once with mode 0600.",
    )
    webhook_retry_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Seconds until a webhook that did not take a delivery is asked again; then three times that, up to "
        "two hours.",
    )
    webhook_give_up_s: float = Field(
        86_400.0, gt=0, le=604_800, description="Seconds after which a delivery that nobody took is given up."
    )
    webhook_deadline_s: float = Field(15.0, gt=0, le=120, description="Seconds for one answer of a webhook.")

    key_rpm: int = Field(60, ge=0, description="Requests a minute of a new key that names no limit. 0: no limit.")
    key_burst: int = Field(100, ge=0, description="Requests at once of such a key. 0: as many as a minute allows.")
    key_tpm: int = Field(100_000, ge=0, description="Tokens a minute of a new key that names no limit. 0: no limit.")
    key_parallel: int = Field(
        10, ge=0, description="Requests at the same time of a new key that names no limit. 0: no limit."
    )
    identity_cache: int = Field(10_000, ge=1, le=1_000_000, description="Keys and tokens that a worker remembers.")
    deployment_secrets: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Variables of the environment that deployments added by /v1/admin/deployments may name as their "
        "secrets, separated by commas.",
    )
    config_poll_s: float = Field(
        0.5, gt=0, le=60, description="Seconds between two looks whether the configuration's file has changed."
    )
    identity_poll_s: float = Field(
        1.0, gt=0, le=10, description="Seconds between two looks for keys that other hosts have changed."
    )
    identity_outage_s: float = Field(
        60.0, ge=0, le=3600, description="Seconds that a remembered key holds while SQL is silent."
    )
    jwt_issuers: Annotated[list[Issuer], NoDecode] = Field(
        default_factory=list,
        description="JSON list of the issuers whose tokens are accepted; see docs/configuration.md.",
    )
    jwt_leeway_s: float = Field(
        5.0, ge=0, le=300, description="Seconds by which an issuer's clock may differ from this one."
    )
    jwks_deadline_s: float = Field(3.0, gt=0, le=30, description="Seconds to fetch an issuer's public keys.")

    public_url: str | None = Field(
        None,
        description="Where browsers reach this gateway, such as https://stoker.example.com. With https the console's "
        "cookies are never sent in the clear.",
    )
    session_hours: float = Field(
        12.0, gt=0, le=24 * 365, description="Hours after which who signed in must do so again."
    )
    oidc_providers: Annotated[list[Provider], NoDecode] = Field(
        default_factory=list,
        description="JSON list of the identity providers that the console's users sign in at; "
        "see docs/configuration.md.",
    )
    oidc_deadline_s: float = Field(5.0, gt=0, le=30, description="Seconds for one answer of an identity provider.")

    @field_validator("public_url")
    @classmethod
    def _as_origin(cls, value: str | None) -> str | None:
        return None if value is None else origin_of(value)

    @model_validator(mode="after")
    def _providers_are_complete(self) -> Self:
        names = [provider.name for provider in self.oidc_providers]
        issuers = {issuer.issuer for issuer in self.jwt_issuers}
        if len(names) != len(set(names)):
            raise ValueError("two of STOKER_OIDC_PROVIDERS have one name")
        if names and self.public_url is None:
            raise ValueError("STOKER_OIDC_PROVIDERS needs STOKER_PUBLIC_URL, where providers send users back to")
        for provider in self.oidc_providers:
            if provider.issuer not in issuers:
                raise ValueError(
                    f"STOKER_JWT_ISSUERS has no issuer {provider.issuer}, to which the provider {provider.name} belongs"
                )
        return self

    @field_validator("local_deployments", "jwt_issuers", "oidc_providers", mode="before")
    @classmethod
    def _from_json(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("auto_thresholds")
    @classmethod
    def _rise(cls, value: list[float]) -> list[float]:
        if value != sorted(value) or not all(0 <= one <= 1 for one in value):
            raise ValueError("difficulties rise from 0 to 1, such as 0.3,0.8")
        return value

    @field_validator("cors_origins", "deployment_secrets", "auto_models", "auto_thresholds", mode="before")
    @classmethod
    def _from_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    def ledger_folder(self) -> Path:
        """Where the gateway's workers write lines of the ledger, and the keeper finds them."""
        return self.data_dir / "ledger"

    def key_limits(self) -> Limits:
        """The limits of a new key that names none."""
        return Limits(
            requests_per_minute=self.key_rpm or None,
            burst=(self.key_burst or None) if self.key_rpm else None,
            tokens_per_minute=self.key_tpm or None,
            parallel=self.key_parallel or None,
        )

    def admin_key_path(self) -> Path:
        """The admin key's file in force."""
        return self.admin_key_file or self.data_dir / "admin.key"
