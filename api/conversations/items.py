"""Items in OpenAI's form: which are taken, and how they are kept.

An item is a message, a call of a function, what it gave, a file search, or a model's reasoning. What can't be said to
a chat model is refused here, so that nothing is kept which no later request could use.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from api.errors import RequestInvalid
from core.ids import new_id

Item = dict[str, Any]

MAX_ITEM_BYTES = 256 * 1024
ROLES = ("user", "assistant", "system", "developer")

_MAX_NAME = 200
_TAKEN = "message, function_call, function_call_output, file_search_call, reasoning"
_DETAILS = ("auto", "low", "high", "original")
_STATES = ("in_progress", "completed", "incomplete")
# What OpenAI's form has and nothing here fills, by the type of an item or part.
_UNFILLED: Mapping[str, Mapping[str, None]] = {
    "message": {"phase": None},
    "function_call": {"async": None, "caller": None, "namespace": None},
    "input_text": {"prompt_cache_breakpoint": None},
}


def read_items(raw: object, param: str, most: int | None = None) -> list[Item]:
    """Take a list of items, each with a new id: ids of one conversation must differ, and clients send items twice.

    Args:
        most: how many there may be; None: any number.

    Raises: RequestInvalid: an item that can't be taken; the message names its place and what would do.
    """
    if not isinstance(raw, list):
        raise RequestInvalid(f"{param} must be a list of items", param)
    if most is not None and len(raw) > most:
        raise RequestInvalid(f"{param} holds at most {most} items; send the rest in another request", param)
    return [read_item(one, f"{param}[{at}]") for at, one in enumerate(raw)]


def read_item(raw: object, param: str) -> Item:
    """Take one item, as it is kept. Raises: RequestInvalid."""
    if not isinstance(raw, dict):
        raise RequestInvalid(f"{param} must be an object, such as a message", param)
    kind = raw.get("type", "message" if "role" in raw else None)
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        if kind == "item_reference" or (kind is None and set(raw) == {"id"}):
            raise RequestInvalid(f"{param} refers to an item; send the item itself, or previous_response_id", param)
        raise RequestInvalid(f"{param}.type must be one of {_TAKEN}, not {str(kind)[:60]!r}", f"{param}.type")
    item = read(raw, param)
    try:
        size = len(orjson.dumps(item))
    except TypeError:  # half of a surrogate pair, or a number beyond 64 bits
        raise RequestInvalid(f"{param} holds what is no text in UTF-8, or too large a number", param) from None
    if size > MAX_ITEM_BYTES:
        raise RequestInvalid(f"{param} takes {size:,} bytes of at most {MAX_ITEM_BYTES:,}; send it in parts", param)
    return item


def text_of(item: Mapping[str, Any]) -> str:
    """The text of a message; its parts stand below each other."""
    return "\n".join(part["text"] for part in item["content"] if "text" in part)


def user_message(text: str) -> Item:
    """What a user said, as an item."""
    return {**_message("user"), "content": [{"type": "input_text", "text": text}]}


def assistant_message(text: str, annotations: Sequence[Mapping[str, Any]] = ()) -> Item:
    """What a model said, as an item."""
    return {**_message("assistant"), "content": [_output_text(text, annotations)]}


def shown(item: Mapping[str, Any], include: Sequence[str] = ()) -> Item:
    """The item as clients see it: what a file search has found only where they ask for it."""
    kind = item["type"]
    whole = {**_UNFILLED.get(kind, {}), **item}
    if kind == "file_search_call" and "file_search_call.results" not in include:
        whole["results"] = None
    elif kind == "message":
        whole["content"] = [{**_UNFILLED.get(part["type"], {}), **part} for part in item["content"]]
    return whole


def _message(role: str, status: str = "completed") -> Item:
    return {"id": new_id("msg"), "type": "message", "role": role, "status": status}


def _output_text(text: str, annotations: Sequence[Mapping[str, Any]] = ()) -> Item:
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": []}


def _read_message(raw: Mapping[str, Any], param: str) -> Item:
    role = raw.get("role")
    if role not in ROLES:
        raise RequestInvalid(f"{param}.role must be one of {', '.join(ROLES)}", f"{param}.role")
    content = raw.get("content")
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    if not isinstance(content, list) or not content:
        raise RequestInvalid(f"{param}.content must be a text or a list of parts", f"{param}.content")
    parts = [_read_part(part, role, f"{param}.content[{at}]") for at, part in enumerate(content)]
    return {**_message(str(role), _status(raw)), "content": parts}


def _read_part(raw: object, role: object, param: str) -> Item:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(kind, str):
        raise RequestInvalid(f'{param} must be an object such as {{"type": "input_text", "text": "..."}}', param)
    if kind in ("input_text", "text", "output_text"):
        text = _text(raw, "text", param)
        return _output_text(text, _annotations(raw)) if role == "assistant" else {"type": "input_text", "text": text}
    if kind == "refusal" and role == "assistant":
        return {"type": "refusal", "refusal": _text(raw, "refusal", param)}
    if kind == "input_image" and role != "assistant":
        return _read_image(raw, param)
    if kind == "input_file":
        raise RequestInvalid(f"{param}: a file is read by the file_search tool; put it into a vector store", param)
    raise RequestInvalid(f"{param}.type {kind[:60]!r} is not taken; send input_text or input_image", f"{param}.type")


def _read_image(raw: Mapping[str, Any], param: str) -> Item:
    if not isinstance(raw.get("image_url"), str) or not raw["image_url"]:
        raise RequestInvalid(
            f"{param}.image_url must be an address or a data URL; an image by file_id is not taken", param
        )
    detail = raw.get("detail") or "auto"
    if detail not in _DETAILS:
        raise RequestInvalid(f"{param}.detail must be one of {', '.join(_DETAILS)}", f"{param}.detail")
    return {"type": "input_image", "image_url": raw["image_url"], "detail": detail, "file_id": None}


def _read_call(raw: Mapping[str, Any], param: str) -> Item:
    return {
        "id": new_id("fc"),
        "type": "function_call",
        "call_id": _name(raw, "call_id", param),
        "name": _name(raw, "name", param),
        "arguments": _text(raw, "arguments", param),
        "status": _status(raw),
    }


def _read_call_output(raw: Mapping[str, Any], param: str) -> Item:
    output = raw.get("output")
    if isinstance(output, list):
        output = [_read_part(part, "tool", f"{param}.output[{at}]") for at, part in enumerate(output)]
    elif not isinstance(output, str):
        raise RequestInvalid(f"{param}.output must be a text or a list of parts", f"{param}.output")
    return {
        "id": new_id("fco"),
        "type": "function_call_output",
        "call_id": _name(raw, "call_id", param),
        "output": output,
        "status": _status(raw),
    }


def _read_search(raw: Mapping[str, Any], param: str) -> Item:
    queries = raw.get("queries")
    if not isinstance(queries, list) or not all(isinstance(one, str) for one in queries):
        raise RequestInvalid(f"{param}.queries must be a list of texts", f"{param}.queries")
    results = raw.get("results")
    return {
        "id": new_id("fs"),
        "type": "file_search_call",
        "queries": queries,
        "status": "completed",
        "results": results if isinstance(results, list) else None,
    }


def _read_reasoning(raw: Mapping[str, Any], param: str) -> Item:
    parts: dict[str, list[Item]] = {}
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        given = raw.get(name) or []
        if not isinstance(given, list) or not all(isinstance(part, dict) for part in given):
            raise RequestInvalid(f"{param}.{name} must be a list of parts", f"{param}.{name}")
        parts[name] = [{"type": kind, "text": _text(part, "text", f"{param}.{name}")} for part in given]
    return {"id": new_id("rs"), "type": "reasoning", **parts, "encrypted_content": None, "status": _status(raw)}


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], Item]] = {
    "message": _read_message,
    "function_call": _read_call,
    "function_call_output": _read_call_output,
    "file_search_call": _read_search,
    "reasoning": _read_reasoning,
}


def _annotations(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = raw.get("annotations")
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _status(raw: Mapping[str, Any]) -> str:
    status = raw.get("status")
    return status if isinstance(status, str) and status in _STATES else "completed"


def _text(raw: Mapping[str, Any], name: str, param: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise RequestInvalid(f"{param}.{name} must be a text", f"{param}.{name}")
    return value


def _name(raw: Mapping[str, Any], name: str, param: str) -> str:
    value = _text(raw, name, param)
    if not 1 <= len(value) <= _MAX_NAME:
        raise RequestInvalid(f"{param}.{name} must have 1 to {_MAX_NAME} characters", f"{param}.{name}")
    return value
