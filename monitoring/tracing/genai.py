"""OpenTelemetry's semantic conventions for calls of generative models: the one place that knows them.

They are in development, and change names with most releases. A test holds these against the installed package.
Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from core.usage import Usage
from monitoring.redaction import redacted
from monitoring.tracing.spans import Value, shows_text

_OPERATIONS = {
    "chat.completions": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "rerank": "rerank",  # the conventions have no word for it
}
# Names of providers where the conventions and LiteLLM differ.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
_ASKED = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "seed": "gen_ai.request.seed",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
}
_MOST_TEXT = 20_000  # characters of a prompt in a span
_MOST_PARTS = 200  # of each of its lists and objects
_TOO_LARGE = 2**63  # for an integer of OTLP


def operation_of(kind: str) -> str:
    """The conventions' word for a route below `/v1`."""
    return _OPERATIONS.get(kind, kind)


def asked(kind: str, provider: str, model: str, body: Mapping[str, Any], *, query: bool = True) -> dict[str, Value]:
    """Attributes of a call to a model; with its prompt, less what looks like secrets, where that is switched on.

    Args:
        kind: the route below `/v1`, with a dot for the slash.
        provider: as LiteLLM names it.
        model: as the provider names it.
        query: what is embedded is somebody's question, no document.
    """
    found: dict[str, Value] = {
        "gen_ai.operation.name": operation_of(kind),
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        "gen_ai.request.model": model,
    }
    for name, attribute in _ASKED.items():
        value = body.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _TOO_LARGE:
            found[attribute] = value
    if body.get("stream") is True:
        found["gen_ai.request.stream"] = True
    if shows_text() and (prompt := body.get("messages") or body.get("prompt") or (query and body.get("input"))):
        found["gen_ai.input.messages"] = orjson.dumps(_shown(prompt, [_MOST_TEXT])).decode()
    return found


def answered(usage: Usage | None, finish_reason: str | None, first_token_s: float | None) -> dict[str, Value]:
    """Attributes of its answer.

    Args:
        first_token_s: seconds from the call to the first token.
    """
    found: dict[str, Value] = {}
    if usage is not None:
        found["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        found["gen_ai.usage.output_tokens"] = usage.completion_tokens
        if usage.cached_tokens:
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if finish_reason is not None:
        found["gen_ai.response.finish_reasons"] = [finish_reason]
    if first_token_s is not None:
        found["gen_ai.response.time_to_first_chunk"] = first_token_s
    return found


def searched(collection_id: str, question: str) -> dict[str, Value]:
    """Attributes of a search; with the question, less what looks like secrets, where that is switched on."""
    found: dict[str, Value] = {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": collection_id}
    if shows_text():
        found["gen_ai.retrieval.query.text"] = redacted(question, _MOST_TEXT)
    return found


def _shown(prompt: Any, left: list[int]) -> Any:
    """A prompt with each of its texts redacted, as far as the characters that are `left` go."""
    if isinstance(prompt, str):
        shown = redacted(prompt, max(0, left[0]))
        left[0] -= len(shown)
        return shown
    if isinstance(prompt, list):
        return [_shown(one, left) for one in prompt[:_MOST_PARTS] if left[0] > 0]
    if isinstance(prompt, dict):
        return {name[:100]: _shown(one, left) for name, one in list(prompt.items())[:_MOST_PARTS]}
    return prompt if isinstance(prompt, bool | float | None) or abs(prompt) < _TOO_LARGE else str(prompt)[:20]
