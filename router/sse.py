"""A light scanner over server-sent events: whole frames pass byte for byte, and only the few that matter are decoded.

Those are the frames up to the first token, the one with the finish reason, the one with the usage, and errors. Looking
for them costs some `bytes.find` a frame; decoding every frame would cost four times as much.
"""

from typing import Any

import orjson

from core.usage import Usage
from router.events import DONE, data_of, frame, frame_end, loads
from router.transcript import Said

MAX_FRAME_BYTES = 16 * 1024 * 1024

_MAX_KEPT = 8 * 1024 * 1024
_IDS = (b'"token_ids":[', b'"prompt_token_ids":[')


class StreamMalformed(Exception):
    """The bytes are no OpenAI stream."""


class SseScanner:
    """Reads one stream.

    Args:
        keep_usage_chunk: the caller asked for the usage chunk; else it is taken out of the stream.
        keep: remember the frames, so that somebody can go on where they end; up to 8 MiB of them.
        hide_ids: take token ids out of the frames that pass: we asked for them, not the caller.

    Attributes:
        usage: tokens as the upstream counted them, once it has said so.
        finish_reason: of the choice that finished last.
        started: a frame with content, or with the end, has passed.
        done: `[DONE]` has passed.
        error: the upstream's error object, where it sent one inside the stream.
        malformed: why a frame could not be read: it is no JSON object, or has no end.
        model: the model named by the first frame decoded.
        tokens: frames with content so far. An engine sends one token in a frame, or some, so this is a lower bound.
    """

    closing: bytes = b"data: [DONE]\n\n"  # what ends a stream

    def __init__(self, *, keep_usage_chunk: bool, keep: bool = False, hide_ids: bool = False) -> None:
        self._keep_usage_chunk = keep_usage_chunk
        self._kept: list[bytes] | None = [] if keep else None
        self._kept_bytes = 0
        self._hide_ids = hide_ids
        self._buffer = b""
        self._scanned = 0
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.started = False
        self.done = False
        self.error: dict[str, Any] | None = None
        self.malformed: StreamMalformed | None = None
        self.model: str | None = None
        self.tokens = 0

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they come, however they are cut.

        Returns: the whole frames to pass on, unchanged; nothing after `[DONE]`, an error or what is malformed.
        """
        buffer = self._buffer + data if self._buffer else data
        out: list[bytes] = []
        start, scan_from = 0, self._scanned
        narrow = b"\r" not in buffer
        try:
            while not self.done and self.error is None and self.malformed is None:
                end = buffer.find(b"\n\n", scan_from) + 2 if narrow else frame_end(buffer, start, scan_from)
                if end < 2:
                    break
                scan_from, piece = end, buffer[start:end]
                start = end
                out.append(self._look(piece))
        except StreamMalformed as error:
            self.malformed = error
        self._buffer = buffer[start:]
        # Where the next search begins: a boundary may straddle two reads.
        self._scanned = max(0, len(self._buffer) - 3)
        if len(self._buffer) > MAX_FRAME_BYTES:
            self.malformed = StreamMalformed("a frame has no end")
        return b"".join(out)

    def broken(self, message: str, kind: str, code: str) -> bytes:
        """The event that tells the client that its stream broke."""
        return frame(orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}))

    def said(self) -> Said | None:
        """What the stream has said; None: its frames were not kept, or grew beyond what is kept."""
        return None if self._kept is None else Said.read(self._kept)

    def _look(self, frame: bytes) -> bytes:
        """Note what the frame says. Returns: the frame as it passes; nothing takes it out of the stream."""
        if self.started and self._is_token(frame):
            self.tokens += 1
            return self._passed(frame)
        at = 0 if frame.startswith(b"data:") else frame.find(b"\ndata:") + 1
        if at == 0 and not frame.startswith(b"data:"):
            return frame  # a comment, or an event without data
        data = data_of(frame[at:])
        if data == DONE:
            self.done = self.started = True
            return frame
        return self._passed(frame) if self._note(self._decoded(data)) else b""

    def _decoded(self, data: bytes) -> dict[str, Any]:
        try:
            chunk = loads(data)
        except ValueError as error:
            raise StreamMalformed("a frame is no JSON") from error
        if not isinstance(chunk, dict):
            raise StreamMalformed("a frame is no JSON object")
        return chunk

    def _passed(self, frame: bytes) -> bytes:
        """The frame as the caller gets it; kept as it came."""
        if self._kept is not None:
            self._kept.append(frame)
            self._kept_bytes += len(frame)
            if self._kept_bytes > _MAX_KEPT:
                self._kept = None
        return _without_ids(frame) if self._hide_ids else frame

    def _is_token(self, frame: bytes) -> bool:
        """Whether a frame after the first token is text alone, told without reading its JSON; a doubt is no."""
        if not frame.startswith(b"data:") or b'"usage"' in frame or b'"error"' in frame:
            return False
        unfinished = frame.count(b'"finish_reason":null') or frame.count(b'"finish_reason": null')
        if not unfinished or frame.count(b'"finish_reason"') > unfinished:
            return False
        return frame.count(b"{") == frame.count(b"}")  # torn, unless the braces are its text's

    def _note(self, chunk: dict[str, Any]) -> bool:
        if self._is_error(chunk):
            return False
        if self.model is None and isinstance(chunk.get("model"), str):
            self.model = chunk["model"]
        choices = self._choices(chunk)
        for choice in choices:
            if choice.get("finish_reason"):
                self.finish_reason = str(choice["finish_reason"])
                self.started = True
            if _has_content(choice):
                self.started = True
                self.tokens += 1
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = Usage.from_openai(usage)
            if not choices and not self._keep_usage_chunk:
                return False
        return True

    def _is_error(self, chunk: dict[str, Any]) -> bool:
        """Note the upstream's error, where the chunk is one."""
        error = chunk.get("error")
        if error:
            self.error = error if isinstance(error, dict) else {"message": str(error)}
        return bool(error)

    def _choices(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """Raises: StreamMalformed."""
        choices = chunk.get("choices")
        choices = choices if isinstance(choices, list) else []
        if not all(isinstance(choice, dict) for choice in choices):
            raise StreamMalformed("a choice is no JSON object")
        return choices


class MessagesScanner(SseScanner):
    """Reads a stream of Anthropic's form, which vLLM speaks on /v1/messages; it always holds its usage."""

    closing = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def __init__(self) -> None:
        super().__init__(keep_usage_chunk=True)

    def broken(self, message: str, kind: str, code: str) -> bytes:  # noqa: ARG002
        """Anthropic's error event, with its own word for a server's fault."""
        error = {"type": "api_error", "message": message, "details": {"error_code": code}}
        return b"event: error\n" + frame(orjson.dumps({"type": "error", "error": error}))

    def _is_token(self, frame: bytes) -> bool:
        return b"content_block_delta" in frame and b'"usage"' not in frame and b'"error"' not in frame

    def _note(self, chunk: dict[str, Any]) -> bool:
        kind = chunk.get("type")
        if kind == "error":
            error = chunk.get("error")
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return False
        if kind == "message_start" and isinstance(message := chunk.get("message"), dict):
            self._add_usage(message.get("usage"))
            if isinstance(message.get("model"), str):
                self.model = message["model"]
        elif kind == "content_block_delta":
            self.started = True
            self.tokens += 1
        elif kind == "message_delta":
            self._add_usage(chunk.get("usage"))
            delta = chunk.get("delta")
            if isinstance(delta, dict) and delta.get("stop_reason"):
                self.finish_reason = str(delta["stop_reason"])
                self.started = True
        elif kind == "message_stop":
            self.done = self.started = True
        return True

    def _add_usage(self, usage: object) -> None:
        """The first event tells the input, the last one the output, each possibly both."""
        if isinstance(usage, dict):
            new, old = Usage.from_anthropic(usage), self.usage or Usage()
            self.usage = Usage(
                max(new.prompt_tokens, old.prompt_tokens),
                max(new.completion_tokens, old.completion_tokens),
                max(new.cached_tokens, old.cached_tokens),
            )


def _without_ids(frame: bytes) -> bytes:
    """The frame without the token ids that vLLM puts in, as if nobody had asked for them."""
    if b"token_ids" not in frame:
        return frame
    for name in _IDS:
        at = frame.find(name)
        if at >= 0:
            frame = frame[: at + len(name) - 1] + b"null" + frame[frame.find(b"]", at) + 1 :]
    return frame


def _has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        return bool(choice.get("text"))  # of /v1/completions
    names = ("content", "reasoning", "reasoning_content", "refusal", "tool_calls", "function_call", "audio")
    return any(delta.get(name) for name in names)
