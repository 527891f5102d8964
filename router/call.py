"""What is asked of the router."""

from dataclasses import dataclass
from typing import Any, Literal

from router.deployment import Deadlines, Kind


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a model.

    Attributes:
        kind: OpenAI's route below `/v1`, with a dot for the slash.
        group: the model group that the caller named.
        body: OpenAI's request body, a validated JSON object; the router never changes it.
        stream: answer with server-sent events.
        allow_hosted: deployments outside the house may be used.
        request_id: sent along as `x-request-id`.
    """

    kind: Literal["chat.completions", "embeddings"]
    group: str
    body: dict[str, Any]
    stream: bool
    allow_hosted: bool
    request_id: str

    @property
    def wants_usage_chunk(self) -> bool:
        """The caller asked for a last chunk that holds the usage."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

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
        if self.stream:
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return body
