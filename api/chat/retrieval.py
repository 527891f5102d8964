"""The field `retrieval` of a chat: where and how its question is searched, and what does not go with it."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.answers.question import Grounding
from api.errors import RequestInvalid
from retrieval.query import Mode


class RetrievalRequest(BaseModel):
    """What of `/v1/query` a chat can ask for; what is left out is as it is there."""

    model_config = ConfigDict(extra="forbid", strict=True)

    collection: str = Field(min_length=1, max_length=200)
    top_k: int = Field(10, ge=1, le=100)
    rerank_top_n: int | None = Field(None, ge=1, le=100)
    rerank: bool | None = None
    filter: dict[str, Any] | None = None
    mode: Mode | None = None
    grounding: Grounding | None = Field(None, strict=False)


def read_retrieval(raw: object) -> RetrievalRequest:
    """Raises: RequestInvalid: what is at fault, by name."""
    if not isinstance(raw, dict):
        raise RequestInvalid('retrieval must be an object such as {"collection": "demo"}', "retrieval")
    try:
        return RetrievalRequest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(["retrieval", *map(str, first["loc"])])
        raise RequestInvalid(f"{param}: {first['msg']}", param) from None


def refuse_what_does_not_go(body: Mapping[str, Any]) -> None:
    """Raises: RequestInvalid: a field that asks for another answer than text from documents."""
    for name, harmless in _HARMLESS.items():
        value = body.get(name)
        if value is not None and not harmless(value):
            raise RequestInvalid(
                f"{name} does not go together with retrieval: answers from documents are one checked text; "
                "leave one of the two out",
                name,
            )


def _empty(value: object) -> bool:
    return not value


def _never(_value: object) -> bool:
    return False


def _no_choice(value: object) -> bool:
    """Of tools, of which there are none."""
    return value in ("none", "auto") or value in ({"type": "none"}, {"type": "auto"})


# Fields that change what an answer is; the values beside null that change nothing.
_HARMLESS: Mapping[str, Callable[[Any], bool]] = {
    "tools": _empty,
    "functions": _empty,
    "tool_choice": _no_choice,
    "function_call": _no_choice,
    "n": lambda value: value == 1,
    "response_format": lambda value: value == {"type": "text"},
    "output_config": _empty,
    "structured_outputs": _empty,
    "thinking": lambda value: value == {"type": "disabled"},
    "logprobs": _empty,
    "top_logprobs": _empty,
    "prompt_logprobs": _never,
    "return_token_ids": _empty,
    "modalities": lambda value: value == ["text"],
    "audio": _never,
    "prediction": _never,
    "web_search_options": _never,
    "echo": _empty,
    "continue_final_message": _empty,
    "use_beam_search": _empty,
}
