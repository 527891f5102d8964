"""What the gateway answers. Servers may add fields; those that are here stay."""

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Collection(TypedDict):
    """A named set of documents; `version` rises with each change of what is visible."""

    id: str
    name: str
    description: str
    metadata: dict[str, Any]
    version: int
    documents: int
    chunks: int
    embedding_model: str
    language: str
    local_only: bool
    created_at: int


class Accepted(TypedDict):
    """What was taken to be ingested."""

    job_id: str
    document_ids: list[str]
    status: str


class JobDocument(TypedDict):
    """A document of a job; `progress` is 0 to 1, `error` says what to do."""

    id: str
    filename: str
    status: str
    progress: float
    error: str | None


class Job(TypedDict):
    """How far a job is."""

    id: str
    status: JobStatus
    documents: list[JobDocument]


class Passage(TypedDict):
    """A place in a document: its content from `start` to `end`, in characters, is `text`."""

    document_id: str
    document_version: int
    filename: str
    text: str
    start: int
    end: int
    page: int | None
    score: float
    metadata: dict[str, Any]


class Found(TypedDict):
    """What a search found, the best first."""

    data: list[Passage]
    collection_version: int
    degraded: bool
    timings_ms: dict[str, float]
    facets: NotRequired[list[dict[str, Any]]]
    suggestions: NotRequired[list[dict[str, Any]]]


class Citation(TypedDict):
    """A place that an answer stands on: the document's content from `start` to `end` is `quote`."""

    document_id: str
    document_version: int
    filename: str
    page: int | None
    start: int
    end: int
    quote: str


class Answer(TypedDict):
    """A whole answer."""

    id: str
    answer: str
    citations: list[Citation]
    degraded: bool
    model: str | None
    cache: str
    finish_reason: str
    usage: dict[str, Any]
    timings_ms: dict[str, float]
    degraded_reason: NotRequired[str]
    conversation_id: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages that an answer is made from."""

    passages: list[Passage]


@dataclass(frozen=True, slots=True)
class Token:
    """More of the answer's text; `supported` is False where no source supports it and `grounding` is `mark`."""

    text: str
    supported: bool = True


@dataclass(frozen=True, slots=True)
class Cited:
    """What the text before it stands on."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class Done:
    """The end."""

    answer: Answer


Event = Retrieved | Token | Cited | Done
