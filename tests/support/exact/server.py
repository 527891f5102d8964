"""A small real server whose answers can be told in advance, and which fails on demand.

It speaks what the router asks of vLLM, with `token_ids` where vLLM has them, and passes the same contract suite
(`tests/integration/router/test_upstream_contract.py`). It keeps its own log of what it made and sent.
"""

import asyncio
import base64
import hashlib
import math
import struct
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import orjson

from tests.support.exact import model as exact
from tests.support.exact.breaking import Broken, break_stream, break_whole, fail_early, refuse, send, send_json
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.forms import FORMS, Form
from tests.support.exact.prefixes import Prefixes, salt_refusal
from tests.support.exact.served import Served
from tests.support.exact.wire import Connection, Request

_DRIP_S = 0.0  # a turn of the event loop
_FLAP_S = 0.3


class ExactServer:
    """The running server; start it with `exact_server`.

    Attributes:
        model: what it is called, and what its answers depend on.
        pause_s: before each token.
        failure: of every request until it is taken away.
        plan: failures of the next requests, in turn, None for none; several servers may share one.
        cuts: the same for the requests of one name each.
        gives_ids: it knows `return_token_ids`; takes_ids: a prompt may be token ids.
        accepted: connections so far.
        log: every request for an answer.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.port = 0
        self.pause_s = 0.0
        self.failure: Failure | None = None
        self.plan: deque[Failure | None] = deque()
        self.cuts: dict[str, deque[Failure]] = {}
        self.gives_ids = True
        self.takes_ids = True
        self.accepted = 0
        self.log: list[Served] = []
        self._prefixes = Prefixes()
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """Ends in /v1, as `api_base` does."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def tls_base_url(self) -> str:
        """The same for a client that expects TLS: the handshake fails."""
        return f"https://127.0.0.1:{self.port}/v1"

    async def come(self) -> None:
        """Listen, on the same port as before."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self._opened, self._serve), "127.0.0.1", self.port, reuse_address=True, backlog=1024
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    def go(self) -> None:
        """Listen no more, and cut every connection."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            connection.reset()
        self._connections.clear()

    @asynccontextmanager
    async def failing(self, failure: Failure) -> AsyncIterator[None]:
        """Fail every request until the block ends."""
        self.failure = failure
        flapping = asyncio.create_task(self._flap()) if failure.fault is Fault.FLAP else None
        if failure.fault is Fault.REFUSE:
            self.go()
        try:
            yield
        finally:
            self.failure = None
            if flapping is not None:
                flapping.cancel()
                with suppress(asyncio.CancelledError):
                    await flapping
            if self._listener is None:
                await self.come()

    async def _flap(self) -> None:
        while True:
            self.go()
            await asyncio.sleep(_FLAP_S)
            await self.come()
            await asyncio.sleep(_FLAP_S)

    def _opened(self, connection: Connection) -> None:
        self.accepted += 1
        self._connections = {each for each in self._connections if each.open} | {connection}
        if self.failure is not None and self.failure.fault is Fault.RESET:
            connection.reset()

    async def _serve(self, connection: Connection, request: Request) -> None:
        path = request.path.removeprefix("/v1")
        if request.method == "GET":
            await self._look_up(connection, path)
            return
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            await refuse(connection, 400, "1 validation error: JSON decode error", "Bad Request")
            return
        if path == "/tokenize":
            await self._count(connection, body)
            return
        name = request.headers.get("x-request-id") or str(body.get("user", ""))
        served = Served(name, path, body, time.monotonic())
        self.log.append(served)
        connection.left = lambda: _note_left(served)
        failure = self._failure_of(name)
        served.failed = failure.fault if failure else None
        connection.pause_s = _DRIP_S if served.failed is Fault.DRIP else None
        with suppress(Broken):
            await self._answer(connection, served, failure)
            served.ended = True
        connection.left = None

    def _failure_of(self, name: str) -> Failure | None:
        if self.cuts.get(name):
            return self.cuts[name].popleft()
        return self.plan.popleft() if self.plan else self.failure

    async def _look_up(self, connection: Connection, path: str) -> None:
        if path == "/models":
            entry = {"id": self.model, "object": "model", "created": 1, "owned_by": "test"}
            data = [{**entry, "max_model_len": exact.CONTEXT_TOKENS}]
            await send_json(connection, {"object": "list", "data": data})
        elif path == "/health":
            await send(connection, b"", "text/plain")
        elif path == "/metrics":
            await send(connection, self._metrics(), "text/plain; version=0.0.4")
        else:
            await refuse(connection, 404, "Not Found", "NotFoundError")

    async def _count(self, connection: Connection, body: dict[str, Any]) -> None:
        """It stands in no log: nothing is made."""
        if self.failure is not None:
            await refuse(connection, 503, "the engine fails", "ServiceUnavailable")
            return
        try:
            ids = exact.read_chat({**body, "max_tokens": 1}).prompt
        except exact.Invalid as error:
            await refuse(connection, 400, str(error), "BadRequestError", error.param)
            return
        await send_json(connection, {"count": len(ids), "max_model_len": exact.CONTEXT_TOKENS, "tokens": list(ids)})

    def _metrics(self) -> bytes:
        label = f'{{model_name="{self.model}",engine="0"}}'
        running = sum(not (each.ended or each.failed or each.left_s) for each in self.log)
        lines = [
            "# TYPE vllm:num_requests_running gauge",
            f"vllm:num_requests_running{label} {running}",
            "# TYPE vllm:num_requests_waiting gauge",
            f"vllm:num_requests_waiting{label} 0",
            "# TYPE vllm:kv_cache_usage_perc gauge",
            f"vllm:kv_cache_usage_perc{label} {min(1.0, running / 100)}",
            "# TYPE vllm:prompt_tokens_total counter",
            f"vllm:prompt_tokens_total{label} {sum(each.prompt_tokens for each in self.log)}",
            "# TYPE vllm:generation_tokens_total counter",
            f"vllm:generation_tokens_total{label} {sum(len(each.made) for each in self.log)}",
            "# TYPE vllm:prefix_cache_hits_total counter",
            f"vllm:prefix_cache_hits_total{label} {self._prefixes.hits}",
        ]
        return "\n".join([*lines, ""]).encode()

    async def _answer(self, connection: Connection, served: Served, failure: Failure | None) -> None:
        await fail_early(connection, served, failure)
        body, path = served.body, served.path
        if body.get("model") != self.model:
            await refuse(connection, 404, f"The model `{body.get('model')}` does not exist.", "NotFoundError", "model")
            return
        if (refusal := salt_refusal(body)) is not None:
            await refuse(connection, 400, refusal, "BadRequestError", "cache_salt")
            return
        try:
            if path == "/embeddings":
                await send_json(connection, _embeddings(self.model, body))
                return
            asked = self._read(served)
        except exact.Invalid as error:
            await refuse(connection, 400, str(error), "BadRequestError", error.param)
            return
        served.prompt_tokens = len(asked.prompt)
        served.cached_tokens = self._prefixes.read(asked.prompt, body.get("cache_salt"))
        form = FORMS[path](self.model, served, asked, gives_ids=self.gives_ids)
        if body.get("stream"):
            await self._stream(connection, served, asked, form, failure)
        else:
            await self._whole(connection, served, asked, form, failure)

    def _read(self, served: Served) -> exact.Asked:
        body = served.body
        match served.path:
            case "/chat/completions":
                if body.get("continue_final_message") and served.failed is Fault.NO_PREFILL:
                    raise exact.Invalid("this server continues no messages", "continue_final_message")
                return exact.read_chat(body)
            case "/completions":
                if isinstance(body.get("prompt"), list) and not self.takes_ids:
                    raise exact.Invalid("this server takes only texts", "prompt")
                return exact.read_completion(body)
            case "/messages":
                system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
                return exact.read_chat({**body, "messages": [*system, *(body.get("messages") or [])]})
        raise exact.Invalid(f"no such route: {served.path}")

    async def _whole(
        self, connection: Connection, served: Served, asked: exact.Asked, form: "Form", failure: Failure | None
    ) -> None:
        text = ""
        for step in exact.generate(self.model, asked):
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            served.made.append(step.token)
            text += step.text
        body = orjson.dumps(form.whole(text, step))
        if failure is not None:
            await break_whole(connection, body, failure.fault)
        served.sent = len(served.made)
        await send(connection, body, "application/json")

    async def _stream(
        self, connection: Connection, served: Served, asked: exact.Asked, form: "Form", failure: Failure | None
    ) -> None:
        await connection.head(200, "text/event-stream; charset=utf-8", None, {})
        await connection.chunk(form.first())
        for at, step in enumerate(exact.generate(self.model, asked)):
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            served.made.append(step.token)
            if failure is not None and at == failure.at and await break_stream(connection, failure.fault, form):
                continue
            await connection.chunk(form.step(step))
            served.sent += 1
        await connection.chunk(form.last(step))
        if served.failed is not Fault.NO_DONE:
            await connection.chunk(form.done)
        await connection.end()


@asynccontextmanager
async def exact_server(model: str = "exact") -> AsyncIterator[ExactServer]:
    """Run the server on a free port of 127.0.0.1 in this event loop."""
    server = ExactServer(model)
    await server.come()
    try:
        yield server
    finally:
        server.go()
        for _ in range(3):  # connections are lost, then tasks cancelled, then ended
            await asyncio.sleep(0)


@contextmanager
def exact_server_in_thread(model: str = "exact") -> Iterator[ExactServer]:
    """The same in a thread of its own; attributes may be set from another."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    started: list[ExactServer] = []

    async def run() -> None:
        async with exact_server(model) as server:
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


def _note_left(served: Served) -> None:
    served.left_s = time.monotonic()


def _embeddings(model: str, body: dict[str, Any]) -> dict[str, Any]:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    encode = _packed if body.get("encoding_format") == "base64" else list
    data = [{"object": "embedding", "index": at, "embedding": encode(_vector(text))} for at, text in enumerate(texts)]
    tokens = sum(len(exact.encode(text)) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _vector(text: str) -> list[float]:
    raw = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()]
    norm = math.sqrt(sum(value * value for value in raw))
    return [value / norm for value in raw]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
