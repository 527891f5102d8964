"""OpenAI, and Azure OpenAI: the same bodies behind other paths, headers and errors.

Source: https://platform.openai.com/docs/api-reference, https://learn.microsoft.com/azure/ai-services/openai/reference
"""

import base64
import struct
from typing import Any

from aiohttp import web

from tests.integration.providers.wire import (
    USAGE,
    VECTORS,
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

TOOL_CALL = {"id": str, "type": {"function"}, "function": {"name": str, "arguments": str}}
MESSAGE = {
    "role": {"system", "developer", "user", "assistant", "tool"},
    "content": (str, [{"type": {"text"}, "text": str}]),
    "tool_calls?": [TOOL_CALL],
    "tool_call_id?": str,
}
FUNCTION = {"name": str, "description?": str, "parameters?": dict, "strict?": bool}
CHAT: dict[str, Any] = {
    "model": str,
    "messages": [MESSAGE],
    "stream?": bool,
    "stream_options?": {"include_usage?": bool},
    "max_tokens?": int,
    "temperature?": (int, float),
    "top_p?": (int, float),
    "stop?": (str, [str]),
    "tools?": [{"type": {"function"}, "function": FUNCTION}],
    "tool_choice?": ({"auto", "none", "required"}, {"type": {"function"}, "function": {"name": str}}),
    "parallel_tool_calls?": bool,
    "max_completion_tokens?": int,
    "presence_penalty?": (int, float),
    "frequency_penalty?": (int, float),
    "logit_bias?": dict,
    "response_format?": dict,
    "seed?": int,
    "n?": int,
    "user?": str,
}
EMBED = {"model": str, "input": (str, [str]), "encoding_format?": {"float", "base64"}, "dimensions?": int}


def usage_of(tokens: Any = USAGE) -> dict[str, Any]:
    return {**tokens.as_openai(), "prompt_tokens_details": {"cached_tokens": tokens.cached_tokens}}


def chat_told(body: dict[str, Any]) -> Told:
    said = {message["role"]: message["content"] for message in body["messages"]}
    stop = body.get("stop")
    return Told(
        said["system"],
        said["user"],
        body.get("max_tokens"),
        body.get("temperature"),
        [stop] if isinstance(stop, str) else stop,
        [tool["function"]["name"] for tool in body.get("tools", ())],
        body.get("stream", False),
    )


def chat_whole(say: Say, model: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None if say.tool else say.text, "refusal": None}
    if say.tool:
        function = {"name": "weather", "arguments": say.tool}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": say.reason, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage_of(),
    }


def chat_chunks(say: Say, model: str, *, usage: bool) -> list[dict[str, Any]]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    if usage:
        head["usage"] = None

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    if say.tool:
        function = {"name": "weather", "arguments": ""}
        call: dict[str, Any] = {"index": 0, "id": "call_1", "type": "function", "function": function}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in (say.tool[:5], say.tool[5:])
        ]
    else:
        first, *rest = say.text.split(" ")
        words = [first, *(f" {word}" for word in rest)]
        deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    chunks = [*map(chunk, deltas), chunk({}, say.reason)]
    return [*chunks, {**head, "choices": [], "usage": usage_of()}] if usage else chunks


class OpenAiWire(ChatWire):
    name = "openai"
    secret = "sk-openai-4f1c"
    key_header = "authorization"
    model = "gpt-4o-mini"
    embedder = "text-embedding-3-small"

    def entries(self) -> list[dict[str, Any]]:
        own = {"api_base": f"{self.url}/v1", "api_key": "os.environ/WIRE_OPENAI_KEY"}
        return [
            {"model_name": "openai", "litellm_params": {"model": f"openai/{self.model}", **own}},
            {
                "model_name": "openai-embed",
                "litellm_params": {"model": f"openai/{self.embedder}", **own},
                "model_info": {"mode": "embedding"},
            },
        ]

    def environment(self) -> dict[str, str]:
        return {"WIRE_OPENAI_KEY": self.secret}

    def admit(self, seen: Seen) -> str:
        posted(seen)
        header(seen, "authorization", f"Bearer {self.secret}", 401)
        no_header(seen, "api-key", "x-api-key")
        return self.route(seen, "/v1/chat/completions", "/v1/embeddings")

    def route(self, seen: Seen, chat: str, embed: str) -> str:
        if seen.path == chat:
            fits(seen.body, {**CHAT, "model": {self.model}})
            return "stream" if seen.body.get("stream") else "chat"
        if seen.path == embed:
            fits(seen.body, {**EMBED, "model": {self.embedder}})
            return "embed"
        raise Refused(404, f"Invalid URL (POST {seen.path})")

    def error(self, status: int, message: str, code: str | None = None) -> web.Response:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        headers = {"retry-after": "9"} if status == 429 else None
        return web.json_response({"error": error}, status=status, headers=headers)

    def refusal(self, fault: Fault) -> web.Response:
        match fault:
            case Fault.BAD_REQUEST:
                return self.error(400, "temperature must be at most 2")
            case Fault.TOO_LONG:
                text = (
                    "This model's maximum context length is 128000 tokens. However, your messages resulted in 200000."
                )
                return self.error(400, text, "context_length_exceeded")
            case Fault.KEY:
                return self.error(401, f"Incorrect API key provided: {self.secret}.", "invalid_api_key")
            case Fault.UNPAID:
                return self.error(402, "Pay first: org-secret")
            case Fault.LIMIT:
                return self.error(429, "Rate limit reached for gpt-4o-mini in org-secret", "rate_limit_exceeded")
            case Fault.BUSY:
                return self.error(503, "The engine is currently overloaded, please try again later")
        return self.error(500, "The server had an error while processing your request")

    def told(self, seen: Seen) -> Told:
        return chat_told(seen.body)

    def whole(self, say: Say) -> dict[str, Any]:
        return chat_whole(say, "gpt-4o-mini-2024-07-18")

    def events(self, say: Say, seen: Seen) -> list[bytes]:
        wanted = (seen.body.get("stream_options") or {}).get("include_usage", False)
        return [*map(sse, chat_chunks(say, "gpt-4o-mini-2024-07-18", usage=wanted)), sse(b"[DONE]")]

    def inner_error(self) -> bytes:
        return sse({"error": {"message": "The server had an error", "type": "server_error", "code": None}})

    def embedded(self, seen: Seen) -> web.Response:
        body, rows = seen.body, []
        for index, vector in enumerate(
            VECTORS[: 1 if isinstance(body_input := body["input"], str) else len(body_input)]
        ):
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            as_asked = packed if body.get("encoding_format") == "base64" else vector
            rows.append({"object": "embedding", "index": index, "embedding": as_asked})
        usage = {"prompt_tokens": USAGE.prompt_tokens, "total_tokens": USAGE.prompt_tokens}
        return web.json_response({"object": "list", "data": rows, "model": body["model"], "usage": usage})


class AzureWire(OpenAiWire):
    """A deployment's name is in the path, and the version in the query."""

    name = "azure"
    secret = "azure-key-77d2"
    key_header = "api-key"
    version = "2024-10-21"
    model = "team-chat"
    embedder = "team-embed"

    def entries(self) -> list[dict[str, Any]]:
        own = {"api_base": self.url, "api_version": self.version, "api_key": "os.environ/WIRE_AZURE_KEY"}
        return [
            {"model_name": "azure", "litellm_params": {"model": f"azure/{self.model}", **own}},
            {
                "model_name": "azure-embed",
                "litellm_params": {"model": f"azure/{self.embedder}", **own},
                "model_info": {"mode": "embedding"},
            },
        ]

    def environment(self) -> dict[str, str]:
        return {"WIRE_AZURE_KEY": self.secret}

    def admit(self, seen: Seen) -> str:
        posted(seen)
        header(seen, "api-key", self.secret, 401)
        if seen.query != {"api-version": self.version}:
            raise Refused(404, "Resource not found")
        deployments = "/openai/deployments"
        return self.route(
            seen, f"{deployments}/{self.model}/chat/completions", f"{deployments}/{self.embedder}/embeddings"
        )

    def error(self, status: int, message: str, code: str | None = None) -> web.Response:
        headers = {"retry-after": "9"} if status == 429 else None
        return web.json_response(
            {"error": {"code": code or str(status), "message": message}}, status=status, headers=headers
        )

    def events(self, say: Say, seen: Seen) -> list[bytes]:
        """Azure says first what it thinks of the prompt, in a chunk of no choice and no name."""
        filtered = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        filtered["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": {}}]
        return [sse(filtered), *super().events(say, seen)]
