"""Simulated engines: what they say is the exact provider's, when they say it and how they fail is drawn from a seed.

An engine counts its work in seconds of its own, which pass slower than the clock while it is slow and not at all while
it stands still: so a stream that stalls goes on where it was. `EngineClient` stands in for `router.http1.Client`, under
the real native lane and the real watch alike.
"""

import asyncio
import enum
from functools import lru_cache
from math import inf
from random import Random
from typing import Any

import orjson

from router import http1
from tests.simulation.loop import VirtualLoop
from tests.simulation.trace import Trace
from tests.support.exact import model as exact
from tests.support.exact.faults import Failure, Fault
from tests.support.exact.forms import FORMS, Form
from tests.support.exact.served import Served

MODEL = "exact"
_STATUS = {
    Fault.ERROR_500: 500,
    Fault.BUSY_503: 503,
    Fault.BUSY_529: 529,
    Fault.LIMIT_429: 429,
    Fault.LIMIT_429_BARE: 429,
}
_REST_S = {Fault.BUSY_503: "2", Fault.LIMIT_429: "3"}
_ERROR = orjson.dumps({"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}})


class State(enum.Enum):
    """How an engine is; its value: how fast its work goes."""

    WELL = ("well", 1.0)
    SLOW = ("slow", 0.1)
    WEDGED = ("wedged", 0.0)
    """It computes nothing; its HTTP server answers all the same."""
    STOPPED = ("stopped", 0.0)
    """The whole process stands still."""
    CRASHED = ("crashed", 0.0)

    def __init__(self, text: str, rate: float) -> None:
        self.text = text
        self.rate = rate


class Engine:
    """One engine.

    Args:
        places: requests that it computes at once; as many more wait, and beyond them it refuses.
        ttft_s, itl_s: seconds of work to the first token, and between tokens.

    Attributes:
        flaws: drawn from for each request with `flaw_share`.
        gives_ids: it knows `return_token_ids`; takes_ids: a prompt may be token ids.
        bad_s: reading of the loop's clock when it was last not well, or failed a request; full_s: when it last had
            none of its places free.
        asked: requests of the gateways' calls so far.
    """

    def __init__(self, name: str, loop: VirtualLoop, random: Random, trace: Trace, places: int) -> None:
        self.name = name
        self.state = State.WELL
        self.places = places
        self.ttft_s = random.uniform(0.02, 0.3)
        self.itl_s = random.uniform(0.01, 0.15)
        self.gives_ids = random.random() < 0.9
        self.takes_ids = random.random() < 0.9
        self.flaws: tuple[Fault, ...] = ()
        self.flaw_share = 0.0
        self.bad_s = self.full_s = 0.0
        self.asked = 0
        self.trace = trace
        self.random = random
        self.loop = loop
        self._work_s = 0.0
        self._since_s = loop.time()
        self._running: dict[Request, None] = {}
        self._waiting: dict[Request, None] = {}
        self._standing: list[asyncio.Future[None]] = []
        self._prompt_tokens = 0
        self._generated_tokens = 0

    @property
    def base_url(self) -> str:
        return f"http://{self.name}:8000/v1"

    @property
    def good_since_s(self) -> float:
        """Since when it has been well, has failed nobody and had a place for everybody; infinite: it is not so now."""
        return inf if self.state is not State.WELL or self.flaw_share else max(self.bad_s, self.full_s)

    @property
    def open(self) -> int:
        """Requests that it has."""
        return len(self._running) + len(self._waiting)

    def opened_by(self, name: str) -> int:
        """Requests of a call that it computes, or would."""
        return sum(each.served.name == name for each in (*self._running, *self._waiting))

    @property
    def worked_s(self) -> float:
        """Its own time."""
        return self._work_s + (self.loop.time() - self._since_s) * self.state.rate

    def when_s(self, work_s: float) -> float:
        """When its own time will be that, by the loop's clock."""
        rate = self.state.rate
        return self._since_s + (work_s - self._work_s) / rate if rate else inf

    def become(self, state: State) -> None:
        """Change. A crash cuts every connection and forgets the figures."""
        if state is self.state:
            return
        self.trace.say(f"{self.name} is {state.text}", state.text)
        self.bad_s = self.loop.time()
        self._work_s, self._since_s = self.worked_s, self.loop.time()
        requests = [*self._running, *self._waiting]
        if state is State.CRASHED:
            for each in requests:
                each.gather()
        self.state = state
        if state is State.CRASHED:
            self._running.clear()
            self._waiting.clear()
            self._prompt_tokens = self._generated_tokens = 0
        for each in requests:
            each.changed()
        standing, self._standing = self._standing, []
        for future in standing:
            if not future.done():
                future.set_result(None)

    async def answers(self) -> None:
        """Wait while the process stands still. Raises: Broken: it crashed."""
        while self.state is State.STOPPED:
            future = self.loop.create_future()
            self._standing.append(future)
            await future
        if self.state is State.CRASHED:
            raise http1.Broken("closed its connection")

    def metrics(self) -> bytes:
        """As vLLM has them."""
        label = f'{{model_name="{MODEL}",engine="0"}}'
        generated = self._generated_tokens + sum(each.made for each in self._running)
        prompt = self._prompt_tokens + sum(each.read_tokens for each in self._running)
        usage = min(1.0, sum(each.made + len(each.asked.prompt) for each in self._running) / 4096)
        return (
            f"vllm:num_requests_running{label} {len(self._running)}\nvllm:num_requests_waiting{label} "
            f"{len(self._waiting)}\nvllm:kv_cache_usage_perc{label} {usage}\nvllm:prompt_tokens_total{label} {prompt}\n"
            f"vllm:generation_tokens_total{label} {generated}\n"
        ).encode()

    async def serve(self, name: str, path: str, raw: bytes) -> "Reply":
        """Answer a request."""
        body = _read(raw)
        if name:
            self.asked += 1
        failure = self._drawn()
        if failure is not None:
            self.bad_s = self.loop.time()
            self.trace.say(f"{self.name} fails {name}: {failure.fault.value} ({failure.at})", "flaws")
        fault = failure.fault if failure else None
        if fault in _STATUS:
            return _refusal(_STATUS[fault], "failed", _REST_S.get(fault))
        full = len(self._running) >= self.places
        if full:
            self.full_s = self.loop.time()
            if len(self._waiting) >= self.places:
                self.trace.say(f"{self.name} is full for {name}", "full")
                return _refusal(503, "the queue is full", None)
        if isinstance(body.get("prompt"), list) and not self.takes_ids:
            return _refusal(400, "this server takes only texts", None)
        try:
            asked = _asked(path, raw)
        except exact.Invalid as error:
            return _refusal(400, str(error), None)
        request = Request(self, Served(name, path, body, 0.0, failed=fault), asked, failure)
        if full:
            self._waiting[request] = None
        else:
            self._start(request)
        if body.get("stream"):
            return request
        return await request.whole()

    def drop(self, request: "Request") -> None:
        """The request is over, or its client has left: its place is free."""
        if request in self._running:
            del self._running[request]
            self._generated_tokens += request.made
            self._prompt_tokens += request.read_tokens
            if self._waiting:
                following = next(iter(self._waiting))
                del self._waiting[following]
                self._start(following)
        else:
            self._waiting.pop(request, None)

    def _start(self, request: "Request") -> None:
        self._running[request] = None
        request.start()

    def _drawn(self) -> Failure | None:
        if not self.flaw_share or self.random.random() >= self.flaw_share:
            return None
        return Failure(self.random.choice(self.flaws), self.random.randrange(0, 12))


class Reply:
    """An answer that is there; what `http1.Response` offers."""

    def __init__(self, status: int, content_type: str, body: bytes = b"", retry_after: str | None = None) -> None:
        self.status = status
        self.content_type = content_type
        self.retry_after = retry_after
        self._body = body

    async def read(self, limit_s: float | None = None) -> bytes:
        data, self._body = self._body, b""
        return data

    async def body(self, max_bytes: int | None = None) -> bytes:
        parts = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


class Request(Reply):
    """One request in an engine, and its stream."""

    def __init__(self, engine: Engine, served: Served, asked: exact.Asked, failure: Failure | None) -> None:
        super().__init__(200, "text/event-stream")
        self.served = served
        self.asked = asked
        self._engine = engine
        self._form: Form = FORMS[served.path](MODEL, served, asked, gives_ids=engine.gives_ids)
        self._steps = steps_of(asked)
        self._failure = failure
        self._begun_s: float | None = None
        self._at = -1  # the chunk that comes next: -1 the head, then tokens, then the end
        self._buffer = b""
        self._ended = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._torn = engine.random.random() < 0.1
        self._first_s = engine.ttft_s * engine.random.uniform(0.8, 1.2)
        self._stalled = False

    @property
    def made(self) -> int:
        """Tokens that it has computed so far."""
        if self._begun_s is None:
            return 0
        past_s = self._engine.worked_s - self._begun_s - self._first_s
        return 0 if past_s < 0 else min(len(self._steps), int(past_s / self._engine.itl_s) + 1)

    @property
    def read_tokens(self) -> int:
        """Tokens of the prompt, once it has been read."""
        return len(self.asked.prompt) if self.made else 0

    def start(self) -> None:
        """Begin to compute."""
        self._begun_s = self._engine.worked_s
        self._expect_end()
        self._nudge()

    def changed(self) -> None:
        """The engine goes faster, slower, or has crashed."""
        if self._engine.state is State.CRASHED:
            self._fail("closed its connection")
        else:
            self._expect_end()
        self._nudge()

    def gather(self) -> None:
        """Take what has come out of the engine so far."""
        while not self._ended and self._error is None and not self._stalled and self._engine.loop.time() >= self._due_s:
            self._buffer += self._next()

    async def whole(self) -> Reply:
        """The answer in one piece."""
        self.content_type = "application/json"
        try:
            while not self._ended:
                self.gather()
                if self._error is not None:
                    raise self._error
                if not self._ended:
                    await self._pause(self._due_s)
        except BaseException:
            self.close()
            raise
        if self.served.failed is Fault.ERROR_MID:
            return Reply(200, "application/json", _ERROR)
        text = "".join(step.text for step in self._steps)
        body = orjson.dumps(self._form.whole(text, self._steps[-1]))
        if self.served.failed in (Fault.GARBAGE_MID, Fault.END):
            body = body[: len(body) // 2]
        return Reply(200, "application/json", body)

    async def read(self, limit_s: float | None = None) -> bytes:
        until_s = inf if limit_s is None else self._engine.loop.time() + limit_s
        while True:
            if self._engine.state is not State.STOPPED:
                self.gather()
                if self._buffer:
                    return self._taken()
                if self._error is not None:
                    raise self._error
                if self._ended:
                    return b""
            if self._engine.loop.time() >= until_s:
                raise TimeoutError
            await self._pause(min(until_s, self._due_s))

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(TimeoutError())

    def close(self) -> None:
        self._disarm()
        self._engine.drop(self)

    @property
    def _due_s(self) -> float:
        """When the next chunk comes; the first frame before any token."""
        if self._begun_s is None or self._stalled:
            return inf
        if self._at < 0:
            return self._engine.when_s(self._begun_s)
        return self._engine.when_s(self._begun_s + self._first_s + self._at * self._engine.itl_s)

    def _next(self) -> bytes:
        at, self._at = self._at, self._at + 1
        if at < 0:
            return self._form.first() if self.served.body.get("stream") else b""
        if self._failure is not None and at == min(self._failure.at, len(self._steps)):
            broken = self._break(self._failure.fault)
            if broken is not None:
                return broken
        if at < len(self._steps):
            step = self._steps[at]
            self.served.made.append(step.token)
            return self._form.step(step) if self.served.body.get("stream") else b""
        self._ended = True
        self.close()
        if not self.served.body.get("stream"):
            return b""
        return self._form.last(self._steps[-1]) + (b"" if self.served.failed is Fault.NO_DONE else self._form.done)

    def _break(self, fault: Fault) -> bytes | None:
        """What comes in place of a token; None: the token."""
        if fault is Fault.STALL_MID:
            self._stalled = True
        elif fault is Fault.CUT:
            self._fail("closed its connection")
            self.close()
        elif not self.served.body.get("stream"):
            return None
        elif fault is Fault.END:
            self._ended = True
            self.close()
        elif fault is Fault.ERROR_MID:
            self._ended = True
            return b"data: %b\n\n%b" % (_ERROR, self._form.done)
        elif fault is Fault.GARBAGE_MID:
            return b'data: {"id":"chatcmpl-1","object":"chat.compl\n\n'
        else:
            return None
        return b""

    def _fail(self, why: str) -> None:
        self._error = self._error or http1.Broken(why)

    def _taken(self) -> bytes:
        """What is there, now and then cut anywhere."""
        cut = self._engine.random.randrange(1, len(self._buffer) + 1) if self._torn else len(self._buffer)
        data, self._buffer = self._buffer[:cut], self._buffer[cut:]
        return data

    def _expect_end(self) -> None:
        """Leave the engine when the last token is computed, whether somebody reads it or not."""
        self._disarm()
        if self._begun_s is not None:
            end_s = self._engine.when_s(self._begun_s + self._first_s + len(self._steps) * self._engine.itl_s)
            if end_s < inf:
                self._timer = self._engine.loop.call_at(end_s, self._engine.drop, self)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _pause(self, until_s: float) -> None:
        """Wait until then, or until something changes. Raises: TimeoutError: woken."""
        self._waiter = self._engine.loop.create_future()
        timer = None if until_s == inf else self._engine.loop.call_at(until_s, self._nudge)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _nudge(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EngineClient:
    """One worker's way to the engines; what `http1.Client` offers.

    Attributes:
        cut_off: engines that this worker cannot reach now; bad_s: when it last could not, for each.
    """

    def __init__(self, engines: dict[str, Engine]) -> None:
        self._engines = engines
        self.cut_off: dict[str, None] = {}
        self.bad_s: dict[str, float] = {}

    async def post(self, origin: http1.Origin, path: str, head: bytes, body: bytes, connect_s: float) -> Reply:
        engine = await self._reached(origin, connect_s)
        mark = head.find(b"x-request-id: ")
        name = head[mark + 14 : head.find(b"\r\n", mark)].decode() if mark >= 0 else ""
        return await engine.serve(name, path, body)

    async def get(self, origin: http1.Origin, path: str, head: bytes, connect_s: float) -> Reply:
        engine = await self._reached(origin, connect_s)
        if path.startswith("/metrics"):
            return Reply(200, "text/plain", engine.metrics())
        return Reply(404, "application/json")

    async def aclose(self) -> None:
        pass

    @property
    def connections(self) -> int:
        return 0

    async def _reached(self, origin: http1.Origin, connect_s: float) -> Engine:
        engine = self._engines[origin.host]
        await asyncio.sleep(0.0005)
        if engine.state is State.CRASHED:
            raise http1.ConnectFailed("can't be reached")
        if engine.name in self.cut_off:
            await asyncio.sleep(connect_s)
            raise http1.ConnectFailed("did not accept a connection in time")
        await engine.answers()
        return engine


@lru_cache(maxsize=20_000)
def _read(raw: bytes) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(raw)
    return body


@lru_cache(maxsize=20_000)
def _asked(path: str, raw: bytes) -> exact.Asked:
    body = _read(raw)
    return exact.read_chat(body) if path == "/chat/completions" else exact.read_completion(body)


def steps_of(asked: exact.Asked) -> list[exact.Step]:
    """The right answer; always the same for the same request."""
    prompt, stop = tuple(asked.prompt), tuple(asked.stop)
    return _steps(prompt, asked.max_tokens, stop, asked.min_tokens, asked.kind, asked.tool)


@lru_cache(maxsize=20_000)
def _steps(
    prompt: tuple[int, ...], max_tokens: int, stop: tuple[str, ...], min_tokens: int, kind: exact.Kind, tool: str
) -> list[exact.Step]:
    return list(exact.generate(MODEL, exact.Asked(prompt, max_tokens, kind, tool, stop, min_tokens)))


def _refusal(status: int, message: str, retry_after: str | None) -> Reply:
    error = {"message": message, "type": "error", "param": None, "code": status}
    return Reply(status, "application/json", orjson.dumps({"error": error}), retry_after)
