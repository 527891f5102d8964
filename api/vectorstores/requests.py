"""What clients say of vector stores, in OpenAI's form, and what is taken of it."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.errors import NotSupportedYet, RequestInvalid
from api.vectorstores.attaching import Attachment
from retrieval.called import CollectionId
from retrieval.cutting import check_own
from retrieval.life import FOREVER, Life
from retrieval.query import MAX_WORDINGS, Query

MOST_FILES = 2000
_MOST_KEYS = 16
_LONGEST_KEY = 64
_LONGEST_VALUE = 512


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExpiresAfter(_Request):
    """How long a store lasts since it was last used."""

    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365, strict=True)

    def life(self) -> Life:
        return Life(self.days)


class NewStore(_Request):
    """A vector store to be made."""

    name: str | None = None
    description: str | None = Field(None, max_length=10_000)
    file_ids: list[str] = Field(default_factory=list, max_length=MOST_FILES)
    metadata: dict[str, Any] | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: dict[str, Any] | None = None

    def attachments(self) -> list[Attachment]:
        return _attachments(self.file_ids, {}, read_chunking(self.chunking_strategy))


class StoreChange(_Request):
    """What is to change of a store; `expires_after: null` lets it stay for ever."""

    name: str | None = None
    metadata: dict[str, Any] | None = None
    expires_after: ExpiresAfter | None = None

    def life(self) -> Life | None:
        """None: it stays as it is."""
        if "expires_after" not in self.model_fields_set:
            return None
        return FOREVER if self.expires_after is None else self.expires_after.life()


class NewStoreFile(_Request):
    """A file to be attached."""

    file_id: str
    attributes: dict[str, Any] | None = None
    chunking_strategy: dict[str, Any] | None = None

    def attachment(self, where: str = "") -> Attachment:
        attributes = check_attributes(self.attributes, f"{where}attributes")
        return Attachment(self.file_id, attributes, read_chunking(self.chunking_strategy, f"{where}chunking_strategy"))


class StoreFileChange(_Request):
    """Attributes that take the place of what there was."""

    attributes: dict[str, Any] | None


class NewBatch(_Request):
    """Files to be attached together: all alike, or each with its own attributes and chunking."""

    file_ids: list[str] | None = Field(None, min_length=1, max_length=MOST_FILES)
    files: list[NewStoreFile] | None = Field(None, min_length=1, max_length=MOST_FILES)
    attributes: dict[str, Any] | None = None
    chunking_strategy: dict[str, Any] | None = None

    def attachments(self) -> list[Attachment]:
        if (self.file_ids is None) == (self.files is None):
            raise RequestInvalid("name the files in file_ids, or in files, each with its own attributes", "file_ids")
        if self.file_ids is not None:
            attributes = check_attributes(self.attributes, "attributes")
            return _attachments(self.file_ids, attributes, read_chunking(self.chunking_strategy))
        each = [file.attachment(f"files.{number}.") for number, file in enumerate(self.files or [])]
        return _once(each, "files")


class RankingOptions(_Request):
    """How the results are ranked."""

    ranker: Literal["none", "auto", "default-2024-11-15"] = "auto"
    score_threshold: float | None = Field(None, ge=0, le=1)


class StoreSearch(_Request):
    """A search in one store."""

    query: str | list[str]
    filters: dict[str, Any] | None = None
    max_num_results: int = Field(10, ge=1, le=50)
    ranking_options: RankingOptions = Field(default_factory=RankingOptions)
    rewrite_query: bool = False

    @property
    def texts(self) -> list[str]:
        return [self.query] if isinstance(self.query, str) else self.query

    def as_query(self, store_id: str) -> Query:
        """The search, for one result more than is asked for, which says whether there are more.

        `auto` searches as the collection is searched; the named ranker has a model read question and passage together;
        `none` has it not.
        """
        if self.rewrite_query:
            raise NotSupportedYet(
                "rewrite_query is not supported here: a question without a conversation is searched as it stands; "
                "leave it out, or ask POST /v1/query with messages and query_work.rewrite",
                "rewrite_query",
            )
        if not 1 <= len(self.texts) <= 1 + MAX_WORDINGS:
            raise RequestInvalid(f"query is a text, or 1 to {1 + MAX_WORDINGS} of them", "query")
        for text in self.texts:
            check_text(text, "query")
        ranker = self.ranking_options.ranker
        return Query(
            CollectionId(store_id),
            self.texts[0],
            self.max_num_results + 1,
            filter=self.filters,
            score_threshold=self.ranking_options.score_threshold,
            way={} if ranker == "auto" else {"rerank": ranker != "none"},
            wordings=tuple(self.texts[1:]),
        )


def check_attributes(raw: dict[str, Any] | None, param: str) -> dict[str, Any]:
    """Take a file's attributes: OpenAI's bounds. Raises: RequestInvalid."""
    _check_pairs(raw or {}, param, numbers=True)
    return dict(raw or {})


def check_store_metadata(raw: dict[str, Any] | None) -> dict[str, Any]:
    """Take a store's metadata, which is texts alone. Raises: RequestInvalid."""
    _check_pairs(raw or {}, "metadata", numbers=False)
    return dict(raw or {})


def check_text(text: str, param: str) -> str:
    """Take a text that a database can keep. Raises: RequestInvalid."""
    if any(char == "\0" or 0xD800 <= ord(char) < 0xE000 for char in text):
        raise RequestInvalid(f"{param} holds broken Unicode or a null character; leave it out", param)
    return text


def read_chunking(raw: dict[str, Any] | None, param: str = "chunking_strategy") -> dict[str, int] | None:
    """Take OpenAI's strategy; None: `auto`, which is as the collection has it. Raises: RequestInvalid, InputInvalid."""
    if raw is None or raw == {"type": "auto"}:
        return None
    if raw.keys() != {"type", "static"} or raw["type"] != "static":
        raise RequestInvalid(f'{param} is {{"type": "auto"}}, or {{"type": "static", "static": {{...}}}}', param)
    return check_own(raw["static"], f"{param}.static")


def _check_pairs(raw: dict[str, Any], param: str, *, numbers: bool) -> None:
    if len(raw) > _MOST_KEYS:
        raise RequestInvalid(f"{param} holds at most {_MOST_KEYS} pairs", param)
    for key, value in raw.items():
        if not 1 <= len(check_text(key, param)) <= _LONGEST_KEY:
            raise RequestInvalid(f"a key of {param} has 1 to {_LONGEST_KEY} characters", param)
        if isinstance(value, str):
            fits = len(check_text(value, param)) <= _LONGEST_VALUE
        else:
            fits = numbers and (isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)))
        if not fits:
            kinds = f"a text of at most {_LONGEST_VALUE} characters" + (", a number, true or false" if numbers else "")
            raise RequestInvalid(f"a value of {param} is {kinds}", param)


def _attachments(file_ids: list[str], attributes: dict[str, Any], chunking: dict[str, int] | None) -> list[Attachment]:
    return _once([Attachment(each, attributes, chunking) for each in file_ids], "file_ids")


def _once(attachments: list[Attachment], param: str) -> list[Attachment]:
    if len({one.file_id for one in attachments}) < len(attachments):
        raise RequestInvalid(f"{param} names a file twice; a file is in a store once", param)
    return attachments
