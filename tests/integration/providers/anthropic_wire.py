"""Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/api/messages-streaming
"""

from typing import Any

import orjson
from aiohttp import web

from tests.integration.providers.wire import (
    USAGE,
    WRITTEN,
    ChatWire,
    Fault,
    Refused,
    Say,
    Seen,
    Told,
    fits,
    header,
    no_header,
    posted,
    sse,
)

_TEXT = {"type": {"text"}, "text": str, "cache_control?": {"type": {"ephemeral"}}}
_BLOCK = (
    _TEXT,
    {"type": {"tool_use"}, "id": str, "name": str, "input": dict},
    {"type": {"tool_result"}, "tool_use_id": str, "content": (str, [_TEXT])},
)
_BODY = {
    "model": {"claude-sonnet-4-5"},
    "max_tokens": int,
    "messages": [{"role": {"user", "assistant"}, "content": (str, [_BLOCK])}],
    "system?": (str, [_TEXT]),
    "temperature?": (int, float),
    "top_p?": (int, float),
    "top_k?": int,
    "stop_sequences?": [str],
    "stream?": bool,
    "tools?": [{"name": str, "description?": str, "input_schema": dict, "type?": {"custom"}}],
    "tool_choice?": {"type": {"auto", "any", "tool", "none"}, "name?": str, "disable_parallel_tool_use?": bool},
    "metadata?": {"user_id": str},
}
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class AnthropicWire(ChatWire):
    name = "anthropic"
    secret = "sk-ant-9b03"
    key_header = "x-api-key"

    def entries(self) -> list[dict[str, Any]]:
        params = {"model": "anthropic/claude-sonnet-4-5", "api_base": self.url, "api_key": "os.environ/WIRE_ANTHROPIC"}
        return [{"model_name": "anthropic", "litellm_params": params}]

    def environment(self) -> dict[str, str]:
        return {"WIRE_ANTHROPIC": self.secret}

    def admit(self, seen: Seen) -> str:
        posted(seen)
        header(seen, "x-api-key", self.secret, 401)
        header(seen, "anthropic-version", "2023-06-01")
        no_header(seen, "authorization", "api-key")
        if seen.path != "/v1/messages":
            raise Refused(404, "Not found")
        fits(seen.body, _BODY)
        return "stream" if seen.body.get("stream") else "chat"

    def error(self, status: int, message: str) -> web.Response:
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 500: "api_error"}
        error = {"type": kinds.get(status, "overloaded_error" if status == 529 else "invalid_request_error")}
        body = {"type": "error", "error": {**error, "message": message}, "request_id": "req_011"}
        return web.json_response(body, status=status, headers={"retry-after": "9"} if status == 429 else None)

    def refusal(self, fault: Fault) -> web.Response:
        match fault:
            case Fault.BAD_REQUEST:
                return self.error(400, "temperature: Input should be less than or equal to 1")
            case Fault.TOO_LONG:
                return self.error(400, "prompt is too long: 210000 tokens > 200000 maximum")
            case Fault.KEY:
                return self.error(401, "invalid x-api-key")
            case Fault.UNPAID:
                return self.error(400, "Your credit balance is too low to access the Anthropic API.")
            case Fault.LIMIT:
                return self.error(429, "This request would exceed the rate limit for org-secret")
            case Fault.BUSY:
                return self.error(529, "Overloaded")
        return self.error(500, "Internal server error")

    def told(self, seen: Seen) -> Told:
        body = seen.body
        return Told(
            _text(body["system"]),
            _text(body["messages"][-1]["content"]),
            body["max_tokens"],
            body.get("temperature"),
            body.get("stop_sequences"),
            [tool["name"] for tool in body.get("tools", ())],
            body.get("stream", False),
        )

    def whole(self, say: Say) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": say.text}]
        if say.tool:
            content = [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": orjson.loads(say.tool)}]
        return {**_head(), "content": content, "stop_reason": _REASONS[say.reason], "usage": _usage()}

    def events(self, say: Say, seen: Seen) -> list[bytes]:
        start = {**_head(), "content": [], "stop_reason": None, "usage": {**_usage(), "output_tokens": 1}}
        block: dict[str, Any] = {"type": "text", "text": ""}
        deltas = [{"type": "text_delta", "text": part} for part in (say.text[:4], say.text[4:8], say.text[8:])]
        if say.tool:
            block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
            parts = ("", say.tool[:5], say.tool[5:])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        ended = {"stop_reason": _REASONS[say.reason], "stop_sequence": None}
        return [
            _event("message_start", message=start),
            _event("content_block_start", index=0, content_block=block),
            _event("ping"),
            *(_event("content_block_delta", index=0, delta=delta) for delta in deltas),
            _event("content_block_stop", index=0),
            _event("message_delta", delta=ended, usage={"output_tokens": USAGE.completion_tokens}),
            _event("message_stop"),
        ]

    def inner_error(self) -> bytes:
        return _event("error", error={"type": "overloaded_error", "message": "Overloaded"})


def _head() -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "stop_sequence": None,
    }


def _usage() -> dict[str, int]:
    """Anthropic's `input_tokens` leaves out what was read from its cache or put into it."""
    return {
        "input_tokens": USAGE.prompt_tokens - USAGE.cached_tokens - WRITTEN,
        "cache_creation_input_tokens": WRITTEN,
        "cache_read_input_tokens": USAGE.cached_tokens,
        "output_tokens": USAGE.completion_tokens,
    }


def _event(name: str, **fields: Any) -> bytes:
    return sse({"type": name, **fields}, name)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)
