"""How the exact provider's routes say what they say, field by field as vLLM does."""

import time
import uuid
from typing import Any

import orjson

from tests.support.exact import model as exact
from tests.support.exact.faults import Fault
from tests.support.exact.served import Served

_ABSURD = {"prompt_tokens": 10**15, "completion_tokens": -7, "total_tokens": 3}


class Form:
    """How one route says it; this one is /v1/chat/completions.

    Attributes:
        done: the last bytes of a stream.
    """

    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"
    id_prefix = "chatcmpl-"
    done = b"data: [DONE]\n\n"

    def __init__(self, model: str, served: Served, asked: exact.Asked, *, gives_ids: bool) -> None:
        self._asked = asked
        self._served = served
        self._says_ids = bool(served.body.get("return_token_ids")) and gives_ids
        self._wants_usage = bool((served.body.get("stream_options") or {}).get("include_usage"))
        self._head = {"id": f"{self.id_prefix}{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._tool_id = f"chatcmpl-tool-{uuid.uuid4().hex}"  # of this answer alone, as vLLM's
        self._tool_begun = False

    def first(self) -> bytes:
        """The frame with the role, and the prompt's ids."""
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return self._frame([choice], prompt_token_ids=list(self._asked.prompt) if self._says_ids else None)

    def step(self, step: exact.Step) -> bytes:
        """One token's frame; the last one has the reason, too."""
        choice: dict[str, Any] = {
            "index": 0,
            "delta": self._delta(step.text),
            "logprobs": None,
            "finish_reason": step.reason,
        }
        if step.reason:
            choice["stop_reason"] = step.stop_reason
        return self._frame([{**choice, "token_ids": self._ids(step)}])

    def last(self, step: exact.Step) -> bytes:
        """What comes after the last token, before `done`."""
        usage = self._usage()
        return self._frame([], usage=usage) if self._wants_usage and usage is not None else b""

    def whole(self, text: str, last: exact.Step) -> dict[str, Any]:
        """The answer in one piece."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self._asked.kind == "tool":
            call = {"id": self._tool_id, "type": "function", "function": {"name": self._asked.tool, "arguments": text}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"index": 0, "message": message, **self._end(last)}
        more = {"prompt_token_ids": list(self._asked.prompt) if self._says_ids else None}
        return self._told(choice) | more

    def _told(self, choice: dict[str, Any]) -> dict[str, Any]:
        usage = self._usage()
        counted = {} if usage is None else {"usage": usage}
        return {**self._head, "object": self.whole_object, "choices": [choice], **counted}

    def _end(self, last: exact.Step) -> dict[str, Any]:
        ids = list(self._served.made) if self._says_ids else None
        return {"logprobs": None, "finish_reason": last.reason, "stop_reason": last.stop_reason, "token_ids": ids}

    def _ids(self, step: exact.Step) -> list[int] | None:
        return [step.token] if self._says_ids else None

    def _delta(self, text: str) -> dict[str, Any]:
        if self._asked.kind != "tool":
            return {"content": text}
        if self._tool_begun:
            return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}
        self._tool_begun = True
        function = {"name": self._asked.tool, "arguments": text}
        return {"tool_calls": [{"index": 0, "id": self._tool_id, "type": "function", "function": function}]}

    def _usage(self) -> dict[str, int] | None:
        if self._served.failed is Fault.NO_USAGE:
            return None
        if self._served.failed is Fault.LYING_USAGE:
            return _ABSURD
        made, read = len(self._served.made), len(self._asked.prompt)
        return {"prompt_tokens": read, "total_tokens": read + made, "completion_tokens": made}

    def _frame(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {**self._head, "object": self.chunk_object, "choices": choices, **more}
        return b"data: " + orjson.dumps(chunk) + b"\n\n"


class Completion(Form):
    """/v1/completions: no role, and the prompt's ids are in the first choice."""

    whole_object = chunk_object = "text_completion"
    id_prefix = "cmpl-"

    def __init__(self, model: str, served: Served, asked: exact.Asked, *, gives_ids: bool) -> None:
        super().__init__(model, served, asked, gives_ids=gives_ids)
        self._prompt: list[int] | None = list(asked.prompt) if self._says_ids else None

    def first(self) -> bytes:
        return b""

    def step(self, step: exact.Step) -> bytes:
        prompt, self._prompt = self._prompt, None
        choice: dict[str, Any] = {
            "index": 0,
            "text": step.text,
            "logprobs": None,
            "finish_reason": step.reason,
            "stop_reason": step.stop_reason,
            "prompt_token_ids": prompt,
            "token_ids": self._ids(step),
        }
        return self._frame([choice])

    def whole(self, text: str, last: exact.Step) -> dict[str, Any]:
        prompt = list(self._asked.prompt) if self._says_ids else None
        return self._told({"index": 0, "text": text, **self._end(last), "prompt_token_ids": prompt})


class Messages(Form):
    """Anthropic's form, text only."""

    done = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def first(self) -> bytes:
        usage = {"input_tokens": len(self._asked.prompt), "output_tokens": 0}
        start = self._message([], None, usage)
        block = {"type": "text", "text": ""}
        return _named("message_start", message=start) + _named("content_block_start", index=0, content_block=block)

    def step(self, step: exact.Step) -> bytes:
        if not step.text:
            return b""
        return _named("content_block_delta", index=0, delta={"type": "text_delta", "text": step.text})

    def last(self, step: exact.Step) -> bytes:
        delta = {"stop_reason": _stop_reason(step), "stop_sequence": step.stop_reason}
        return _named("content_block_stop", index=0) + _named("message_delta", delta=delta, usage=self._counted())

    def whole(self, text: str, last: exact.Step) -> dict[str, Any]:
        return self._message([{"type": "text", "text": text}], _stop_reason(last), self._counted())

    def _message(self, content: list[Any], reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
        head = {"id": self._head["id"], "type": "message", "role": "assistant", "model": self._head["model"]}
        return {**head, "content": content, "stop_reason": reason, "stop_sequence": None, "usage": usage}

    def _counted(self) -> dict[str, int]:
        return {"input_tokens": len(self._asked.prompt), "output_tokens": len(self._served.made)}


FORMS: dict[str, type[Form]] = {
    "/chat/completions": Form,
    "/completions": Completion,
    "/messages": Messages,
}


def _named(name: str, **fields: Any) -> bytes:
    """One event of Anthropic's form."""
    return f"event: {name}\ndata: ".encode() + orjson.dumps({"type": name, **fields}) + b"\n\n"


def _stop_reason(step: exact.Step) -> str:
    if step.stop_reason is not None:
        return "stop_sequence"
    return "max_tokens" if step.reason == "length" else "end_turn"
