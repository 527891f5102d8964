"""The router's way to the model in this process: it writes OpenAI's frames, as an engine would."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

import orjson

from core.ids import new_id
from edge.llm import Wish
from router.call import Call
from router.config import RouterConfig
from router.deployment import Deadlines, Deployment, LaneName
from router.errors import UpstreamFailed, UpstreamRefused
from router.lane import Whole

_FIRST_TOKEN_S = 60.0  # as for any engine on a CPU
_MOST_TOKENS = 4096


class Writes(Protocol):
    """An answer as it is written."""

    prompt_tokens: int
    completion_tokens: int
    cut: bool

    def stop(self) -> None: ...

    def __iter__(self) -> Iterator[str]: ...


class Model(Protocol):
    """What `edge.llm.LocalModel` is."""

    window: int

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]: ...


class InProcessLane:
    """Has one model write, one answer after the other: two at once would each take twice as long.

    Args:
        begin: an answer that is about to be written.
    """

    def __init__(self, model: Model, begin: Callable[[Wish], Writes]) -> None:
        self._model = model
        self._begin = begin
        self._turn = asyncio.Lock()

    async def whole(self, deployment: Deployment, call: Call) -> Whole:
        """The pipeline asks for streams alone, except when it works on a question."""
        stream = await self.stream(deployment, call)
        text, frames = "", b""
        try:
            while data := await stream.read(deployment.deadlines.total_s):
                frames += data
        finally:
            await stream.aclose()
        usage, reason = None, None
        for line in frames.split(b"\n\n"):
            if line.startswith(b"data: {"):
                chunk = orjson.loads(line[6:])
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    text += choice["delta"].get("content") or ""
                    reason = choice["finish_reason"] or reason
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": reason}]
        body = {"id": new_id("chatcmpl"), "object": "chat.completion", "model": deployment.model, "choices": choices}
        return Whole(orjson.dumps({**body, "usage": usage}))

    async def stream(self, deployment: Deployment, call: Call) -> "FrameQueue":
        body = call.body
        wish = Wish(
            body["messages"],
            min(int(body.get("max_tokens") or _MOST_TOKENS), _MOST_TOKENS),
            float(body.get("temperature") or 0.0),
        )
        if len(await asyncio.to_thread(self._model.prompt, wish.messages)) + 1 > self._model.window:
            message = f"the model's window of {self._model.window} tokens is too small for this"
            error = {"message": message, "type": "invalid_request_error", "param": "messages"}
            raise UpstreamRefused(400, {**error, "code": "context_length_exceeded"})
        await self._turn.acquire()
        return FrameQueue(deployment, self._begin(wish), self._turn.release)

    async def tokenize(self, deployment: Deployment, messages: Sequence[Mapping[str, str]]) -> bytes:
        """How many tokens a chat has, as vLLM says it."""
        ids = await asyncio.to_thread(self._model.prompt, messages)
        return orjson.dumps({"count": len(ids), "max_model_len": self._model.window})

    async def aclose(self) -> None:
        """Nothing is held open."""


class FrameQueue:
    """A running answer: a thread writes, whoever reads takes frames; made inside a running event loop.

    Args:
        over: called once, when the thread has ended.
    """

    def __init__(self, deployment: Deployment, writing: Writes, over: Callable[[], None]) -> None:
        self._deployment = deployment
        self._writing = writing
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._frames: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._head = {
            "id": new_id("chatcmpl"),
            "object": "chat.completion.chunk",
            "created": 0,
            "model": deployment.model,
        }
        self._ended = False
        self._thread = threading.Thread(target=self._write, name="llm", daemon=True)
        self._thread.start()

    async def read(self, limit_s: float) -> bytes:
        if self._ended:
            return b""
        async with asyncio.timeout(limit_s):
            found = await self._frames.get()
        if isinstance(found, TimeoutError):
            raise found
        if isinstance(found, Exception):
            raise UpstreamFailed(self._deployment.name, "failed while it wrote") from found
        self._ended = not found
        return found

    def wake(self) -> None:
        self._frames.put_nowait(TimeoutError())

    async def aclose(self) -> None:
        self._writing.stop()

    def _write(self) -> None:
        try:
            for piece in self._writing:
                self._tell({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            reason = "length" if self._writing.cut else "stop"
            self._tell({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            prompt, completion = self._writing.prompt_tokens, self._writing.completion_tokens
            counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            self._tell({"choices": [], "usage": counts})
            self._put(b"data: [DONE]\n\n")
        except Exception as error:  # whatever it was, the reader must hear of it
            self._put(error)
        finally:
            self._put(b"")
            self._call(self._over)

    def _tell(self, about: Mapping[str, object]) -> None:
        self._put(b"data: " + orjson.dumps({**self._head, **about}) + b"\n\n")

    def _put(self, one: bytes | Exception) -> None:
        self._call(self._frames.put_nowait, one)

    def _call(self, what: Callable[..., None], *about: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(what, *about)


def configuration(name: str | None) -> RouterConfig:
    """What the router works with: the one model, or none."""
    if name is None:
        return RouterConfig()
    deadlines = Deadlines(first_token_s=_FIRST_TOKEN_S)
    model = Deployment(
        f"{name}-edge", name, name, LaneName.NATIVE, hosted=False, on_cpu=True, rescue=False, deadlines=deadlines
    )
    return RouterConfig(deployments=(model,), num_retries=0)
