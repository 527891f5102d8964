"""Cohere's v2 API: chat and embeddings.

Source: https://docs.cohere.com/reference/chat, https://docs.cohere.com/v2/docs/streaming,
https://docs.cohere.com/reference/embed
"""

from typing import Any

import orjson
from aiohttp import web

from tests.integration.providers.openai_wire import FUNCTION, TOOL_CALL
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

_CHAT = {
    "model": {"command-a-03-2025"},
    "messages": [
        {
            "role": {"system", "user", "assistant", "tool"},
            "content?": (str, [{"type": {"text"}, "text": str}]),
            "tool_calls?": [TOOL_CALL],
            "tool_call_id?": str,
            "tool_plan?": str,
        }
    ],
    "stream?": bool,
    "max_tokens?": int,
    "temperature?": (int, float),
    "stop_sequences?": [str],
    "p?": (int, float),
    "k?": int,
    "seed?": int,
    "presence_penalty?": (int, float),
    "frequency_penalty?": (int, float),
    "tools?": [{"type": {"function"}, "function": FUNCTION}],
    "tool_choice?": {"REQUIRED", "NONE"},
}
_EMBED = {
    "model": {"embed-v4.0"},
    "input_type": {"search_document", "search_query", "classification", "clustering", "image"},
    "texts": [str],
    "embedding_types?": [{"float", "int8", "uint8", "binary", "ubinary", "base64"}],
    "output_dimension?": {256, 512, 1024, 1536},
}
_REASONS = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}
_USAGE = {
    "billed_units": {"input_tokens": 7, "output_tokens": USAGE.completion_tokens},
    "tokens": {"input_tokens": USAGE.prompt_tokens, "output_tokens": USAGE.completion_tokens},
    "cached_tokens": USAGE.cached_tokens,
}


class CohereWire(ChatWire):
    name = "cohere"
    secret = "cohere-key-51aa"
    key_header = "authorization"

    def entries(self) -> list[dict[str, Any]]:
        key = {"api_key": "os.environ/WIRE_COHERE"}
        return [
            {
                "model_name": "cohere",
                "litellm_params": {
                    "model": "cohere_chat/command-a-03-2025",
                    "api_base": f"{self.url}/v2/chat",
                    **key,
                },
            },
            {
                "model_name": "cohere-embed",
                "litellm_params": {"model": "cohere/embed-v4.0", "api_base": f"{self.url}/v2/embed", **key},
                "model_info": {"mode": "embedding"},
            },
        ]

    def environment(self) -> dict[str, str]:
        return {"WIRE_COHERE": self.secret}

    def admit(self, seen: Seen) -> str:
        posted(seen)
        header(seen, "authorization", f"Bearer {self.secret}", 401)
        no_header(seen, "api-key", "x-api-key")
        if seen.path == "/v2/embed":
            fits(seen.body, _EMBED)
            return "embed"
        if seen.path != "/v2/chat":
            raise Refused(404, "not found")
        fits(seen.body, _CHAT)
        return "stream" if seen.body.get("stream") else "chat"

    def error(self, status: int, message: str) -> web.Response:
        body = {"id": "8f1c", "message": message}
        return web.json_response(body, status=status, headers={"retry-after": "9"} if status == 429 else None)

    def refusal(self, fault: Fault) -> web.Response:
        match fault:
            case Fault.BAD_REQUEST:
                return self.error(400, "invalid request: temperature must be between 0 and 1.0 inclusive.")
            case Fault.TOO_LONG:
                return self.error(400, "too many tokens: size limit exceeded by 72000 tokens.")
            case Fault.KEY:
                return self.error(401, "invalid api token")
            case Fault.UNPAID:
                return self.error(402, "Please add or update your payment method")
            case Fault.LIMIT:
                return self.error(429, "You are using a Trial key, which is limited to 20 calls a minute")
            case Fault.BUSY:
                return self.error(503, "service unavailable")
        return self.error(500, "internal server error, this has been reported to our developers.")

    def told(self, seen: Seen) -> Told:
        body = seen.body
        said = {message["role"]: message["content"] for message in body["messages"]}
        tools = [tool["function"]["name"] for tool in body.get("tools", ())]
        return Told(
            said["system"],
            said["user"],
            body.get("max_tokens"),
            body.get("temperature"),
            body.get("stop_sequences"),
            tools,
            body.get("stream", False),
        )

    def whole(self, say: Say) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": [{"type": "text", "text": say.text}]}
        if say.tool:
            function = {"name": "weather", "arguments": say.tool}
            calls = [{"id": "weather_1", "type": "function", "function": function}]
            message = {"role": "assistant", "tool_plan": "I will look.", "tool_calls": calls}
        return {"id": "c14c", "finish_reason": _REASONS[say.reason], "message": message, "usage": _USAGE}

    def events(self, say: Say, seen: Seen) -> list[bytes]:
        """Lines of JSON; server-sent events to who accepts these."""
        events: list[dict[str, Any]] = [
            {"id": "c14c", "type": "message-start", "delta": {"message": {"role": "assistant", "content": []}}}
        ]
        if say.tool:
            call = {"id": "weather_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            events.append({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will look."}}})
            events.append(_about("tool-call-start", {"tool_calls": call}))
            events += [
                _about("tool-call-delta", {"tool_calls": {"function": {"arguments": part}}})
                for part in (say.tool[:5], say.tool[5:])
            ]
            events.append({"type": "tool-call-end", "index": 0})
        else:
            events.append(_about("content-start", {"content": {"type": "text", "text": ""}}))
            parts = (say.text[:4], say.text[4:8], say.text[8:])
            events += [_about("content-delta", {"content": {"text": part}}) for part in parts]
            events.append({"type": "content-end", "index": 0})
        ended = {"finish_reason": _REASONS[say.reason], "usage": _USAGE}
        events.append({"type": "message-end", "delta": ended})
        if "text/event-stream" in seen.headers.get("accept", ""):
            return [*(sse(event, event["type"]) for event in events), sse(b"[DONE]")]
        return [orjson.dumps(event) + b"\n" for event in events]

    def inner_error(self) -> bytes:
        ended = {"finish_reason": "ERROR", "error": "something broke", "usage": _USAGE}
        return orjson.dumps({"type": "message-end", "delta": ended}) + b"\n"

    def embedded(self, seen: Seen) -> web.Response:
        body = seen.body
        kinds = body.get("embedding_types", ["float"])
        if kinds != ["float"]:
            raise Refused(400, "these tests know floats alone")
        return web.json_response(
            {
                "id": "da63",
                "texts": body["texts"],
                "embeddings": {"float": VECTORS[: len(body["texts"])]},
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": USAGE.prompt_tokens}},
                "response_type": "embeddings_by_type",
            }
        )


def _about(kind: str, message: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": {"message": message}}
