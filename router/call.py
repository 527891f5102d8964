"""What is asked of the router."""

from dataclasses import dataclass
from typing import Any, Literal

from core.priority import Priority
from router.deployment import Deadlines, Kind

Operation = Literal["chat.completions", "completions", "embeddings", "messages"]


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a model.

    Attributes:
        kind: the route below `/v1`, with a dot for the slash; `messages` is Anthropic's, the others are OpenAI's.
        group: the model group that the caller named.
        body: the request's body, a validated JSON object; the router never changes it.
        stream: answer with server-sent events.
        allow_hosted: deployments outside the house may be used.
        request_id: sent along as `x-request-id`.
        priority: who waits, and who is refused, when the group has more to do than it can.
    """

    kind: Operation
    group: str
    body: dict[str, Any]
    stream: bool
    allow_hosted: bool
    request_id: str
    priority: Priority = Priority.NORMAL

    @property
    def wants_usage_chunk(self) -> bool:
        """The caller asked for a last chunk that holds the usage."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def native_only(self) -> bool:
        """Only an engine of ours speaks it: LiteLLM's lane translates chat and embeddings."""
        return self.kind in ("completions", "messages")

    @property
    def needs(self) -> Kind:
        """The kind of deployment that can answer."""
        return "embedding" if self.kind == "embeddings" else "chat"

    def limit_s(self, deadlines: Deadlines) -> float:
        """Seconds for the whole answer."""
        return deadlines.embedding_s if self.kind == "embeddings" else deadlines.total_s

    def upstream_body(self, model: str) -> dict[str, Any]:
        """The body for an upstream: its own name for the model, and usage asked for in every stream."""
        body = {**self.body, "model": model}
        if self.stream and self.kind != "messages":
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return body
