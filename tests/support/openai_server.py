"""A small real HTTP server that speaks OpenAI's and Anthropic's forms, as vLLM does, and fails on demand.

It passes the same contract suite as vLLM (`tests/integration/router/test_upstream_contract.py`). A token is a word, so
every count can be asserted exactly: it answers with the last message's words, up to `max_tokens`.
"""

import asyncio
import base64
import enum
import hashlib
import math
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.exact.prefixes import salt_refusal

CONTEXT_TOKENS = 4096
_SAID = web.RequestKey("said", str)


class Fault(enum.Enum):
    """What to do instead of answering."""

    ERROR_500 = "500"
    BUSY_503 = "503 with Retry-After: 7"
    BUSY_529 = "529, Anthropic's word for busy"
    LIMIT_429 = "429 with Retry-After: 9"
    KEY_401 = "401"
    HANG = "headers never come"
    HANG_AFTER_HEADERS = "headers come, no event ever does"
    HANG_MID_STREAM = "silent after two words"
    CUT_MID_STREAM = "connection closed after two words"
    STOP_MID_STREAM = "an orderly end after two words, without a reason"
    NO_DONE = "a whole answer without [DONE]"
    ERROR_EVENT_FIRST = "200, then an error event"
    GARBAGE = "200 with text that is no JSON"
    WRONG_TYPE = "a stream with the type of a web page"


_FAULT = web.RequestKey("fault", Fault)


@dataclass(slots=True)
class OpenAiServer:
    """The running server.

    Attributes:
        base_url: ends in /v1, as `api_base` does.
        fault: for every request until it is taken away; None answers.
        script: what to do with one chat, by its `x-request-id` and body: say this text, or fail so; None: as ever.
        pause_s: between two events of a stream.
        bodies: of every request that arrived, parsed.
        headers: of the same requests.
        counts: it has vLLM's route that counts a chat's tokens.
        counted: the requests to that, which stand in no other list.
        refused_counts: how many of them came while it had no such route.
        window: tokens that a prompt and its answer share.
        cancelled: requests whose client left before the end.
    """

    model: str
    base_url: str = ""
    fault: Fault | None = None
    script: Callable[[str, dict[str, Any]], str | Fault | None] | None = None
    pause_s: float = 0.0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: int = 0
    counts: bool = True
    counted: list[dict[str, Any]] = field(default_factory=list)
    refused_counts: int = 0
    window: int = CONTEXT_TOKENS

    @property
    def requests(self) -> int:
        return len(self.bodies)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._chat)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._completions)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._messages)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._embeddings)

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        if not self.counts:
            self.refused_counts += 1
            return web.json_response({"detail": "Not Found"}, status=404)
        if self.fault is Fault.HANG:
            await asyncio.Event().wait()
        if self.fault is not None:
            return _error(500, "EngineCore died with secret-token", "InternalServerError")
        body = orjson.loads(await request.read())
        self.counted.append(body)
        if body.get("model") != self.model:
            return _error(404, f"The model `{body.get('model')}` does not exist.", "NotFoundError", param="model")
        count = _length(body["messages"])
        return web.json_response(
            {"count": count, "max_model_len": self.window, "tokens": [1] * count, "token_strs": None}
        )

    async def models(self, request: web.Request) -> web.StreamResponse:
        entry = {"id": self.model, "object": "model", "created": 1, "owned_by": "test", "max_model_len": CONTEXT_TOKENS}
        return web.json_response({"object": "list", "data": [entry]})

    async def _counted(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return _error(400, "1 validation error: JSON decode error", "Bad Request")
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        told = None if self.script is None else self.script(request.headers.get("x-request-id", ""), body)
        if isinstance(told, Fault):
            request[_FAULT] = told
        elif told is not None:
            request[_SAID] = told
        if (refusal := salt_refusal(body)) is not None:
            return _error(400, refusal, "BadRequestError", param="cache_salt")
        try:
            early = await self._fail_early(request)
            response: web.StreamResponse = early or await handler(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.cancelled += 1
            raise
        return response

    def _fault_of(self, request: web.Request) -> Fault | None:
        return request.get(_FAULT, self.fault)

    async def _fail_early(self, request: web.Request) -> web.StreamResponse | None:
        match self._fault_of(request):
            case Fault.ERROR_500:
                return _error(500, "EngineCore died with secret-token", "InternalServerError")
            case Fault.BUSY_503:
                return _error(503, "the queue is full", "ServiceUnavailable", {"Retry-After": "7"})
            case Fault.BUSY_529:
                return _error(529, "Overloaded", "overloaded_error")
            case Fault.LIMIT_429:
                return _error(429, "slow down", "RateLimitError", {"Retry-After": "9"})
            case Fault.KEY_401:
                return _error(401, "Incorrect API key provided: sk-secret", "AuthenticationError")
            case Fault.GARBAGE:
                return web.Response(text="<html>hello", content_type="application/json")
            case Fault.HANG:
                await asyncio.Event().wait()
        return None

    async def _chat(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        refusal = self._refuse(body)
        if refusal is not None:
            return refusal
        prompt = _length(body["messages"])
        said = (request.get(_SAID) or str(body["messages"][-1]["content"])).split()
        words = said[: body.get("max_tokens") or len(said)]
        reason = "length" if len(words) < len(said) else "stop"
        usage = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + len(words),
            "completion_tokens": len(words),
        }
        if body.get("stream"):
            return await self._stream(request, body, words, reason, usage)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": " ".join(words)},
            "finish_reason": reason,
        }
        return web.json_response({**self._head("chat.completion"), "choices": [choice], "usage": usage})

    def _refuse(self, body: dict[str, Any]) -> web.StreamResponse | None:
        if body.get("model") != self.model:
            return _error(404, f"The model `{body.get('model')}` does not exist.", "NotFoundError", param="model")
        if not isinstance(body.get("messages"), list):
            return _error(400, "1 validation error: messages: Field required", "Bad Request", param="body.messages")
        length = _length(body["messages"])
        if length > self.window:
            message = (
                f"This model's maximum context length is {self.window} tokens. However, your prompt contains at "
                f"least {length} input tokens. Please reduce the length of the input prompt."
            )
            return _error(400, message, "BadRequestError", param="input_tokens")
        return None

    async def _stream(
        self, request: web.Request, body: dict[str, Any], words: list[str], reason: str, usage: dict[str, int]
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "text/html" if self._fault_of(request) is Fault.WRONG_TYPE else "text/event-stream"
        await response.prepare(request)
        if self._fault_of(request) is Fault.HANG_AFTER_HEADERS:
            await asyncio.Event().wait()
        if self._fault_of(request) is Fault.ERROR_EVENT_FIRST:
            await response.write(b'data: {"error":{"message":"engine died","code":500}}\n\n')
            return response
        await self._event(response, [_delta({"role": "assistant", "content": ""}, None)])
        for at, word in enumerate(words):
            if await self._breaks(request, at):
                return response
            await self._event(response, [_delta({"content": word if at == 0 else f" {word}"}, None)])
        await self._event(response, [_delta({}, reason)])
        if (body.get("stream_options") or {}).get("include_usage"):
            await self._event(response, [], usage=usage)
        if self._fault_of(request) is not Fault.NO_DONE:
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _event(self, response: web.StreamResponse, choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = {**self._head("chat.completion.chunk"), "choices": choices, **more}
        await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")

    async def _completions(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        said = str(body["prompt"]).split()
        words = said[: body.get("max_tokens") or 16]
        usage = {
            "prompt_tokens": len(said),
            "total_tokens": len(said) + len(words),
            "completion_tokens": len(words),
        }
        choice = {"index": 0, "text": " ".join(words), "finish_reason": "length"}
        return web.json_response({**self._head("text_completion"), "choices": [choice], "usage": usage})

    async def _messages(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        refusal = self._refuse(body)
        if refusal is not None:
            return refusal
        said = str(body["messages"][-1]["content"]).split()
        words = said[: body["max_tokens"]]
        reason = "max_tokens" if len(words) < len(said) else "end_turn"
        tokens_in = sum(len(str(message["content"]).split()) for message in body["messages"])
        message = {"id": "chatcmpl-1", "type": "message", "role": "assistant", "model": self.model}
        if not body.get("stream"):
            content = [{"type": "text", "text": " ".join(words)}]
            usage = {"input_tokens": tokens_in, "output_tokens": len(words)}
            return web.json_response({**message, "content": content, "stop_reason": reason, "usage": usage})
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        start = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
        start["usage"] = {"input_tokens": tokens_in, "output_tokens": 0}
        await _named(response, "message_start", message=start)
        await _named(response, "content_block_start", index=0, content_block={"type": "text", "text": ""})
        for at, word in enumerate(words):
            if await self._breaks(request, at):
                return response
            delta = {"type": "text_delta", "text": word if at == 0 else f" {word}"}
            await _named(response, "content_block_delta", index=0, delta=delta)
        await _named(response, "content_block_stop", index=0)
        usage = {"input_tokens": tokens_in, "output_tokens": len(words)}
        await _named(response, "message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)
        await _named(response, "message_stop")
        return response

    async def _breaks(self, request: web.Request, at: int) -> bool:
        """Wait before a word of a stream; whether the stream was cut instead."""
        if at == 2 and self._fault_of(request) is Fault.HANG_MID_STREAM:
            await asyncio.Event().wait()
        if at == 2 and self._fault_of(request) is Fault.CUT_MID_STREAM:
            assert request.transport is not None
            request.transport.abort()
            return True
        if at == 2 and self._fault_of(request) is Fault.STOP_MID_STREAM:
            return True
        await asyncio.sleep(self.pause_s)
        return False

    async def _embeddings(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        encode = _packed if body.get("encoding_format") == "base64" else list
        data = [
            {"object": "embedding", "index": at, "embedding": encode(_vector(text))} for at, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "data": data, "model": self.model, "usage": usage})

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": self.model}


@asynccontextmanager
async def openai_server(model: str = "words") -> AsyncIterator[OpenAiServer]:
    """Run the server on a free port of 127.0.0.1 in this event loop."""
    server = OpenAiServer(model)
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_post("/v1/completions", server.completions)
    app.router.add_post("/v1/messages", server.messages)
    app.router.add_post("/v1/embeddings", server.embeddings)
    app.router.add_get("/v1/models", server.models)
    app.router.add_post("/tokenize", server.tokenize)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def openai_server_in_thread(model: str = "words") -> Iterator[OpenAiServer]:
    """The same in a thread of its own, for tests that have no event loop; its fault may be set from theirs."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    started: list[OpenAiServer] = []

    async def run() -> None:
        async with openai_server(model) as server:
            started.append(server)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _named(response: web.StreamResponse, name: str, **fields: Any) -> None:
    """One event of Anthropic's form."""
    await response.write(f"event: {name}\ndata: ".encode() + orjson.dumps({"type": name, **fields}) + b"\n\n")


def _length(messages: list[dict[str, Any]]) -> int:
    return sum(len(str(message["content"]).split()) for message in messages)


def _delta(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _vector(text: str) -> list[float]:
    raw = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()]
    norm = math.sqrt(sum(value * value for value in raw))
    return [value / norm for value in raw]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _error(
    status: int, message: str, kind: str, headers: dict[str, str] | None = None, param: str | None = None
) -> web.Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": status}}
    return web.json_response(body, status=status, headers=headers)
