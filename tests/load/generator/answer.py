"""Reads one answer as its bytes come, and says when which token came; knows nothing of sockets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from tests.load.generator.scenarios import Form

_LONGEST_LINE_BYTES = 8 * 1024 * 1024


class Failure(StrEnum):
    """Why an answer does not count."""

    STATUS = "status"  # an error status
    CONNECT = "connect"  # nobody took the connection
    BROKEN = "broken"  # the connection was lost before a status came
    TRUNCATED = "truncated"  # the stream ended without finish_reason and [DONE], or `done`
    ERROR_EVENT = "error event"  # the stream told of an error
    TIMEOUT = "timeout"
    MALFORMED = "malformed"  # what came is not what was asked for
    EMPTY = "empty"  # it ended well, and not one token had come


@dataclass(slots=True)
class Sample:
    """What was measured of one request. Moments are readings of the run's clock, in seconds.

    Attributes:
        scheduled_s: when it should begin; every latency counts from here.
        sent_s: when its bytes were written; None: they never were.
        tokens_s: when a frame with text came, one moment for each of them.
        ready_s: how long it waited for the client itself, and `held_s` for one of its connections.
        failure, detail: why it failed; the detail is a status with its code, and holds no text of the server's.
        prompt_tokens, output_tokens, cached_tokens: by the answer's own `usage`; None: it named none.
        cache: what `x-cache` said.
        citations: of a question's answer.
    """

    number: int
    kind: str
    scheduled_s: float
    ready_s: float = 0.0
    held_s: float = 0.0
    sent_s: float | None = None
    ended_s: float = 0.0
    tokens_s: list[float] = field(default_factory=list)
    status: int = 0
    failure: Failure | None = None
    detail: str = ""
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    cache: str = ""
    citations: int | None = None

    @property
    def ttft_s(self) -> float | None:
        """To the first token of text."""
        return self.tokens_s[0] - self.scheduled_s if self.tokens_s else None

    @property
    def e2e_s(self) -> float:
        return self.ended_s - self.scheduled_s

    @property
    def tpot_s(self) -> float | None:
        """(end-to-end - TTFT) / (output tokens - 1); None for less than two."""
        if self.ttft_s is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1)

    @property
    def what(self) -> str:
        """The class of its failure; empty: it ended well."""
        return "" if self.failure is None else " ".join(filter(None, (self.failure, self.detail)))


class Answer:
    """One answer as it comes: `head`, then `body` for each piece, then `end`; or `fail` at any time.

    Args:
        form: how it is told.
        sample: filled with what is seen.
        keep_text: for who goes on from it.
    """

    def __init__(self, form: Form, sample: Sample, *, keep_text: bool = False) -> None:
        self.sample = sample
        self._form = form
        self._rest = b""
        self._event = b""
        self._data: list[bytes] = []
        self._finished = form is Form.QUERY  # a question's answer says nothing but `done`
        self._done = False
        self._whole: list[bytes] = []
        self._text: list[str] | None = [] if keep_text else None

    @property
    def text(self) -> str:
        return "".join(self._text or ())

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """Status and headers, whose names are in lower case."""
        self.sample.status = status
        self.sample.cache = headers.get("x-cache", "")

    def body(self, data: bytes, at_s: float) -> None:
        """A piece of the body, which came at that moment."""
        if self.sample.failure is not None:
            return
        if self.sample.status >= 300 or self._form is Form.PLAIN:
            if sum(map(len, self._whole)) < _LONGEST_LINE_BYTES:
                self._whole.append(data)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE_BYTES:
            self.fail(Failure.MALFORMED, at_s)
        for line in lines:
            self._line(line.removesuffix(b"\r"), at_s)

    def end(self, at_s: float) -> None:
        """All has come."""
        sample = self.sample
        if sample.failure is None:
            if not 200 <= sample.status < 300:
                self.fail(Failure.STATUS, at_s, _code(sample.status, b"".join(self._whole)))
            elif self._form is not Form.PLAIN and not (self._done and self._finished):
                self.fail(Failure.TRUNCATED, at_s)
            elif self._form is not Form.PLAIN and not sample.tokens_s:
                self.fail(Failure.EMPTY, at_s)
        sample.ended_s = at_s

    def fail(self, failure: Failure, at_s: float, detail: str = "") -> None:
        """It does not count; what comes after the first failure changes nothing."""
        if self.sample.failure is None:
            self.sample.failure, self.sample.detail, self.sample.ended_s = failure, detail, at_s

    def _line(self, line: bytes, at_s: float) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            self._event = line[6:].strip()
        elif not line and self._data:
            data, event = b"\n".join(self._data), self._event
            self._data, self._event = [], b""
            if data == b"[DONE]":
                self._done = True
                return
            try:
                told = orjson.loads(data)
                self._query(event, told, at_s) if self._form is Form.QUERY else self._chunk(event, told, at_s)
            except (ValueError, TypeError, AttributeError, KeyError, IndexError):
                self.fail(Failure.MALFORMED, at_s)

    def _chunk(self, event: bytes, told: dict[str, Any], at_s: float) -> None:
        if event == b"error" or told.get("error"):
            self.fail(Failure.ERROR_EVENT, at_s, _word(_dict(told.get("error")).get("code")))
            return
        if usage := told.get("usage"):
            self._usage(usage)
        for choice in told.get("choices") or ():
            if choice.get("finish_reason"):
                self._finished = True
            delta = choice.get("delta") or {}
            text = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
            if text or delta.get("tool_calls") or choice.get("text"):
                self._token(text or choice.get("text") or "", at_s)

    def _query(self, event: bytes, told: dict[str, Any], at_s: float) -> None:
        if event == b"error":
            self.fail(Failure.ERROR_EVENT, at_s, _word(_dict(told.get("error")).get("code")))
        elif event == b"token" and told["text"]:
            self._token(told["text"], at_s)
        elif event == b"done":
            self._done = True
            self.sample.citations = len(told["citations"])
            self.sample.cache = told.get("cache") or self.sample.cache
            self._usage(told.get("usage") or {})

    def _token(self, text: str, at_s: float) -> None:
        self.sample.tokens_s.append(at_s)
        if self._text is not None:
            self._text.append(text)

    def _usage(self, usage: dict[str, Any]) -> None:
        sample = self.sample
        sample.prompt_tokens, sample.output_tokens = _count(usage["prompt_tokens"]), _count(usage["completion_tokens"])
        sample.cached_tokens = _count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens") or 0)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError("no count")
    return value


def _code(status: int, body: bytes) -> str:
    try:
        error = _dict(_dict(orjson.loads(body)).get("error"))
    except ValueError:
        error = {}
    return f"{status} {_word(error.get('code'))}".rstrip()


def _word(code: object) -> str:
    """A code as it may stand in a report: a short word, or nothing."""
    text = str(code) if isinstance(code, str | int) else ""
    return text if len(text) <= 40 and text.replace("_", "").replace("-", "").isalnum() else ""
