"""What a client got, held against the one answer that is right."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from router.router import Answer, Call
from tests.support.exact import model as exact


@dataclass
class Got:
    """An answer as the client sees it.

    Attributes:
        text: what was said, or the arguments of the tool call.
        error: the error event that ended the stream.
        rescued: what the frame with the finish reason says of rescues.
        wrong: what is not as it must be of an answer that is whole and right; empty when all is.
    """

    text: str = ""
    error: dict[str, Any] | None = None
    rescued: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def note(self, ok: bool, complaint: str) -> None:
        if not ok:
            self.wrong.append(complaint)


def expected(model: str, call: Call) -> exact.Told:
    """The right answer to a call, from any server of the model."""
    read = exact.read_completion if call.kind == "completions" else exact.read_chat
    return exact.answer(model, read(call.body))


async def take(model: str, call: Call, answer: Answer, *, usage_told: bool = True) -> Got:
    """Read an answer to its end, close it and examine it.

    Args:
        usage_told: the usage is to be right; False for upstreams that tell a wrong one, or none.
    """
    told = expected(model, call)
    try:
        if answer.frames is None:
            got = examine_whole(answer.body, told, usage_told)
        else:
            body = b"".join([piece async for piece in answer.frames])
            got = examine_stream(body, call.body, told, usage_told)
    finally:
        await answer.aclose()
    if usage_told and not got.wrong and not got.rescued:
        counted = answer.usage and answer.usage.as_openai()
        got.note(counted == told.usage, f"the answer's usage is {counted}, not {told.usage}")
    return got


def examine_whole(body: bytes, told: exact.Told, usage_told: bool = True) -> Got:
    """Examine an answer in one piece."""
    got = Got()
    answer = orjson.loads(body)
    if "choices" not in answer:
        got.note(False, f"no answer: {answer}")
        return got
    choice = answer["choices"][0]
    message = choice.get("message") or {"content": choice.get("text")}
    calls = message.get("tool_calls") or []
    got.text = calls[0]["function"]["arguments"] if calls else message["content"]
    got.note(got.text == told.text, f"the text is {got.text!r}, not {told.text!r}")
    got.note(choice["finish_reason"] == told.reason, f"the reason is {choice['finish_reason']}, not {told.reason}")
    if usage_told:
        got.note(answer.get("usage") == told.usage, f"the usage is {answer.get('usage')}, not {told.usage}")
    return got


def examine_stream(body: bytes, asked: dict[str, Any], told: exact.Told, usage_told: bool = True) -> Got:
    """Examine a stream."""
    got = Got()
    *frames, rest = body.decode().split("\n\n")
    got.note(rest == "", f"the stream ends in the middle of a frame: {rest!r}")
    done = [at for at, frame in enumerate(frames) if frame == "data: [DONE]"]
    got.note(done == [len(frames) - 1], f"[DONE] is at {done} of {len(frames)} frames")
    chunks = []
    for frame in frames:
        if frame == "data: [DONE]":
            continue
        try:
            chunks.append(orjson.loads(frame.removeprefix("data: ")))
        except orjson.JSONDecodeError:
            got.note(False, f"a frame is no JSON: {frame[:80]!r}")
    for chunk in chunks:
        if "error" in chunk:
            got.error = chunk["error"]
            got.note(False, f"an error event: {got.error}")
    said = [chunk for chunk in chunks if "error" not in chunk]
    _examine_choices(got, [choice for chunk in said for choice in chunk["choices"]], told, asked)
    _examine_heads(got, said, asked)
    _examine_usage(got, said, asked, told, usage_told)
    return got


def _examine_choices(got: Got, choices: list[dict[str, Any]], told: exact.Told, asked: dict[str, Any]) -> None:
    deltas = [choice.get("delta", {}) for choice in choices]
    calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
    if calls:
        got.text = "".join(call["function"].get("arguments") or "" for call in calls)
        named = [call["id"] for call in calls if call.get("id")]
        got.note(len(named) == 1, f"a call has {len(named)} ids")
        names = [call["function"]["name"] for call in calls if call["function"].get("name")]
        got.note(names == [told.tool], f"the functions are {names}, not {told.tool}")
    else:
        got.text = "".join(
            choice.get("text") or delta.get("content") or "" for choice, delta in zip(choices, deltas, strict=True)
        )
    got.note(got.text == told.text, f"the text is {got.text!r}, not {told.text!r}")
    if "messages" in asked:
        roles = [delta["role"] for delta in deltas if delta.get("role")]
        got.note(roles == ["assistant"], f"the roles are {roles}")
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    got.note(reasons == [told.reason], f"the reasons are {reasons}, not {told.reason}")
    if not asked.get("return_token_ids"):
        leaked = any(choice.get("token_ids") or choice.get("prompt_token_ids") for choice in choices)
        got.note(not leaked, "token ids that nobody asked for")


def _examine_heads(got: Got, chunks: list[dict[str, Any]], asked: dict[str, Any]) -> None:
    for name in ("id", "created", "model", "object"):
        values = {chunk.get(name) for chunk in chunks}
        got.note(len(values) == 1, f"the chunks have {len(values)} values of `{name}`: {values}")
    if not asked.get("return_token_ids"):
        got.note(not any(chunk.get("prompt_token_ids") for chunk in chunks), "prompt ids that nobody asked for")
    ends = [chunk for chunk in chunks if any(choice.get("finish_reason") for choice in chunk["choices"])]
    for chunk in chunks:
        marked = chunk.get("stoker")
        got.note(marked is None or chunk in ends or "usage" in chunk, "a frame in the middle tells of rescues")
    if ends:
        got.rescued = (ends[-1].get("stoker") or {}).get("rescued", [])


def _examine_usage(
    got: Got, chunks: list[dict[str, Any]], asked: dict[str, Any], told: exact.Told, usage_told: bool
) -> None:
    found = [chunk for chunk in chunks if chunk.get("usage")]
    wanted = (asked.get("stream_options") or {}).get("include_usage")
    if not wanted:
        got.note(not found, "a usage that nobody asked for")
    elif usage_told:
        usages = [chunk["usage"] for chunk in found]
        got.note(usages == [told.usage], f"the usages are {usages}, not {told.usage}")
        if found and got.rescued:
            got.note((found[-1].get("stoker") or {}).get("rescued") == got.rescued, "the usage frame hides the rescue")
