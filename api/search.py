"""POST /v1/search: passages, without an answer."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.errors import NotSupportedYet
from api.identity import Caller
from api.state import State
from retrieval.search import Passage, Query

routes = APIRouter(prefix="/v1/search", tags=["Documents"])


class SearchRequest(BaseModel):
    """A search in one collection."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=8000)
    collection: str = Field(min_length=1, max_length=200)
    top_k: int = Field(10, ge=1, le=100)
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    filter: dict[str, Any] | None = None
    score_threshold: float | None = None
    rerank: bool | None = None
    rerank_top_n: int | None = None
    facets: list[str] | None = None
    fuzzy: bool | None = None

    def refuse_what_is_not_done(self) -> None:
        """Raises: NotSupportedYet."""
        for field in ("rerank", "rerank_top_n", "facets", "fuzzy"):
            if getattr(self, field):
                raise NotSupportedYet(f"{field} is not supported yet; leave it out", field)


@routes.post("")
async def search(asked: SearchRequest, state: State, principal: Caller) -> dict[str, Any]:
    """Find the passages nearest to a question, best first."""
    asked.refuse_what_is_not_done()
    result = await state.retrieval.searcher.search(
        principal,
        Query(asked.collection, asked.query, asked.top_k, asked.mode, asked.filter, asked.score_threshold),
    )
    shown: dict[str, Any] = {
        "object": "list",
        "data": [shown_passage(passage) for passage in result.passages],
        "collection_version": result.collection_version,
        "degraded": result.degraded,
        "timings_ms": result.timings_ms,
    }
    if result.degraded:
        shown["degraded_reason"] = result.degraded_reason
    return shown


def shown_passage(passage: Passage) -> dict[str, Any]:
    """A passage as clients see it; `text` equals the document's content from `start` to `end`."""
    return {
        "document_id": passage.document_id,
        "document_version": passage.document_version,
        "filename": passage.filename,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "page": passage.page,
        "score": passage.score,
        "metadata": passage.metadata,
    }
