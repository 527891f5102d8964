"""Items as the messages of a chat."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from api.conversations.items import Item

Message = dict[str, Any]


def messages(instructions: str | None, items: Iterable[Item]) -> list[Message]:
    """The chat that says the same.

    Developers speak as the system, since not every model's template knows them; what the system says at the beginning
    becomes one message, since many templates know one at most. Calls of functions go with what was said before them.
    Reasoning and searches are left out: a chat has no place for them.
    """
    said: list[Message] = [] if not instructions else [{"role": "system", "content": instructions}]
    for item in items:
        match item["type"]:
            case "message":
                _say(said, item)
            case "function_call":
                _call(said, item)
            case "function_call_output":
                said.append({"role": "tool", "tool_call_id": item["call_id"], "content": _content(item["output"])})
    return said


def question_of(items: Sequence[Item]) -> Item | None:
    """What a user said last; None: no user has said anything."""
    return next((one for one in reversed(items) if one["type"] == "message" and one["role"] == "user"), None)


def _say(said: list[Message], item: Item) -> None:
    role = "system" if item["role"] == "developer" else item["role"]
    content = _content(item["content"])
    first = len(said) == 1 and said[0]["role"] == "system"
    if first and role == "system" and isinstance(content, str) and isinstance(said[0]["content"], str):
        said[0] = {"role": "system", "content": f"{said[0]['content']}\n\n{content}"}
        return
    said.append({"role": role, "content": content})


def _call(said: list[Message], item: Item) -> None:
    function = {"name": item["name"], "arguments": item["arguments"]}
    call = {"id": item["call_id"], "type": "function", "function": function}
    if said and said[-1]["role"] == "assistant":
        last = said[-1]
        said[-1] = {**last, "tool_calls": [*last.get("tool_calls", ()), call]}
        return
    said.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _content(parts: str | Sequence[Mapping[str, Any]]) -> str | list[dict[str, Any]]:
    """A text where there is nothing else, since that is what every model takes."""
    if isinstance(parts, str):
        return parts
    if all(part["type"] != "input_image" for part in parts):
        return "\n".join(part.get("text", part.get("refusal", "")) for part in parts)
    return [_part(part) for part in parts]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "input_image":
        return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
    return {"type": "text", "text": part.get("text", "")}
