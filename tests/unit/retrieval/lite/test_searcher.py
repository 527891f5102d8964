"""The fast searcher finds what Milvus Lite's own finds, and goes on where that one waits."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import milvus_lite.engine.collection as engine
import pytest
from milvus_lite.db import MilvusLite
from milvus_lite.engine.collection import Collection

from retrieval import expression
from retrieval.lite import install as installing
from retrieval.lite import rows as lite_rows
from tests.unit.retrieval.lite.conftest import DIMENSIONS, Hits, Pair, row

_EXPRESSIONS = [
    'owner == "ada"',
    'owner == "ada" and array_contains_any(acl, ["*", "user:1"])',
    'not (owner == "ada") or page > 2',
    'array_contains(acl, "group:a")',
    'array_contains_all(acl, ["user:1", "group:a"])',
    'page in [1, 3] and owner not in ["grace"]',
    'metadata["year"] == 2021',
    'metadata["year"] != 2021',
    'metadata["year"] >= 2021',
    'not (metadata["year"] == "2021")',
    '(owner == "ada" and metadata["year"] == 2020) or id in ["row1", "row2", "row3"]',
    'metadata["deep"]["key"] == 1',
    'metadata["flag"] == true',
    'metadata["none"] == 1 or page == 0',
    "page == 99",
]
_METADATA: Sequence[Any] = [
    {},
    {"year": 2021},
    {"year": 2021.0},
    {"year": "2021"},
    {"year": True},
    {"year": None},
    {"year": [2021]},
    {"year": {"of": 2021}},
    {"deep": {"key": 1}, "flag": True},
    {"deep": [1], "flag": 1},
    {"flag": False, "year": 1999},
]


def test_both_find_the_same_through_inserts_deletes_flushes_and_merges(pair: Pair) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    counted: Counter[str] = Counter()
    for step in range(120):
        match chance.choice(("insert", "insert", "insert", "delete", "flush", "merge")):
            case "insert":  # keys that there are already among them: the newer row hides the older
                numbers = [chance.randrange(400) for _ in range(chance.randrange(1, 30))]
                pair.collection.insert(
                    [row(number, chance, chance.choice(_METADATA)) for number in dict.fromkeys(numbers)]
                )
            case "delete":
                pair.collection.delete([f"row{chance.randrange(400)}" for _ in range(chance.randrange(1, 20))])
            case "flush":
                pair.collection.flush()
            case "merge":
                pair.collection._wait_for_bg()
        counted["segments", len(pair.collection._segment_cache)] += 1
        for vectors in ("dense", "sparse"):
            asked = row(0, chance)[vectors]
            said = chance.choice(_EXPRESSIONS)
            fast, slow = pair.both([asked], vectors, said, limit=chance.choice((1, 5, 50)))
            _same(fast[0], slow[0], f"seed {seed}, step {step}, {vectors}, {said}")
            counted[vectors] += bool(fast[0])
    print(f"seed {seed}: {counted}")
    assert min(counted["dense"], counted["sparse"]) > 20
    assert not pair.fell_back, "nothing of this needs Milvus Lite's own searcher"


def test_every_filter_that_can_be_said_means_the_same(pair: Pair) -> None:
    chance = random.Random(5)
    pair.collection.insert([row(number, chance, chance.choice(_METADATA)) for number in range(200)])
    pair.collection.flush()
    pair.collection.insert([row(number, chance, chance.choice(_METADATA)) for number in range(200, 300)])
    found = 0
    for _ in range(150):
        said = expression.build("t", "c", chance.choice((None, ["*"], ["user:1", "nobody"])), _filter(chance, 3))
        said = said.replace('tenant_id == "t"', 'owner == "ada"').replace('collection_id == "c"', "page >= 0")
        fast, slow = pair.both([row(0, chance)["dense"]], "dense", said, limit=300)
        assert {hit["id"] for hit in fast[0]} == {hit["id"] for hit in slow[0]}, said
        found += len(fast[0])
    assert found > 1000
    assert not pair.fell_back


def test_whoever_asks_by_a_thousand_keys_fills_no_memory(pair: Pair) -> None:
    chance = random.Random(12)
    pair.collection.insert([row(number, chance) for number in range(20)])
    pair.collection.flush()
    pair.fast(pair.collection, [[1.0] * DIMENSIONS], output_fields=["page"], anns_field="dense", expr="page >= 0")
    part = installing.view_of(pair.collection).parts()[0]
    for said in ('metadata["year"] == 2020', 'owner == "ada" and metadata["year"] == 2021'):
        pair.both([[1.0] * DIMENSIONS], "dense", said)
    assert len(part.rows._values) == 1, "one key is looked up once, wherever it stands"
    for number in range(1000):
        pair.both([[1.0] * DIMENSIONS], "dense", f'page >= 0 and metadata["key{number}"] == {number}')
    assert len(part.rows._values) <= 16
    assert len(part.rows._truths) <= 64


def test_several_queries_are_answered_each(pair: Pair) -> None:
    chance = random.Random(6)
    pair.collection.insert([row(number, chance) for number in range(60)])
    for vectors in ("dense", "sparse"):
        asked = [row(0, chance)[vectors] for _ in range(4)]
        fast, slow = pair.both(asked, vectors, 'owner == "ada"', limit=7)
        for number in range(4):
            _same(fast[number], slow[number], vectors)


def test_an_index_is_used_for_many_rows_and_finds_nearly_all(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    graph = {"index_type": "HNSW", "metric_type": "COSINE", "params": {"M": 16, "efConstruction": 200}}
    pair.collection.release()
    pair.collection.drop_index("dense")
    pair.collection.create_index("dense", graph)
    pair.collection.load()
    pair.collection.insert([row(number, chance) for number in range(1000)])
    pair.collection.flush()
    pair.collection._wait_for_bg()
    asked = [row(0, chance)["dense"] for _ in range(20)]
    exact, _ = pair.both(asked, "dense", "page < 4")
    monkeypatch.setattr(lite_rows, "_EXACT_ROWS", 10)
    indexed, _ = pair.both(asked, "dense", "page < 4")
    few, _ = pair.both(asked, "dense", 'id in ["row1", "row2", "row3"]')
    assert all(hit["entity"]["page"] < 4 for hits in indexed for hit in hits)
    recall = sum(len(_ids(one) & _ids(other)) for one, other in zip(indexed, exact, strict=True)) / 200
    print(f"recall@10 of the index: {recall:.3f}")
    assert recall > 0.9
    assert all(_ids(hits) == {"row1", "row2", "row3"} for hits in few)


def test_rows_on_their_way_into_a_segment_are_seen_and_nobody_waits(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(8)
    pair.collection.insert([row(number, chance) for number in range(40)])
    execute, refresh, seen = engine.execute_flush, Collection._refresh_segment_cache, []
    reader = ThreadPoolExecutor(1)  # a thread of its own: the one that flushes holds the lock

    def search() -> Hits:
        asked = {"top_k": 100, "metric_type": "COSINE", "output_fields": ["page"], "anns_field": "dense"}
        return pair.fast(pair.collection, [[1.0] * DIMENSIONS], **asked)[0]

    def look() -> None:
        seen.append(reader.submit(search).result(timeout=20))

    def watched(**given: Any) -> Any:
        look()
        result = execute(**given)
        look()
        return result

    def watched_refresh(collection: Collection) -> None:
        refresh(collection)
        look()

    monkeypatch.setattr(engine, "execute_flush", watched)
    monkeypatch.setattr(Collection, "_refresh_segment_cache", watched_refresh)
    search()
    pair.collection.flush()
    seen.append(search())
    reader.shutdown(wait=False)  # whoever still waits for the lock is let go at the end
    assert len(seen) >= 4
    assert {(len(hits), len(_ids(hits))) for hits in seen} == {(40, 40)}


def test_a_row_is_found_as_soon_as_it_is_written_whatever_moves(pair: Pair) -> None:
    chance = random.Random(9)
    written: list[int] = []
    ended = threading.Event()

    def write() -> None:
        for number in range(300):
            pair.collection.insert([row(number, chance)])
            written.append(number)
            if number % 10 == 9:
                pair.collection.flush()
        ended.set()

    looks = 0
    with ThreadPoolExecutor(1) as writer:
        writing = writer.submit(write)
        while not ended.is_set():
            before = len(written)
            asked = {"top_k": 1000, "metric_type": "COSINE", "output_fields": ["page"], "anns_field": "dense"}
            found = pair.fast(pair.collection, [[1.0] * DIMENSIONS], **asked)[0]
            assert len(found) == len(_ids(found)), "a row is found once"
            assert {f"row{number}" for number in range(before)} <= _ids(found)
            looks += 1
            if writing.done():
                break
        writing.result()
    print(f"{looks} searches while 300 rows were written and flushed 30 times")


def test_a_collection_is_opened_once_by_whoever_asks_first(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.database.close()
    opened, begin = [], Collection.__init__

    def slow(collection: Collection, *args: Any, **kwargs: Any) -> None:
        opened.append(collection)
        time.sleep(0.2)
        begin(collection, *args, **kwargs)

    monkeypatch.setattr(Collection, "__init__", slow)
    database = MilvusLite(str(tmp_path / "data"))
    with ThreadPoolExecutor(4) as callers:
        got = {id(each) for each in callers.map(lambda _: database.get_collection("things"), range(4))}
    database.close()
    assert len(got) == len(opened) == 1


def test_after_a_start_collections_are_loaded_before_they_are_asked_for(pair: Pair, tmp_path: Path) -> None:
    chance = random.Random(11)
    pair.collection.insert([row(number, chance) for number in range(50)])
    pair.database.close()
    database = MilvusLite(str(tmp_path / "data"))
    collection = database.get_collection("things")
    ends_s = time.monotonic() + 20
    while collection.load_state != "loaded" and time.monotonic() < ends_s:
        time.sleep(0.01)
    found = pair.fast(collection, [[1.0] * DIMENSIONS], top_k=100, output_fields=["page"], anns_field="dense")
    assert len(found[0]) == 50
    database.close()


def test_what_it_does_not_know_is_left_to_milvus_lite(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(10)
    pair.collection.insert([row(number, chance) for number in range(20)])
    query = [row(0, chance)["dense"]]
    fast, slow = pair.both(query, "dense", 'text like "text 1%"')
    assert fast == slow
    assert fast[0]
    grouped = pair.fast(pair.collection, query, anns_field="dense", output_fields=["page"], group_by_field="page")
    assert grouped[0]
    assert len(pair.fell_back) == 2
    monkeypatch.setattr(installing, "version", lambda _: "9.9.9")
    assert "9.9.9" in str(installing.install())


def _ids(hits: Hits) -> set[str]:
    return {hit["id"] for hit in hits}


def _same(fast: Hits, slow: Hits, where: str) -> None:
    """The same rows with the same scores, in the same order but among equals; the last may be one of several equals."""
    assert [hit["distance"] for hit in fast] == pytest.approx([hit["distance"] for hit in slow], abs=1e-5), where
    last = slow[-1]["distance"] if slow else 0.0
    theirs = {hit["id"]: hit["entity"] for hit in slow}
    for hit in fast:
        if abs(hit["distance"] - last) > 1e-5:
            assert hit["id"] in theirs, where
        if hit["id"] in theirs:
            assert _plain(hit["entity"]) == _plain(theirs[hit["id"]]), where


def _plain(entity: dict[str, Any]) -> str:
    return json.dumps(entity, sort_keys=True)


def _filter(chance: random.Random, depth: int) -> expression.Filter:
    if depth and chance.random() < 0.5:
        parts = [_filter(chance, depth - 1) for _ in range(chance.randrange(1, 4))]
        return expression.Compound(chance.choice(("and", "or")), tuple(parts))
    key = chance.choice(("year", "flag", "deep", "none"))
    values: list[Any] = [2021, 2021.0, "2021", True, False, 1999, ""]
    kind = chance.choice(("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"))
    if kind in ("in", "nin"):
        return expression.Comparison(kind, key, tuple(chance.sample(values, 2)))
    ordered = [value for value in values if not isinstance(value, bool)]
    return expression.Comparison(kind, key, chance.choice(values if kind in ("eq", "ne") else ordered))


def test_rows_that_come_one_by_one_are_looked_at_together(pair: Pair) -> None:
    chance = random.Random(21)
    found = 0
    for number in range(400):
        pair.collection.insert([row(chance.randrange(300), chance, chance.choice(_METADATA))])
        if number % 7 == 0:
            pair.collection.delete([f"row{chance.randrange(300)}"])
        if number % 20 == 0:
            for vectors in ("dense", "sparse"):
                fast, slow = pair.both([row(0, chance)[vectors]], vectors, chance.choice(_EXPRESSIONS), limit=50)
                _same(fast[0], slow[0], f"{number}, {vectors}")
                found += len(fast[0])
    assert found > 200
    assert len(installing.view_of(pair.collection).parts()) < 80, "each part costs a search as much as a row of 64"
