"""How another deployment goes on with a broken answer, and its stream as the rest of the first one.

- By token ids: the prompt and what was said, as the engine's own tokens: exact wherever the engine is.
- By prefill: the text so far as the beginning of the answer: exact where the text has one tokenization.
- By replay: the whole is asked for again, and passed over while it is equal; what differs ends it.

`docs/operations.md` says which kind of output takes which way.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from core.usage import Usage
from router.call import Call, Operation
from router.deployment import Deployment, LaneName
from router.events import DONE, data_of, frame
from router.sse import SseScanner, StreamMalformed
from router.transcript import Said, is_role_frame, reasoning_of


class How(enum.StrEnum):
    """A way to go on."""

    IDS = "token_ids"
    PREFILL = "prefill"
    REPLAY = "replay"


class Diverged(StreamMalformed):
    """What was asked for again is not what was said: the answer cannot be made whole."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """One change of deployments in the middle of a stream."""

    broken: str
    by: str
    after_tokens: int
    how: How

    def as_json(self) -> dict[str, Any]:
        return {"from": self.broken, "to": self.by, "after_tokens": self.after_tokens, "how": self.how.value}


# Fields of a chat that mean nothing, or something else, to a completion that goes on from token ids.
_OF_CHAT = frozenset(
    """messages stream_options max_completion_tokens tools tool_choice parallel_tool_calls response_format modalities
    audio prediction reasoning_effort include_reasoning chat_template chat_template_kwargs add_generation_prompt
    continue_final_message documents echo logprobs top_logprobs n""".split()
)


def ways(call: Call, said: Said, broken: Deployment, by: Deployment) -> list[How]:
    """The ways in which `by` may go on, the best first; none where no way leads on."""
    if said.strange or call.kind not in ("chat.completions", "completions") or call.body.get("n") not in (None, 1):
        return []
    if by.lane is not LaneName.NATIVE:
        return [How.REPLAY]
    found = []
    if said.plain and call.is_plain_text and call.body.get("stop"):
        # Text that may begin a stop word is held back: what was said may end within a token, and its ids go beyond it.
        if call.body.get("temperature") != 0 and _prefilled(call, said.text) is not None:
            found.append(How.PREFILL)
    elif said.plain and call.is_plain_text:
        same = by.model == broken.model
        if same and said.prompt_ids and said.ids and _limit(call.body) and call.body.get("logprobs") in (None, False):
            found.append(How.IDS)
        if _prefilled(call, said.text) is not None:
            found.append(How.PREFILL)
    return [*found, How.REPLAY]


def continued(call: Call, said: Said, how: How) -> Call:
    """The call that has the rest said."""
    if how is How.REPLAY:
        return call
    left = {name: value - said.tokens for name in _LIMITS if isinstance(value := call.body.get(name), int)}
    least = call.body.get("min_tokens")
    if isinstance(least, int):
        left["min_tokens"] = max(0, least - said.tokens)
    if how is How.PREFILL:
        prefilled = _prefilled(call, said.text)
        assert prefilled is not None  # `ways` has asked
        return replace(call, body={**call.body, **prefilled, **left})
    body = {name: value for name, value in call.body.items() if name not in _OF_CHAT}
    ids = [*(said.prompt_ids or ()), *(said.ids or ())]
    limit = _limit(call.body)
    assert limit is not None
    body |= {"prompt": ids, **left, "max_tokens": limit - said.tokens, "return_token_ids": True}
    return replace(call, kind="completions", body=body)


def exhausted(call: Call, said: Said) -> bool:
    """Nothing is left to be said: the stream broke between its last token and its end."""
    limit = _limit(call.body)
    return limit is not None and said.tokens >= limit


_LIMITS = ("max_tokens", "max_completion_tokens")


def _limit(body: dict[str, Any]) -> int | None:
    """The most tokens that the answer may have; None: the model's own bound."""
    value = body.get("max_completion_tokens") or body.get("max_tokens")
    return value if isinstance(value, int) else None


def _prefilled(call: Call, text: str) -> dict[str, Any] | None:
    """The fields that put the text at the beginning of the answer; None: it cannot be put there."""
    if not text:
        return None
    if call.kind == "completions":
        prompt = call.body.get("prompt")
        wants_places = call.body.get("logprobs") is not None or call.body.get("echo")
        return {"prompt": prompt + text} if isinstance(prompt, str) and not wants_places else None
    messages = call.body.get("messages")
    if not isinstance(messages, list) or call.body.get("echo"):
        return None
    if call.body.get("continue_final_message"):
        last = messages[-1]
        if not isinstance(last.get("content"), str):
            return None
        messages = [*messages[:-1], {**last, "content": last["content"] + text}]
    else:
        messages = [*messages, {"role": "assistant", "content": text}]
    return {"messages": messages, "add_generation_prompt": False, "continue_final_message": True}


class ContinuedScanner(SseScanner):
    """Reads the stream that goes on, and makes its chunks chunks of the first one.

    Args:
        kind: what the client asked for; a continuation by token ids comes as a text completion.
        said: by the streams before; grows with this one.
        rescued: all changes of deployments so far, told in the last frames.
        show_ids: the client asked for token ids.
    """

    def __init__(
        self,
        kind: Operation,
        said: Said,
        how: How,
        rescued: Sequence[Rescued],
        *,
        keep_usage_chunk: bool,
        show_ids: bool,
    ) -> None:
        super().__init__(keep_usage_chunk=keep_usage_chunk)
        self._chat = kind == "chat.completions"
        self._said = said
        self._before = said.tokens
        self._how = how
        self._news = {"stoker": {"rescued": [one.as_json() for one in rescued]}}
        self._show_ids = show_ids
        self._shown_ahead = len(said.held_ids) if how is How.IDS else 0  # ids that the client has seen already
        said.held_ids, said.held_frames = [], 0  # they are said anew
        self._skip = _Skip(said) if how is How.REPLAY else None
        self.tokens = said.tokens
        self.finish_reason = said.finish_reason

    def said(self) -> Said:
        return self._said

    def _look(self, raw: bytes) -> bytes:
        data = data_of(raw)
        if not data:
            return raw  # a comment
        if data == DONE:
            self.done = self.started = True
            return raw
        out = b""
        for chunk in self._rewritten(self._decoded(data)):
            out += frame(orjson.dumps(chunk))
        return out

    def _rewritten(self, chunk: dict[str, Any]) -> list[dict[str, Any]]:
        """The chunks that the client gets for one of this stream's."""
        if self._is_error(chunk):
            return []
        found = []
        for choice in self._choices(chunk):
            found += self._rewritten_choice(choice)
        usage = chunk.get("usage")
        if isinstance(usage, dict) and not chunk.get("choices"):
            self.usage = self._total(Usage.from_openai(usage))
            if self._keep_usage_chunk:
                told = {**usage, **self.usage.as_openai()}
                found.append({**self._said.head, "choices": [], "usage": told, **self._news})
        return found

    def _rewritten_choice(self, choice: dict[str, Any]) -> list[dict[str, Any]]:
        delta = choice.get("delta") if "delta" in choice else {"content": choice.get("text")}
        delta = {name: value for name, value in (delta or {}).items() if value and name != "role"}
        reason = choice.get("finish_reason")
        if delta or reason:
            self.started = True
        skipping = self._skip is not None and self._skip.left
        if self._skip is not None:
            delta = self._skip.rest_of(delta)
            if reason and self._skip.left:
                raise Diverged("the answer that was asked for again ends earlier")
        ids = choice.get("token_ids") if self._skip is None else None
        if not delta and not reason and not (ids and self._show_ids):
            if not (skipping or is_role_frame(choice)):
                self._said.add({"choices": [{"delta": {"content": ""}, "token_ids": ids}]})  # its text is held back
            return []
        shown = {name: value for name, value in choice.items() if name not in _NOT_SHOWN}
        shown |= {"index": 0, "finish_reason": reason}
        if self._chat:
            shown["delta"] = delta
        else:
            shown["text"] = delta.get("content", "")
        self._said.add({"choices": [{**shown, "token_ids": ids}]})
        if self._show_ids:
            shown["token_ids"] = self._unseen(ids)
        self.tokens = self._said.tokens
        if reason:
            self.finish_reason = str(reason)
        return [{**self._said.head, "choices": [shown], **(self._news if reason else {})}]

    def _unseen(self, ids: list[int] | None) -> list[int] | None:
        if ids is None:
            return None
        seen = min(self._shown_ahead, len(ids))
        self._shown_ahead -= seen
        return ids[seen:]

    def _total(self, own: Usage) -> Usage:
        """What the whole answer took, the prompt once."""
        if self._how is How.REPLAY:
            return own
        prompt = len(self._said.prompt_ids) if self._said.prompt_ids else max(0, own.prompt_tokens - self._before)
        return Usage(prompt, self._before + own.completion_tokens, min(own.cached_tokens, prompt))


_NOT_SHOWN = frozenset(("delta", "text", "token_ids", "prompt_token_ids", "prompt_logprobs"))


class _Skip:
    """Passes over what was said already, channel by channel."""

    def __init__(self, said: Said) -> None:
        self._known = set(said.tools)
        self._left: dict[tuple[str, int], str] = {("content", 0): said.text, ("reasoning", 0): said.reasoning}
        for at, tool in said.tools.items():
            self._left["name", at] = tool.name
            self._left["arguments", at] = tool.arguments

    @property
    def left(self) -> bool:
        """Something that was said has not come again."""
        return any(self._left.values())

    def rest_of(self, delta: dict[str, Any]) -> dict[str, Any]:
        """What is new in a delta. Raises: Diverged."""
        rest: dict[str, Any] = {}
        reasoning = self._new("reasoning", 0, reasoning_of(delta))
        if reasoning:
            rest["reasoning"] = reasoning
        content = self._new("content", 0, delta.get("content") or "")
        if content:
            rest["content"] = content
        calls = [new for call in delta.get("tool_calls") or () if (new := self._new_call(call))]
        if calls:
            rest["tool_calls"] = calls
        return rest

    def _new_call(self, call: dict[str, Any]) -> dict[str, Any] | None:
        at, function = call.get("index", 0), call.get("function") or {}
        name = self._new("name", at, function.get("name") or "")
        arguments = self._new("arguments", at, function.get("arguments") or "")
        if at not in self._known:  # a call that the first stream did not come to: with its own id
            return call
        if not name and not arguments:
            return None
        fresh = {key: value for key, value in (("name", name), ("arguments", arguments)) if value}
        return {"index": at, "function": fresh}

    def _new(self, channel: str, at: int, piece: str) -> str:
        left = self._left.get((channel, at), "")
        known = min(len(left), len(piece))
        if left[:known] != piece[:known]:
            raise Diverged("the answer that was asked for again is another one")
        if known:
            self._left[channel, at] = left[known:]
        new = piece[known:]
        if new and self.left:
            raise Diverged("the answer that was asked for again is another one")
        return new
