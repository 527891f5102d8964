"""An answer on its way to the client."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import orjson

from core.clock import Clock
from core.usage import Usage
from router.call import Operation
from router.continuation import Diverged
from router.deployment import Deployment
from router.errors import (
    AnswerDiverged,
    GuardFailed,
    GuardRefused,
    RouterError,
    UpstreamEjected,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from router.lane import ByteStream, Whole
from router.sse import SseScanner
from router.transcript import Said

Ended = Callable[[str, RouterError | None], None]

_DRAIN_S = 0.05


class FrameStream:
    """Reads a stream under its deadlines.

    Args:
        source: the upstream's bytes.
        ends_s: reading of `clock.monotonic` at which the whole answer must be there.
        ended: called once with the outcome (ok, broken, timeout, diverged, or cancelled when it was closed before its
            end) and what broke it.
    """

    def __init__(
        self, deployment: Deployment, source: ByteStream, scanner: SseScanner, clock: Clock, ends_s: float, ended: Ended
    ) -> None:
        self.deployment = deployment
        self._source = source
        self._scanner = scanner
        self._clock = clock
        self._ends_s = ends_s
        self._ended: Ended | None = ended
        self._held = b""
        self._silent_at_s: float | None = None
        self._silence = f"fell silent for {deployment.deadlines.between_tokens_s:g} s"
        self._failure: UpstreamError | None = None
        self.first_token_s: float | None = None

    @property
    def usage(self) -> Usage | None:
        return self._scanner.usage

    @property
    def over(self) -> bool:
        """The last frame has been read; it may not have been passed on yet."""
        return self._scanner.done

    @property
    def finish_reason(self) -> str | None:
        return self._scanner.finish_reason

    @property
    def tokens(self) -> int:
        """Frames with content that were read so far: at most as many as the upstream made tokens."""
        return self._scanner.tokens

    @property
    def left_s(self) -> float:
        """Seconds until the whole answer must be there."""
        return self._ends_s - self._clock.monotonic()

    def said(self) -> Said | None:
        """What the frames said that were passed on; None: nobody kept them."""
        return self._scanner.said()

    async def start(self, due_s: Callable[[], float]) -> None:
        """Read until the first token is here; what was read is held back until then.

        Args:
            due_s: reading of the monotonic clock at which it is overdue; may grow while it is waited for.

        Raises: UpstreamError: the stream broke, ended or reported an error, so another deployment can still take over.
        """
        while not self._scanner.started:
            by_s = due_s()
            try:
                self._held += await self._next(by_s, "sent no token in time")
            except UpstreamTimeout:
                if self._failure is not None or due_s() <= by_s:
                    raise

    async def piece(self) -> bytes:
        """The next whole frames, one or many; after those with `[DONE]` nothing more.

        Raises: UpstreamError, UpstreamRefused: the stream broke; every frame that came before was handed out.
        """
        if self._held:
            held, self._held = self._held, b""
            return held
        try:
            while not self._scanner.done:
                if self._silent_at_s is None:
                    self._silent_at_s = self._clock.monotonic() + self.deployment.deadlines.between_tokens_s
                passed = await self._next(self._silent_at_s, self._silence)
                if passed:
                    if b"data:" in passed:  # no comment, and no part of a frame
                        self._silent_at_s = None  # it counts from when the next is asked for
                    return passed
            self._end("ok")
            await self._drain()
        except (UpstreamError, UpstreamRefused) as error:
            self._end(_outcome(error), error)
            await self.aclose()
            raise
        await self.aclose()
        return b""

    def broken(self, error: RouterError, kind: str = "upstream_error", code: str = "stream_broken") -> bytes:
        """The event that tells the client that its stream broke."""
        return self._scanner.broken(str(error), kind, code)

    def abandon(self, reason: str) -> None:
        """Have it break now: its engine was seen to be `reason`, such as wedged, so nothing will come."""
        if not self._scanner.done:
            self._failure = self._failure or UpstreamEjected(self.deployment.name, f"was ejected: {reason}")
            self._source.wake()

    def forget(self) -> None:
        """Report no outcome: whoever started the stream does."""
        self._ended = None

    async def aclose(self) -> None:
        """Cancel the upstream at once; does nothing to a stream that has ended."""
        self._end("cancelled")
        await self._source.aclose()

    async def _next(self, by_s: float, silence: str) -> bytes:
        """Read once and scan. Raises: UpstreamError."""
        if self._failure is not None:
            raise self._failure
        name, now_s = self.deployment.name, self._clock.monotonic()
        try:
            data = await self._source.read(max(0.0, min(by_s, self._ends_s) - now_s))
        except TimeoutError as error:
            if self._failure is not None:
                raise self._failure from error
            raise UpstreamTimeout(name, silence if by_s <= self._ends_s else "did not finish in time") from error
        if not data:
            return self._last()
        scanner = self._scanner
        passed = scanner.feed(data)
        if isinstance(scanner.malformed, Diverged):
            self._failure = AnswerDiverged(name, f"cannot go on: {scanner.malformed}")
        elif scanner.malformed is not None:
            self._failure = UpstreamFailed(name, f"sent a malformed stream: {scanner.malformed}")
        elif scanner.error is not None:
            self._failure = UpstreamFailed(name, "reported an error inside its stream")
        if self._failure is not None and not passed:
            raise self._failure
        if scanner.started and self.first_token_s is None:
            self.first_token_s = self._clock.monotonic()
        return passed

    async def _drain(self) -> None:
        """Read what follows `[DONE]`, normally nothing but the end, so that the connection can be used again."""
        with contextlib.suppress(TimeoutError, UpstreamError):
            await self._source.read(_DRAIN_S)

    def _last(self) -> bytes:
        """The upstream closed the connection: a whole answer that lacks only `[DONE]` gets it, any other is cut."""
        if self._scanner.finish_reason is None or self._scanner.pending:
            raise UpstreamFailed(self.deployment.name, "ended its stream before the answer was whole")
        self._scanner.done = True
        return self._scanner.closing

    def _end(self, outcome: str, error: RouterError | None = None) -> None:
        if self._ended is not None:
            ended, self._ended = self._ended, None
            ended(outcome, error)


def _outcome(error: RouterError) -> str:
    if isinstance(error, AnswerDiverged):
        return "diverged"
    return "timeout" if isinstance(error, UpstreamTimeout) else "broken"


class Rescue(Protocol):
    """Finds somebody who goes on with a broken stream."""

    async def __call__(self, broken: FrameStream, error: RouterError) -> FrameStream | bytes | None:
        """Returns: the stream that goes on, at its first token; or the end of an answer that lacked only that; or
        None: nobody can go on."""
        ...


class Answer:
    """What the router hands out: `body` for an answer in one piece, `frames` for a stream.

    Attributes:
        deployment: the one that answers now; another one after a rescue.
        fallback: its group, where that isn't the one that was asked for.
        by_others: another group than the one that was asked for gave it, or a part of it.
        said: usage and finish reason of an answer in one piece, as `read_whole` found them.
        status: 200; whatever failed early was raised.
        frames: server-sent events; iterate it once, then call `aclose`. It ends in `[DONE]`, or in an error event.
        broken: the stream ended in an error event.
        refused: why a guard lets nothing of it, or no more of its stream, be told; the upstream has made it all the
            same. Of an answer in one piece `body` is empty then.
        on_switch: called when another deployment goes on with the stream, before its first frame, with the tokens of
            the answer so far; what it raises ends the stream.
    """

    status = 200

    def __init__(
        self,
        asked: str,
        content: Whole | FrameStream,
        deployment: Deployment,
        said: tuple[Usage | None, str | None] = (None, None),
    ) -> None:
        self._asked = asked
        self.deployment = deployment
        self._stream = content if isinstance(content, FrameStream) else None
        self.body: bytes = content.body if isinstance(content, Whole) else b""
        self.media_type = content.media_type if isinstance(content, Whole) else "text/event-stream"
        self.frames: AsyncIterator[bytes] | None = self._frames(self._stream) if self._stream else None
        self.by_others = deployment.group != asked
        self.broken = False
        self.refused: GuardRefused | GuardFailed | None = None
        self.rescue: Rescue | None = None
        self.on_switch: Callable[[Usage, Deployment], None] | None = None
        self._first = self._stream
        self._usage, self._finish_reason = said
        self._ended_whole = False
        self._closed: list[Callable[[], None]] = []

    def on_close(self, closed: Callable[[], None]) -> None:
        """Have this called, too, when the answer is closed."""
        self._closed.append(closed)

    @property
    def fallback(self) -> str | None:
        return self.deployment.group if self.deployment.group != self._asked else None

    @property
    def usage(self) -> Usage | None:
        """Tokens of the whole answer as the upstream counted them; of a stream, after its end."""
        return self._stream.usage if self._stream else self._usage

    @property
    def finish_reason(self) -> str | None:
        return self._stream.finish_reason if self._stream else self._finish_reason

    @property
    def over(self) -> bool:
        """Nothing follows what was read of a stream so far."""
        return self._stream is None or self.broken or self._ended_whole or self._stream.over

    @property
    def tokens(self) -> int:
        """Frames with content of a stream so far; 0 for an answer in one piece."""
        return self._stream.tokens if self._stream else 0

    @property
    def first_token_s(self) -> float | None:
        """Reading of the monotonic clock when the first token came; None for an answer in one piece."""
        return self._first.first_token_s if self._first else None

    def cut(self, error: GuardRefused | GuardFailed, code: str) -> bytes:
        """The event that ends a stream of which no more may be told."""
        assert self._stream is not None
        self.broken, self.refused = True, error
        return self._stream.broken(error, "invalid_request_error", code)

    async def aclose(self) -> None:
        """Cancel the upstream at once; may be called at any time, and twice; every answer is to be closed."""
        closed, self._closed = self._closed, []
        try:
            if self._stream is not None:
                await self._stream.aclose()
        finally:
            for each in closed:
                each()

    async def _frames(self, stream: FrameStream) -> AsyncIterator[bytes]:
        while True:
            try:
                while piece := await stream.piece():
                    yield piece
                return
            except (UpstreamError, UpstreamRefused) as error:
                cause = error
            found = None if self.rescue is None else await self.rescue(stream, cause)
            if isinstance(found, FrameStream):
                self._take_over(stream, found)
                stream = found
                continue
            self.broken = found is None
            self._ended_whole = found is not None
            yield stream.broken(cause) if found is None else found
            return

    def _take_over(self, old: FrameStream, new: FrameStream) -> None:
        self._stream, self.deployment = new, new.deployment
        self.by_others = self.by_others or self.fallback is not None
        said = new.said()
        if self.on_switch is not None and said is not None:
            prompt = len(said.prompt_ids) if said.prompt_ids else 0
            self.on_switch(Usage(prompt, old.tokens), new.deployment)


def read_whole(body: bytes, kind: Operation = "chat.completions") -> tuple[Usage | None, str | None]:
    """Usage and finish reason of an answer in one piece. Raises: ValueError: it is none; says what it is instead."""
    data: Any = orjson.loads(body)
    if not isinstance(data, dict):
        raise ValueError("something that is no JSON object")
    if data.get("error"):
        raise ValueError("an error in a 200")
    usage = data.get("usage")
    if kind == "messages":
        reason = data.get("stop_reason")
        counted = Usage.from_anthropic(usage) if isinstance(usage, dict) else None
    else:
        choices = data.get("choices")
        first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        reason = first.get("finish_reason")
        counted = Usage.from_openai(usage) if isinstance(usage, dict) else None
    return counted, reason if isinstance(reason, str) else None
