"""What clients may ask: the bodies of `/v1/embeddings` and `/v1/rerank`, read strictly."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from inference.settings import EmbeddingSettings
from inference.tokens import Cut

Inputs = list[str] | list[list[int]]

# What a text is for, in the words of this server and of others whose clients call it.
_FOR = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
}


class Refusal(Exception):
    """The request is the caller's to mend."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = None
    truncate: Cut = Cut.NONE
    user: str | None = None  # OpenAI's, for abuse reports; nothing here uses it

    @field_validator("truncate", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return Cut(value.upper()) if isinstance(value, str) and value.upper() in set(Cut) else value


class EmbeddingForm(_Body):
    """The body of `/v1/embeddings`: OpenAI's, with `input_type` and `truncate` as NVIDIA's and Cohere's have them.

    Attributes:
        input: one text, texts, the token ids of one text, or of several.
        input_type: what the texts are for: `query` or `document`, after `read`.
    """

    input: Any
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: str | None = None

    @field_validator("input_type")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in _FOR:
            raise ValueError("it is query or document")
        return value and _FOR[value]


class RerankForm(_Body):
    """The body of `/v1/rerank`, in the form of Cohere and Jina.

    Attributes:
        documents: texts, or objects that hold one as `text`; texts, after `read`.
        top_n: how many of the best are returned; None: all.
    """

    query: str
    documents: list[Any]
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False

    @field_validator("documents")
    @classmethod
    def _texts(cls, values: list[Any]) -> list[Any]:
        texts = [value.get("text") if isinstance(value, dict) else value for value in values]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError('each is a text, or an object {"text": ...}')
        return texts


Form = TypeVar("Form", EmbeddingForm, RerankForm)


def read(form: type[Form], body: bytes) -> Form:
    """Read a body. Raises: Refusal: it is no JSON, or not of this form."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"The body is not valid JSON: {error}.") from error
    try:
        return form.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        param = str(first["loc"][0]) if first["loc"] else None
        raise Refusal(400, f"`{param or 'body'}`: {first['msg']}.", param) from error


def inputs(value: Any, settings: EmbeddingSettings) -> Inputs:
    """The texts of an embedding request, or their token ids.

    Raises: Refusal: there are none, too many, too long ones, or something else.
    """
    if isinstance(value, str):
        texts: list[Any] = [value]
    elif isinstance(value, list) and value and all(_is_id(one) for one in value):
        texts = [value]
    elif isinstance(value, list):
        texts = value
    else:
        raise Refusal(400, "`input` must be a text, a list of texts, or token ids.", "input")
    check_texts(texts, "input", settings)
    if all(isinstance(text, str) for text in texts):
        return texts
    if all(isinstance(text, list) and all(_is_id(one) for one in text) for text in texts):
        return texts
    raise Refusal(400, "`input` must hold texts alone, or lists of token ids (whole numbers from 0) alone.", "input")


def check_texts(texts: Sequence[Any], param: str, settings: EmbeddingSettings) -> None:
    """Raises: Refusal: there are none, an empty one, too many, or too long ones."""
    if not texts or not all(text or text == 0 for text in texts):
        raise Refusal(400, f"`{param}` must hold at least one text, and no empty one.", param)
    if len(texts) > settings.max_inputs:
        raise Refusal(400, f"`{param}` holds {len(texts)} texts; at most {settings.max_inputs} are taken.", param)
    longest = max((len(text) for text in texts if isinstance(text, str | list)), default=0)
    if longest > settings.max_input_characters:
        limit = settings.max_input_characters
        raise Refusal(400, f"A text has {longest} characters; at most {limit} are taken: cut it.", param)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
