"""One upstream and model, as the configuration describes it."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from core.breaker import BreakerPolicy
from core.money import Price

VLLM = "hosted_vllm"
"""The provider whose engines are vLLMs of one's own."""

Kind = Literal["chat", "embedding", "rerank"]


class LaneName(enum.StrEnum):
    """How a deployment is reached."""

    NATIVE = "native"
    LITELLM = "litellm"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long to wait, in seconds.

    Attributes:
        connect_s: for the connection.
        first_token_s: from the request to the stream's first token.
        between_tokens_s: between two reads of a stream.
        total_s: for the whole answer; the only clock of an answer in one piece, which sends nothing until it is done.
        embedding_s: for an embedding or reranking call, in place of `total_s`.
    """

    connect_s: float = 5.0
    first_token_s: float = 10.0
    between_tokens_s: float = 10.0
    total_s: float = 600.0
    embedding_s: float = 60.0


# What may change of a deployment while its engine stays the same.
_ABOUT_IT: Mapping[str, Any] = {
    "price": Price(),
    "default_max_tokens": 1,
    "max_parallel": None,
    "weight": 1.0,
    "rescue": True,
    "draining": False,
    "parts_tenants": True,
    "deadlines": Deadlines(),
    "breaker": BreakerPolicy(),
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """One upstream and model.

    Attributes:
        name: unique; labels metrics and logs.
        group: the model group, which is the name that clients use.
        model: the model's name at the upstream, with the provider's prefix on the LiteLLM lane.
        hosted: data leaves the house; allowed per request.
        provider: who runs it, for `owned_by` and for policy.
        region: where it runs, as the configuration says; None: nobody said.
        api_base: address of the upstream's `/v1`; on the LiteLLM lane None means the provider's own.
        parameters: more of LiteLLM's connection parameters, such as `api_version`.
        price: of its tokens; ours have one too where the configuration says so.
        default_max_tokens: completion tokens of a request that names no bound, where tokens or money are limited.
        max_parallel: calls at once; None: as many as come.
        weight: how often it is asked beside the others of its group, where these take turns.
        on_cpu: it computes on a CPU, where single steps may take seconds.
        rescue: another deployment may go on with a stream that breaks here.
        wakes_in_s: it may be asleep or scaled to zero, and takes so many seconds to come back; None: it never is.
        draining: it is given no new calls; those under way go on.
        parts_tenants: what it keeps of one tenant's prompts is of use to no other, where it is a vLLM.
    """

    name: str
    group: str
    model: str
    lane: LaneName
    hosted: bool
    kind: Kind = "chat"
    provider: str = "stoker"
    region: str | None = None
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    price: Price = field(default_factory=Price)
    default_max_tokens: int = 1024
    max_parallel: int | None = None
    weight: float = 1.0
    on_cpu: bool = False
    rescue: bool = True
    wakes_in_s: float | None = None
    draining: bool = False
    parts_tenants: bool = True
    deadlines: Deadlines = Deadlines()
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)

    def same_engine(self, other: "Deployment") -> bool:
        """Whether what is known of the other's health, and what it holds of prompts, is true of this one."""
        return replace(self, **_ABOUT_IT) == replace(other, **_ABOUT_IT)

    @property
    def names_tokens(self) -> bool:
        """It takes `return_token_ids`, as vLLM does."""
        return self.lane is LaneName.NATIVE and self.rescue

    @property
    def salted(self) -> bool:
        """It takes `cache_salt`, as vLLM does, and is told one for each tenant."""
        is_vllm = self.lane is LaneName.NATIVE or self.parameters.get("custom_llm_provider") == VLLM
        return is_vllm and self.parts_tenants
