"""What is asked of the router."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.priority import Priority
from core.reach import Reach
from router.deployment import Deadlines, Kind

Operation = Literal["chat.completions", "completions", "embeddings", "messages", "rerank"]

_NEEDS: Mapping[Operation, Kind] = {"embeddings": "embedding", "rerank": "rerank"}  # of the others: chat

# What makes an answer more than text, or its tokens more than their ids tell.
_SHAPED = """tools functions structured_outputs guided_json guided_regex guided_choice guided_grammar
modalities audio""".split()
_MAX_ID_SIGNS = 64 * 1024  # of a prompt; the ids of a longer one would weigh more than they are worth


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a model.

    Attributes:
        kind: the route below `/v1`, with a dot for the slash; `messages` is Anthropic's, the others are OpenAI's.
        group: the model group that the caller named.
        body: the request's body, a validated JSON object; the router never changes it.
        stream: answer with server-sent events.
        reach: the hosted deployments that may be used.
        request_id: sent along as `x-request-id`.
        tenant: whose text it is, by the tenant's id; an engine shows it to no other by the time that it takes.
        rescue: where the stream breaks, another deployment may go on with it.
        who: the caller, for experiments; all calls of one caller go the same way.
        shadow: nobody waits for it, so it may harm nobody who does: it is tried once, and says nothing of anybody.
        guards: those that have looked at it, and hear its answer.
        priority: who waits, and who is refused, when the group has more to do than it can.
    """

    kind: Operation
    group: str
    body: dict[str, Any]
    stream: bool
    reach: Reach
    request_id: str
    tenant: str = field(kw_only=True)
    priority: Priority = Priority.NORMAL
    rescue: bool = True
    who: str = ""
    shadow: bool = False
    guards: tuple[object, ...] = ()

    @property
    def wants_usage_chunk(self) -> bool:
        """The caller asked for a last chunk that holds the usage."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True

    @property
    def native_only(self) -> bool:
        """Only an engine of ours speaks it: LiteLLM's lane translates chat and embeddings."""
        return self.kind in ("completions", "messages", "rerank")

    @property
    def needs(self) -> Kind:
        """The kind of deployment that can answer."""
        return _NEEDS.get(self.kind, "chat")

    def limit_s(self, deadlines: Deadlines) -> float:
        """Seconds for the whole answer."""
        return deadlines.total_s if self.needs == "chat" else deadlines.embedding_s

    @property
    def is_plain_text(self) -> bool:
        """The answer is to be text whose beginning says all about how it may go on: no tools, no grammar."""
        body = self.body
        shape = body.get("response_format")
        if any(body.get(name) for name in _SHAPED) or (shape and shape != {"type": "text"}):
            return False
        options = body.get("stream_options")
        return not (isinstance(options, dict) and options.get("continuous_usage_stats"))

    @property
    def shows_ids(self) -> bool:
        """The caller asked for token ids."""
        return self.body.get("return_token_ids") is True

    @property
    def wants_ids(self) -> bool:
        """Token ids are worth their bytes: with them another engine goes on exactly where this one stopped."""
        return (
            self.stream
            and self.rescue
            and self.kind in ("chat.completions", "completions")
            and self.is_plain_text
            and _prompt_signs(self.body) <= _MAX_ID_SIGNS
        )

    def upstream_body(self, model: str, *, ids: bool = False, salt: str | None = None) -> dict[str, Any]:
        """The body for an upstream: its own name for the model, and usage asked for in every stream.

        Args:
            ids: the upstream can name its tokens, and is asked to where that helps.
            salt: under which alone it is to look for beginnings of prompts that it has read; None: under any.
        """
        body = {**self.body, "model": model}
        if salt is not None:
            body["cache_salt"] = salt
        if ids and self.wants_ids:
            body["return_token_ids"] = True
        if self.stream and self.kind != "messages":
            options = body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return body


def _prompt_signs(body: dict[str, Any]) -> float:
    """How long the prompt is; infinite where it is not text alone, which no ids can stand for."""
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return len(prompt)
    messages = body.get("messages")
    if not isinstance(messages, list):
        return float("inf")
    length = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str):
            return float("inf")
        length += len(content)
    return length
