"""The tool file_search: vector stores, which are collections, are searched before the model is asked."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from api.conversations.items import Item
from api.responses.tools import FileSearch
from core.dependency import DependencyError
from core.ids import new_id
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from monitoring.logs import logger
from retrieval.called import CollectionId
from retrieval.collections import Collection
from retrieval.open import Retrieval
from retrieval.query import Query
from retrieval.search import Passage, SearchResult

MAX_QUESTION = 8000  # characters of what a user said that are searched for
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found.

    Attributes:
        passages: the best first.
        collections: of each document.
        reach: where all of it may go.
        degraded_reason: why this is less than could have been found; None: it is all.
    """

    question: str
    passages: tuple[Passage, ...] = ()
    collections: Mapping[str, CollectionId] = field(default_factory=dict)
    reach: Reach = ANYWHERE
    degraded_reason: str | None = None
    failed: bool = False

    def item(self) -> Item:
        """As an item of the response."""
        return {
            "id": new_id("fs"),
            "type": "file_search_call",
            "queries": [self.question],
            "status": "failed" if self.failed else "completed",
            "results": [_shown(passage) for passage in self.passages],
        }


class DocumentSearch:
    """Searches several collections for one question."""

    def __init__(self, retrieval: Retrieval) -> None:
        self._retrieval = retrieval

    async def search(self, principal: Principal, wanted: FileSearch, question: str) -> Found:
        """Find the best passages of all stores together; where one can't be searched, the others answer.

        Raises: CollectionNotFound: a store is not there; FilterInvalid, InputInvalid: the search can't be made.
        """
        question = question[:MAX_QUESTION]
        stores = await asyncio.gather(
            *(self._retrieval.collections.get(principal, CollectionId(store)) for store in wanted.stores)
        )
        results = await asyncio.gather(*(self._one(principal, store, wanted, question) for store in stores))
        hits = [
            (passage, CollectionId(store.id))
            for store, result in zip(stores, results, strict=True)
            if isinstance(result, SearchResult)
            for passage in result.passages
        ]
        best = sorted(hits, key=lambda hit: -hit[0].score)[: wanted.most]
        reasons = [
            str(result) if isinstance(result, DependencyError) else result.degraded_reason or "" for result in results
        ]
        return Found(
            question,
            tuple(passage for passage, _ in best),
            {passage.document_id: collection for passage, collection in best},
            reduce(Reach.narrowed, (store.reach for store in stores), ANYWHERE),
            "; ".join(dict.fromkeys(reason for reason in reasons if reason)) or None,
            all(isinstance(result, DependencyError) for result in results),
        )

    async def _one(
        self, principal: Principal, store: Collection, wanted: FileSearch, question: str
    ) -> SearchResult | DependencyError:
        way = {} if wanted.dense_weight is None else {"mode": "hybrid", "fusion": {"dense_weight": wanted.dense_weight}}
        query = Query(
            CollectionId(store.id),
            question,
            wanted.most,
            filter=wanted.filters,
            score_threshold=wanted.score_threshold,
            way=way,
        )
        try:
            return await self._retrieval.searcher.search(principal, query)
        except DependencyError as error:
            _log.warning("a vector store could not be searched", store=store.id, reason=str(error))
            return error


def file_of(passage: Passage) -> str:
    """The file that a passage's document was made of, or the document itself where it came without one."""
    return passage.file_id or passage.document_id


def _shown(passage: Passage) -> dict[str, Any]:
    return {
        "attributes": passage.metadata,
        "file_id": file_of(passage),
        "filename": passage.filename,
        "score": passage.score,
        "text": passage.text,
        "document_id": passage.document_id,
        "document_version": passage.document_version,
        "start": passage.start,
        "end": passage.end,
    }
