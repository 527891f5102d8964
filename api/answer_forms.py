"""What our own routes answer, as /openapi.json describes it; what is sent is made elsewhere, and held against this.

Answers may get more fields; those that are here stay.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from retrieval.status import JobStatus, Status

_REFS = "#/components/schemas/{model}"

Count = Annotated[int, Field(ge=0)]
Moment = Annotated[int, Field(description="Seconds since 1970.")]
Characters = Annotated[int, Field(ge=0, description="Characters of the document's content.")]
Milliseconds = Annotated[dict[str, float], Field(description="Milliseconds of each stage.")]


class ReindexFailure(TypedDict):
    """A document that could not be indexed anew."""

    document_id: str
    filename: str
    error: str


class ReindexProgress(TypedDict):
    """How far a reindex is; the old index answers meanwhile."""

    embedding_model: str
    documents: Count
    documents_done: Count
    failed: Count
    errors: list[ReindexFailure]


class Collection(TypedDict):
    """A named set of documents; `version` rises with each change of what is visible."""

    id: str
    object: Literal["collection"]
    name: str
    description: str
    metadata: dict[str, Any]
    chunking: dict[str, Any]
    language: str
    search: dict[str, Any]
    answers: dict[str, Any]
    prompt_version: Count
    placement: str
    version: Count
    documents: Count
    chunks: Count
    embedding_model: str
    local_only: bool
    providers: list[str] | None
    regions: list[str] | None
    title: str | None
    expires_at: int | None
    reindex: NotRequired[ReindexProgress]
    created_at: Moment


class Page(TypedDict):
    """A page of a list; `last_id` is the `after` of the next."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class CollectionPage(Page):
    """Collections."""

    data: list[Collection]


class CollectionDeleted(TypedDict):
    """No later request sees any of it."""

    id: str
    object: Literal["collection.deleted"]
    name: str
    deleted: Literal[True]


class Document(TypedDict):
    """A document in its latest state, the failed ones too."""

    id: str
    object: Literal["document"]
    filename: str
    media_type: str
    status: Status
    version: Annotated[int, Field(ge=0, description="That searches see; 0: none yet.")]
    sha256: str
    pages: Count
    characters: Count
    metadata: dict[str, Any]
    acl: dict[str, list[str]] | None
    error: str | None
    created_at: Moment
    expires_at: int | None
    file_id: str | None
    source: str | None
    chunking: dict[str, Any] | None


class DocumentWithJob(Document):
    """A document, with the job of its newest upload."""

    job_id: str | None


class DocumentPage(Page):
    """Documents."""

    data: list[Document]


class DocumentDeleted(TypedDict):
    """No later request sees any of it."""

    id: str
    object: Literal["document.deleted"]
    deleted: Literal[True]


class Accepted(TypedDict):
    """What was taken to be ingested."""

    job_id: str
    document_ids: list[str]
    status: Literal["queued"]


class JobDocument(TypedDict):
    """A document of a job; `error` says what to do."""

    id: str
    filename: str
    status: Status
    progress: Annotated[float, Field(ge=0, le=1)]
    error: str | None


class Listing(TypedDict):
    """A sitemap or a prefix of a bucket, whose documents come into the job."""

    kind: str
    address: str
    status: str
    found: Count
    left_out: Count
    error: str | None


class Job(TypedDict):
    """How far a job is."""

    id: str
    object: Literal["job"]
    status: JobStatus
    created_at: Moment
    documents: list[JobDocument]
    listing: NotRequired[Listing]


class Passage(TypedDict):
    """A place in a document: its content from `start` to `end` is `text`."""

    document_id: str
    document_version: int
    file_id: str | None
    filename: str
    text: str
    start: Characters
    end: Characters
    page: int | None
    score: float
    metadata: dict[str, Any]


class FacetValue(TypedDict):
    """One value of a key, and how many of the documents that were found have it."""

    value: Any
    documents: Count


class Facet(TypedDict):
    """The values of a key; `more`: how many others there are; `partial`: the newest alone were counted."""

    key: str
    values: list[FacetValue]
    documents: Count
    more: Count
    partial: bool


class Found(TypedDict):
    """What a search found, the best first."""

    object: Literal["list"]
    data: list[Passage]
    collection_version: Count
    degraded: bool
    timings_ms: Milliseconds
    facets: NotRequired[list[Facet]]
    suggestions: NotRequired[list[dict[str, Any]]]
    degraded_reason: NotRequired[str]


class Citation(TypedDict):
    """A place that an answer stands on: the document's content from `start` to `end` is `quote`."""

    document_id: str
    document_version: int
    filename: str
    page: int | None
    start: Characters
    end: Characters
    quote: str


class Span(TypedDict):
    """From `start` to `end`, in characters of the answer."""

    start: Count
    end: Count


class TokenUsage(TypedDict):
    """Tokens, as OpenAI counts them."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count


class QueryWork(TypedDict):
    """What was searched in place of the question."""

    question: str
    queries: list[str]
    hypothetical: str | None
    filter: dict[str, Any] | None
    failed: dict[str, str]


class Answer(TypedDict):
    """A whole answer; `unsupported` are sentences that no source supports."""

    id: str
    object: Literal["answer"]
    answer: str
    citations: list[Citation]
    degraded: bool
    model: str | None
    cache: str
    finish_reason: Literal["stop", "length"]
    usage: TokenUsage
    timings_ms: Milliseconds
    prompt_version: int | None
    query_work: NotRequired[QueryWork]
    stale_s: NotRequired[float]
    unsupported: NotRequired[list[Span]]
    conversation_id: NotRequired[str]
    degraded_reason: NotRequired[str]


_COLLECTION, _DOCUMENT = "/v1/collections/{name}", "/v1/collections/{name}/documents/{document_id}"
FORMS: dict[tuple[str, str], Any] = {
    ("get", "/v1/collections"): CollectionPage,
    ("post", "/v1/collections"): Collection,
    ("get", _COLLECTION): Collection,
    ("patch", _COLLECTION): Collection,
    ("delete", _COLLECTION): CollectionDeleted,
    ("post", f"{_COLLECTION}/reindex"): Collection,
    ("post", f"{_COLLECTION}/reindex/retry"): Collection,
    ("delete", f"{_COLLECTION}/reindex"): Collection,
    ("get", f"{_COLLECTION}/documents"): DocumentPage,
    ("get", _DOCUMENT): DocumentWithJob,
    ("patch", _DOCUMENT): Document,
    ("delete", _DOCUMENT): DocumentDeleted,
    ("post", "/v1/ingest"): Accepted,
    ("post", "/v1/ingest/batch"): Accepted,
    ("get", "/v1/jobs/{job_id}"): Job,
    ("post", "/v1/jobs/{job_id}/retry"): Job,
    ("delete", "/v1/jobs/{job_id}"): Job,
    ("post", "/v1/search"): Found,
    ("post", "/v1/query"): Answer,
}
"""By method and path: what the operation answers where it succeeds, as JSON."""

STREAMED = frozenset({("post", "/v1/query")})
"""Those that answer a stream of events, too, where they are asked to."""


def described() -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """Returns: JSON schemas by method and path, and the components that they refer to."""
    mode: Literal["serialization"] = "serialization"
    asked = [(key, mode, TypeAdapter(form)) for key, form in FORMS.items()]
    schemas, common = TypeAdapter.json_schemas(asked, ref_template=_REFS)
    return {key: schema for (key, _), schema in schemas.items()}, common.get("$defs", {})
