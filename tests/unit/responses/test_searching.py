"""The search of several vector stores, where parts of it are away."""

from types import SimpleNamespace
from typing import Any

import pytest

from api.responses.searching import DocumentSearch, Found
from api.responses.tools import FileSearch
from core.dependency import DependencyUnavailable
from core.principal import Principal, Role
from core.reach import ANYWHERE, HOME
from retrieval.called import CollectionId
from retrieval.errors import CollectionNotFound
from retrieval.query import Query
from retrieval.search import Passage, SearchResult

ASKER = Principal("t", "key_1", Role.MEMBER)


def passage(document_id: str, score: float, file_id: str | None = None) -> Passage:
    return Passage(document_id, 1, "rev_1", f"{document_id}.md", "Words.", 0, 6, None, score, {"a": 1}, file_id)


class Stores:
    """Three collections, of which some can't be searched."""

    def __init__(self, **found: SearchResult | Exception) -> None:
        self.found = found
        self.asked: list[Query] = []

    async def get(self, principal: Principal, collection_id: str) -> Any:
        assert principal is ASKER
        assert isinstance(collection_id, CollectionId)
        if collection_id not in self.found:
            raise CollectionNotFound(collection_id)
        return SimpleNamespace(
            id=collection_id, name=f"name of {collection_id}", reach=HOME if collection_id == "inner" else ANYWHERE
        )

    async def search(self, principal: Principal, query: Query) -> SearchResult:
        assert principal is ASKER
        self.asked.append(query)
        found = self.found[str(query.collection)]
        if isinstance(found, Exception):
            raise found
        return found


async def searched(stores: Stores, *names: str, most: int = 20, **more: Any) -> Found:
    retrieval: Any = SimpleNamespace(collections=stores, searcher=stores)
    return await DocumentSearch(retrieval).search(ASKER, FileSearch(names, most, **more), "When?")


def result(*passages: Passage, **more: Any) -> SearchResult:
    return SearchResult(list(passages), 1, **more)


AWAY = DependencyUnavailable("milvus", "milvus is away")


async def test_the_best_of_all_stores_are_taken() -> None:
    stores = Stores(one=result(passage("d1", 0.9, "file of d1"), passage("d2", 0.2)), two=result(passage("d3", 0.5)))
    found = await searched(stores, "one", "two", most=2)
    assert [one.document_id for one in found.passages] == ["d1", "d3"]
    assert found.collections == {"d1": "one", "d3": "two"}
    shown = found.item()["results"]
    assert [(one["file_id"], one["score"], one["attributes"]) for one in shown] == [
        ("file of d1", 0.9, {"a": 1}),
        ("d3", 0.5, {"a": 1}),
    ]
    assert (found.reach.local_only, found.degraded_reason, found.item()["status"]) == (False, None, "completed")


async def test_where_one_store_or_leg_is_away_the_others_answer_and_it_is_said() -> None:
    lame = result(passage("d2", 0.4), degraded=True, degraded_reason="vectors are away")
    found = await searched(Stores(one=AWAY, two=lame), "one", "two")
    assert [one.document_id for one in found.passages] == ["d2"]
    assert found.degraded_reason == "milvus is away; vectors are away"
    assert found.item()["status"] == "completed"


async def test_where_all_are_away_nothing_is_found_and_the_search_has_failed() -> None:
    found = await searched(Stores(one=AWAY, two=AWAY), "one", "two")
    assert (found.passages, found.degraded_reason) == ((), "milvus is away")
    assert found.item()["status"] == "failed"


async def test_what_is_found_in_one_local_store_keeps_all_in_the_house() -> None:
    assert (await searched(Stores(one=result(), inner=result()), "one", "inner")).reach.local_only


async def test_a_store_that_is_not_there_is_no_outage() -> None:
    with pytest.raises(CollectionNotFound):
        await searched(Stores(one=result()), "one", "none")


async def test_what_the_tool_says_is_what_is_searched() -> None:
    stores = Stores(one=result())
    tree = {"type": "eq", "key": "a", "value": 1}
    await searched(stores, "one", most=7, filters=tree, score_threshold=0.3, dense_weight=0.25)
    (query,) = stores.asked
    assert (query.top_k, query.filter, query.score_threshold) == (7, tree, 0.3)
    assert query.way == {"mode": "hybrid", "fusion": {"dense_weight": 0.25}}
