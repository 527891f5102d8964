"""What a request to /v1/responses asks for, read from its body."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from api.conversations.items import Item, read_items
from api.conversations.metadata import read_metadata
from api.errors import NotSupportedYet, RequestInvalid
from api.fields import PASSED_ON_FIELDS, RESPONSE_FIELDS, model_of, own_fields, sort_fields
from api.responses.tools import FileSearch, read_tools

Truncation = Literal["auto", "disabled"]

LOGPROBS = "message.output_text.logprobs"
RESULTS = "file_search_call.results"
_MAX_ITEMS = 2000
_FORMATS = "text, json_object or json_schema"
_OF_REASONING = ("context", "effort", "generate_summary", "mode", "summary")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        input: its items, each with an id of ours.
        previous_id, conversation_id: what it goes on from; one of them at most.
        chat: the fields of a chat that say the same, without its messages.
        search: documents to be searched first.
        repeated: the fields that the response repeats.
    """

    model: str
    stream: bool
    input: tuple[Item, ...]
    instructions: str | None
    previous_id: str | None
    conversation_id: str | None
    store: bool
    truncation: Truncation
    include: tuple[str, ...]
    chat: dict[str, Any]
    search: FileSearch | None
    repeated: dict[str, Any]


def read(raw: Mapping[str, Any]) -> tuple[Asked, list[str]]:
    """Read a body. Returns: what it asks for, and the names of the fields that are dropped.

    Raises: RequestInvalid; NotSupportedYet: what this version cannot honour.
    """
    body, ignored = sort_fields(raw, RESPONSE_FIELDS)
    own_fields(raw, frozenset(), "/v1/responses")
    model = model_of(body)
    if _flag(body, "background", False):
        raise NotSupportedYet("background is not supported yet: stream the answer, or send a batch", "background")
    if body.get("prompt") is not None:
        raise NotSupportedYet("prompt is not supported: send its text as instructions or input", "prompt")
    previous_id, conversation_id = _text(body, "previous_response_id"), _conversation(body.get("conversation"))
    if previous_id is not None and conversation_id is not None:
        raise RequestInvalid("previous_response_id and conversation exclude each other", "previous_response_id")
    include = _include(body.get("include"))
    tools = read_tools(body.get("tools"), body.get("tool_choice"))
    text, shape = _format(body.get("text"))
    reasoning, effort = _reasoning(body.get("reasoning"))
    top_logprobs = _whole(body, "top_logprobs", 0, 20)
    bound = _whole(body, "max_output_tokens", 1)
    chat = {name: value for name, value in body.items() if name in PASSED_ON_FIELDS and value is not None}
    chat |= tools.chat | shape | effort
    if bound is not None:
        chat["max_tokens"] = bound
    if top_logprobs or LOGPROBS in include:
        chat |= {"logprobs": True, "top_logprobs": top_logprobs or 0}
    _check_sendable(chat)
    parallel = _flag(body, "parallel_tool_calls", True)
    if tools.chat and not parallel:
        chat["parallel_tool_calls"] = False
    asked = Asked(
        model=model,
        stream=_flag(body, "stream", False),
        input=tuple(_input(body.get("input"))),
        instructions=_text(body, "instructions"),
        previous_id=previous_id,
        conversation_id=conversation_id,
        store=_flag(body, "store", True),
        truncation=_truncation(body.get("truncation")),
        include=include,
        chat=chat,
        search=tools.search,
        repeated={
            "background": False,
            "instructions": body.get("instructions"),
            "max_output_tokens": bound,
            "max_tool_calls": _whole(body, "max_tool_calls", 1),
            "metadata": read_metadata(body.get("metadata")),
            "parallel_tool_calls": parallel,
            "previous_response_id": previous_id,
            "conversation": None if conversation_id is None else {"id": conversation_id},
            "prompt_cache_key": _text(body, "prompt_cache_key"),
            "reasoning": reasoning,
            "safety_identifier": _text(body, "safety_identifier"),
            "temperature": _number(body, "temperature", 2),
            "text": text,
            "tool_choice": tools.shown_choice,
            "tools": tools.shown,
            "top_logprobs": top_logprobs or 0,
            "top_p": _number(body, "top_p", 1),
            "truncation": _truncation(body.get("truncation")),
            "user": _text(body, "user"),
        },
    )
    return asked, ignored


def _check_sendable(chat: dict[str, Any]) -> None:
    try:
        orjson.dumps(chat)
    except TypeError:
        raise RequestInvalid("tools or text.format are nested too deep", "tools") from None


def _input(raw: object) -> list[Item]:
    if raw is None:
        return []
    return read_items([{"role": "user", "content": raw}] if isinstance(raw, str) else raw, "input", _MAX_ITEMS)


def _conversation(raw: object) -> str | None:
    found = raw.get("id") if isinstance(raw, dict) else raw
    if raw is not None and (not isinstance(found, str) or not found):
        raise RequestInvalid('conversation must be an id, or {"id": ID}', "conversation")
    return found if isinstance(found, str) else None


def _include(raw: object) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(one, str) for one in raw):
        raise RequestInvalid("include must be a list of names", "include")
    return tuple(raw)


def _truncation(raw: object) -> Truncation:
    if raw not in (None, "auto", "disabled"):
        raise RequestInvalid("truncation is auto or disabled", "truncation")
    return "auto" if raw == "auto" else "disabled"


def _format(raw: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """`text` as the response repeats it, and the fields of a chat that say the same."""
    raw = {} if raw is None else raw
    shape = raw.get("format") or {"type": "text"} if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(shape, dict):
        raise RequestInvalid(f"text.format must be an object of type {_FORMATS}", "text.format")
    verbosity = raw.get("verbosity")
    if verbosity not in (None, "low", "medium", "high"):
        raise RequestInvalid("text.verbosity is low, medium or high", "text.verbosity")
    chat: dict[str, Any] = {} if verbosity is None else {"verbosity": verbosity}
    kind = shape.get("type")
    if kind == "json_object":
        chat["response_format"] = {"type": "json_object"}
    elif kind == "json_schema":
        if not isinstance(shape.get("name"), str) or not isinstance(shape.get("schema"), dict):
            raise RequestInvalid("text.format of type json_schema has a name and a schema", "text.format")
        inner = {
            name: shape[name] for name in ("name", "schema", "strict", "description") if shape.get(name) is not None
        }
        chat["response_format"] = {"type": "json_schema", "json_schema": inner}
    elif kind != "text":
        raise RequestInvalid(f"text.format.type is {_FORMATS}", "text.format.type")
    return {"format": shape, **({} if verbosity is None else {"verbosity": verbosity})}, chat


def _reasoning(raw: object) -> tuple[dict[str, Any], dict[str, Any]]:
    raw = {} if raw is None else raw
    if not isinstance(raw, dict) or raw.get("effort") not in (None, *_EFFORTS):
        raise RequestInvalid(f"reasoning.effort is one of {', '.join(_EFFORTS)}", "reasoning.effort")
    effort = raw.get("effort")
    return {**dict.fromkeys(_OF_REASONING), "effort": effort}, {} if effort is None else {"reasoning_effort": effort}


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestInvalid(f"{name} must be a text", name)
    return value


def _flag(body: Mapping[str, Any], name: str, usual: bool) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestInvalid(f"{name} must be true or false", name)
    return usual if value is None else value


def _whole(body: Mapping[str, Any], name: str, low: int, high: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < low or (high is not None and value > high):
        bounds = f"from {low}" if high is None else f"from {low} to {high}"
        raise RequestInvalid(f"{name} must be a whole number {bounds}", name)
    return value


def _number(body: Mapping[str, Any], name: str, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= high:
        raise RequestInvalid(f"{name} must be a number from 0 to {high:g}", name)
    return float(value)
