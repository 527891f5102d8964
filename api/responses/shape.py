"""The response object, as it is when it begins, and what it says of tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from api.conversations import items as forms
from api.responses.request import Asked
from core.usage import Usage

# What OpenAI's form has and nothing here ever fills.
_NOT_HERE = """access_programs image input_transformations moderation prompt prompt_cache_diagnostics
prompt_cache_options prompt_cache_retention tool_usage""".split()
_NO_WRITES = {"cache_write_tokens": 0, "cache_write_tokens_details": None}


def begun(asked: Asked, response_id: str, model: str, created_at: int) -> dict[str, Any]:
    """A response that is in progress.

    Args:
        model: the group that answers.
    """
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "service_tier": "default",
        "store": asked.store,
        "usage": None,
        **asked.repeated,
        **dict.fromkeys(_NOT_HERE),
    }


def usage_of(usage: Usage, reasoning_tokens: int) -> dict[str, Any]:
    """OpenAI's `usage` of a response."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, **_NO_WRITES},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": min(reasoning_tokens, usage.completion_tokens)},
        "total_tokens": usage.total_tokens,
    }


def shown(response: Mapping[str, Any], include: Sequence[str]) -> dict[str, Any]:
    """The response as clients see it: what a search has found only where they ask for it."""
    return {**response, "output": [forms.shown(item, include) for item in response["output"]]}
