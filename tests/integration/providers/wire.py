"""What the local servers share that speak the providers' wire formats: strictness, faults, and what they have seen.

A server refuses, in its provider's own error form, whatever its provider would not take. What it says is a `Say`, whose
tokens are such as nobody would get by counting.
"""

import asyncio
import enum
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import orjson
from aiohttp import web

from core.usage import Usage

USAGE = Usage(prompt_tokens=1041, completion_tokens=77, cached_tokens=512)
WRITTEN = 29  # of the prompt's tokens, those that a provider says it put into its cache
VECTORS = ([0.5, -0.25, 0.125], [0.0, 1.0, -2.0])


class Fault(enum.Enum):
    """What to do instead of answering."""

    BAD_REQUEST = "the request is at fault"
    TOO_LONG = "the prompt does not fit"
    KEY = "the key is wrong"
    UNPAID = "nobody has paid"
    LIMIT = "slow down, for 9 seconds"
    ERROR = "an internal error"
    BUSY = "no capacity now"
    DROP = "the connection is lost before an answer"
    CUT = "the connection is lost in the middle"
    STOP = "an orderly end in the middle"
    INNER_ERROR = "an error inside the stream"


IN_STREAM = (Fault.CUT, Fault.STOP, Fault.INNER_ERROR)


@dataclass(frozen=True, slots=True)
class Say:
    """An answer. `tool` is a call of the tool `weather` with these arguments; `reason` is OpenAI's."""

    text: str = "one two three"
    tool: str | None = None
    reason: str = "stop"


@dataclass(slots=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider was told, in words that all share."""

    system: str
    user: str
    max_tokens: int | None = None
    temperature: float | None = None
    stop: Sequence[str] | None = None
    tools: Sequence[str] = field(default_factory=list)
    stream: bool = False


class Refused(Exception):
    """The provider would not take this."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Wire(ABC):
    """One provider's server.

    Attributes:
        url: its address, without a path.
        says: its next answers.
        fault: what it does instead.
        seen: every request.
        refusals: why it refused some, by itself and not by a fault.
        pause_s: between two pieces of a stream.
        left: streams whose caller left before the end.
        secret, key_header: what lets the caller in, and where it stands.
    """

    name: ClassVar[str]
    secret: ClassVar[str]
    key_header: ClassVar[str]

    url: str = ""
    says: Say = field(default_factory=Say)
    fault: Fault | None = None
    seen: list[Seen] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    pause_s: float = 0.0
    left: int = 0

    def reset(self) -> None:
        self.says, self.fault, self.pause_s, self.left = Say(), None, 0.0, 0
        self.seen.clear()
        self.refusals.clear()

    @abstractmethod
    def entries(self) -> list[dict[str, Any]]:
        """What a user writes into `model_list`; secrets come from the environment."""

    def secrets(self) -> dict[str, str]:
        """Each secret, and the one header where it may stand."""
        return {self.secret: self.key_header}

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The variables that the entries name."""

    @abstractmethod
    def admit(self, seen: Seen) -> str:
        """Look at everything but the answer. Returns: `chat`, `stream` or `embed`. Raises: Refused."""

    @abstractmethod
    def error(self, status: int, message: str) -> web.Response:
        """The provider's own form of an error."""

    @abstractmethod
    def refusal(self, fault: Fault) -> web.Response:
        """A fault that is told before anything else."""

    def embedded(self, seen: Seen) -> web.Response:
        raise Refused(404, "no embeddings here")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.raw_path.partition("?")[0]
        seen = Seen(request.method, path, dict(request.query), headers, await request.read())
        self.seen.append(seen)
        try:
            kind = self.admit(seen)
            if self.fault is Fault.DROP:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if self.fault is not None and self.fault not in IN_STREAM:
                return self.refusal(self.fault)
            if kind == "embed":
                return self.embedded(seen)
        except Refused as error:
            self.refusals.append(str(error))
            return self.error(error.status, str(error))
        return await self.chatted(request, seen, stream=kind == "stream")

    async def chatted(self, request: web.Request, seen: Seen, *, stream: bool) -> web.StreamResponse:
        raise NotImplementedError


@dataclass
class ChatWire(Wire):
    """A server that chats."""

    stream_type: ClassVar[str] = "text/event-stream"

    @abstractmethod
    def told(self, seen: Seen) -> Told:
        """What a chat was told."""

    @abstractmethod
    def whole(self, say: Say) -> dict[str, Any]:
        """An answer in one piece."""

    @abstractmethod
    def events(self, say: Say, seen: Seen) -> list[bytes]:
        """A stream's pieces, of which half is not the answer yet."""

    @abstractmethod
    def inner_error(self) -> bytes:
        """A piece that says that the stream broke."""

    async def chatted(self, request: web.Request, seen: Seen, *, stream: bool) -> web.StreamResponse:
        if not stream:
            return web.json_response(self.whole(self.says))
        response = web.StreamResponse(headers={"content-type": self.stream_type})
        await response.prepare(request)
        events = self.events(self.says, seen)
        broken = self.fault is not None
        try:
            for event in events[: len(events) // 2] if broken else events:
                await response.write(event)
                await asyncio.sleep(self.pause_s)
        except (asyncio.CancelledError, ConnectionResetError):
            self.left += 1
            raise
        if self.fault is Fault.INNER_ERROR:
            await response.write(self.inner_error())
        elif self.fault is Fault.CUT:
            await asyncio.sleep(0.05)  # what was sent arrives before the reset does
            assert request.transport is not None
            request.transport.abort()
        return response


def fits(value: Any, form: Any, at: str = "body") -> None:
    """Hold a value against a form: a type or several, a set of values, a list of one form, or names with forms.

    A name that ends in `?` may be missing; one that is not in the form may not be sent. Raises: Refused.
    """
    if isinstance(form, tuple):
        _fits_one(value, form, at)
    elif isinstance(form, dict):
        _fits_names(value, form, at)
    elif isinstance(form, list):
        if not isinstance(value, list) or not value:
            raise Refused(400, f"{at}: a list is wanted")
        for number, item in enumerate(value):
            fits(item, form[0], f"{at}.{number}")
    elif isinstance(form, set):
        if isinstance(value, dict | list) or value not in form:
            raise Refused(400, f"{at}: {value!r} is not allowed")
    elif not isinstance(value, form) or (isinstance(value, bool) and form is not bool):
        raise Refused(400, f"{at}: wrong type, {type(value).__name__}")


def _fits_one(value: Any, forms: tuple[Any, ...], at: str) -> None:
    problems = []
    for form in forms:
        try:
            fits(value, form, at)
        except Refused as error:
            problems.append(error)
        else:
            return
    raise problems[-1]


def _fits_names(value: Any, form: dict[str, Any], at: str) -> None:
    if not isinstance(value, dict):
        raise Refused(400, f"{at}: an object is wanted")
    known = {name.rstrip("?") for name in form}
    for name in value:
        if name not in known:
            raise Refused(400, f"{at}.{name}: extra inputs are not permitted")
    for name, inner in form.items():
        plain = name.rstrip("?")
        if plain in value:
            fits(value[plain], inner, f"{at}.{plain}")
        elif plain == name:
            raise Refused(400, f"{at}.{name}: field required")


def header(seen: Seen, name: str, wanted: str, status: int = 400) -> None:
    """Raises: Refused: it is not there, or another one."""
    if seen.headers.get(name) != wanted:
        raise Refused(status, f"header {name} is wrong or missing")


def no_header(seen: Seen, *names: str) -> None:
    """Raises: Refused: a header is there that this provider does not know."""
    for name in names:
        if name in seen.headers:
            raise Refused(400, f"header {name} has no business here")


def posted(seen: Seen) -> None:
    """Raises: Refused: it is no POST of JSON."""
    if seen.method != "POST":
        raise Refused(405, "method not allowed")
    header(seen, "content-type", "application/json", 415)


def sse(data: object, event: str | None = None) -> bytes:
    """One server-sent event."""
    body = data if isinstance(data, bytes) else orjson.dumps(data)
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + body + b"\n\n"


@contextmanager
def serving(wires: Sequence[Wire]) -> Iterator[None]:
    """Run all servers in a thread of their own, each on a port of 127.0.0.1."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        runners = []
        for wire in wires:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", wire.answer)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            wire.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            runners.append(runner)
        ready.set()
        await stop.wait()
        for runner in runners:
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
