"""Messages of a chat as the items that conversations keep, and a model's answer as a message again."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from api.answers.deltas import no_chunk
from api.conversations.items import Item, assistant_message, read_item
from api.errors import RequestInvalid
from router.events import DONE, data_of, frame_end


def items_of(messages: Sequence[Any]) -> list[Item]:
    """What is said in a request, as it is kept. What the system says holds for its request alone, and is not kept.

    Raises: RequestInvalid: a conversation has no place for it; the message names it.
    """
    return [item for at, message in enumerate(messages) for item in _items(message, f"messages[{at}]")]


def is_order(message: Any) -> bool:
    """Whether the system speaks."""
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def answer_items(message: Mapping[str, Any]) -> list[Item]:
    """A model's answer; an empty one, too, is the answer to its question."""
    return _items(message, "the answer") or [assistant_message("")]


def message_of_body(body: bytes) -> dict[str, Any]:
    """The first choice of an answer in one piece. Raises: StreamBroken: it is no chat's."""
    try:
        message = orjson.loads(body)["choices"][0]["message"]
        return _message(message.get("content"), message.get("refusal"), message.get("tool_calls") or ())
    except (orjson.JSONDecodeError, LookupError, AttributeError, TypeError) as error:
        raise no_chunk() from error


def message_of_frames(stream: bytes) -> dict[str, Any]:
    """What the chunks of a whole stream say, its only choice. Raises: StreamBroken: they are no chunks of a chat."""
    said: dict[str, list[str]] = {"content": [], "refusal": []}
    calls: dict[int, dict[str, Any]] = {}
    try:
        for chunk in _chunks(stream):
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                for name, pieces in said.items():
                    pieces.append(delta.get(name) or "")
                for piece in delta.get("tool_calls") or ():
                    _add_call(calls.setdefault(piece.get("index", 0), {"id": "", "name": "", "arguments": ""}), piece)
    except (orjson.JSONDecodeError, AttributeError, TypeError) as error:
        raise no_chunk() from error
    made = [
        {"id": call["id"], "function": {"name": call["name"], "arguments": call["arguments"]}}
        for _, call in sorted(calls.items())
    ]
    return _message("".join(said["content"]), "".join(said["refusal"]), made)


def _items(message: Any, param: str) -> list[Item]:
    if not isinstance(message, dict):
        raise RequestInvalid(f"{param} must be an object with role and content", param)
    role, content = message.get("role"), message.get("content")
    if is_order(message):
        return []
    if role == "tool":
        call = {"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": content}
        return [read_item(call, param)]
    if role == "user":
        return [read_item({"role": "user", "content": _parts(content)}, param)]
    if role != "assistant":
        raise RequestInvalid(f"{param}.role must be system, developer, user, assistant or tool", f"{param}.role")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else _parts(content) or []
    if message.get("refusal"):
        parts = [*parts, {"type": "refusal", "refusal": message["refusal"]}]
    items = [read_item({"role": "assistant", "content": parts}, param)] if parts else []
    return [*items, *(_call(call, f"{param}.tool_calls[{at}]") for at, call in enumerate(_calls(message, param)))]


def _calls(message: Mapping[str, Any], param: str) -> Iterable[Any]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise RequestInvalid(f"{param}.tool_calls must be a list", f"{param}.tool_calls")
    return calls


def _call(call: Any, param: str) -> Item:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise RequestInvalid(f"{param} must be a call of a function", param)
    told = {"call_id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
    return read_item({"type": "function_call", **told}, param)


def _parts(content: Any) -> Any:
    """The parts of a message, a picture as items have it; what is none is left to whoever reads it."""
    if not isinstance(content, list):
        return content
    return [_image(part) if isinstance(part, dict) and part.get("type") == "image_url" else part for part in content]


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    image = part.get("image_url")
    image = image if isinstance(image, dict) else {"url": image}
    return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail")}


def _message(content: Any, refusal: Any, calls: Sequence[Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "refusal": refusal, "tool_calls": list(calls)}


def _add_call(call: dict[str, Any], piece: Mapping[str, Any]) -> None:
    function = piece.get("function") or {}
    call["id"] = piece.get("id") or call["id"]
    call["name"] += function.get("name") or ""
    call["arguments"] += function.get("arguments") or ""


def _chunks(stream: bytes) -> Iterable[Any]:
    at = 0
    while (end := frame_end(stream, at, at)) >= 0:
        data, at = data_of(stream[at:end]), end
        if data and data != DONE:
            yield orjson.loads(data)
