"""A search as a request's body asks it, and what was found as clients see it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.facets import Facet
from retrieval.query import Query
from retrieval.search import Passage, SearchResult


class WayRequest(BaseModel):
    """How to search; what is left out is as the collection has it."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["hybrid", "dense", "lexical"] | None = None
    fusion: dict[str, Any] | None = None
    rerank: bool | None = None
    mmr_lambda: float | None = Field(None, ge=0, le=1)
    per_document: int | None = Field(None, ge=1, le=100)

    def way(self) -> dict[str, Any]:
        """As `Way.read` takes it."""
        asked = {name: getattr(self, name) for name in WayRequest.model_fields}
        return {name: value for name, value in asked.items() if value is not None}


class SearchRequest(WayRequest):
    """A search in one collection."""

    query: str = Field(min_length=1, max_length=8000)
    collection: str = Field(min_length=1, max_length=200)
    top_k: int = Field(10, ge=1, le=100)
    filter: dict[str, Any] | None = None
    score_threshold: float | None = Field(None, allow_inf_nan=False)
    rerank_top_n: int | None = Field(None, ge=1, le=100)
    facets: list[str] = Field(default_factory=list)
    fuzzy: bool = False
    use_cache: bool = True

    def asked(self) -> Query:
        """As a searcher takes it."""
        return Query(
            self.collection,
            self.query,
            self.top_k,
            filter=self.filter,
            score_threshold=self.score_threshold,
            way=self.way(),
            rerank_top_n=self.rerank_top_n,
            facets=tuple(self.facets),
            fuzzy=self.fuzzy,
            anew=not self.use_cache,
        )


def shown(result: SearchResult) -> dict[str, Any]:
    """What was found as clients see it."""
    answer: dict[str, Any] = {
        "object": "list",
        "data": [shown_passage(passage) for passage in result.passages],
        "collection_version": result.collection_version,
        "degraded": result.degraded,
        "timings_ms": result.timings_ms,
    }
    if result.facets:
        answer["facets"] = [_shown_facet(facet) for facet in result.facets]
    if suggestions := _suggestions(result):
        answer["suggestions"] = suggestions
    if result.degraded:
        answer["degraded_reason"] = result.degraded_reason
    return answer


def _shown_facet(facet: Facet) -> dict[str, Any]:
    return {
        "key": facet.key,
        "values": [{"value": one.value, "documents": one.documents} for one in facet.values],
        "documents": facet.documents,
        "more": facet.more,
        "partial": facet.partial,
    }


def _suggestions(result: SearchResult) -> list[dict[str, Any]]:
    spelt = [{"type": "spelling", "term": one.term, "instead": list(one.instead)} for one in result.corrections]
    named = [{"type": "filter", "filter": one.filter, "documents": one.documents} for one in result.named]
    return [*spelt, *named]


def shown_passage(passage: Passage) -> dict[str, Any]:
    """A passage as clients see it; `text` equals the document's content from `start` to `end`."""
    return {
        "document_id": passage.document_id,
        "document_version": passage.document_version,
        "file_id": passage.file_id,
        "filename": passage.filename,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "page": passage.page,
        "score": passage.score,
        "metadata": passage.metadata,
    }
