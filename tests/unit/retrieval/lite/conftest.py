"""A collection of Milvus Lite in this process, with the fast searcher and with Milvus Lite's own."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from milvus_lite.db import MilvusLite
from milvus_lite.engine.collection import Collection
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema

from retrieval.lite.install import install

SHOWN = ["id", "owner", "acl", "page", "text", "metadata"]
DIMENSIONS = 8
_REPLACED = ("search", "_trigger_flush", "_refresh_segment_cache", "drop_partition", "_bg_compact_and_index")

Hits = list[dict[str, Any]]


@dataclass
class Pair:
    """One collection, and two ways of searching it."""

    database: MilvusLite
    collection: Collection
    fast: Callable[..., list[Hits]]
    slow: Callable[..., list[Hits]]
    fell_back: list[str] = field(default_factory=list)

    def both(
        self, queries: Sequence[Any], vectors: str, expression: str, limit: int = 10
    ) -> tuple[list[Hits], list[Hits]]:
        """What each finds."""
        metric = "COSINE" if vectors == "dense" else "IP"
        asked: dict[str, Any] = {"query_vectors": list(queries), "top_k": limit, "metric_type": metric}
        asked |= {"expr": expression, "output_fields": SHOWN, "anns_field": vectors, "search_params": {}}
        return self.fast(self.collection, **asked), self.slow(self.collection, **asked)


def row(number: int, chance: random.Random, metadata: Any = None) -> dict[str, Any]:
    """A row of any content, with a primary key made of `number`."""
    return {
        "id": f"row{number}",
        "owner": chance.choice(("ada", "grace")),
        "acl": chance.choice((["*"], ["user:1", "group:a"], ["group:a"], [])),
        "page": chance.randrange(5),
        "text": f"text {number} {chance.random()}",
        "metadata": {"year": chance.choice((2020, 2021, "2021"))} if metadata is None else metadata,
        "dense": [chance.gauss(0, 1) for _ in range(DIMENSIONS)],
        "sparse": {chance.randrange(12): chance.random() + 0.1 for _ in range(chance.randrange(1, 5))},
    }


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    slow = Collection.search
    fell_back: list[str] = []

    def slow_counted(collection: Collection, *args: Any, **kwargs: Any) -> Any:
        fell_back.append(str(kwargs.get("expr")))
        return slow(collection, *args, **kwargs)

    for name in _REPLACED:  # put back by the monkey
        monkeypatch.setattr(Collection, name, getattr(Collection, name))
    for name in ("get_collection", "__init__"):
        monkeypatch.setattr(MilvusLite, name, getattr(MilvusLite, name))
    Collection.search = slow_counted
    assert install() is None
    database = MilvusLite(str(tmp_path / "data"))
    collection = database.create_collection("things", _schema())
    # With no index, Milvus Lite's own searcher finds all there is: what a graph finds among few rows of many is chance.
    collection.create_index("dense", {"index_type": "BRUTE_FORCE", "metric_type": "COSINE", "params": {}})
    collection.create_index("sparse", {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "IP"})
    collection.load()
    yield Pair(database, collection, Collection.search, slow, fell_back)
    database.close()


def _schema() -> CollectionSchema:
    return CollectionSchema(
        [
            FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=100),
            FieldSchema("owner", DataType.VARCHAR, max_length=100),
            FieldSchema("acl", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=10, max_length=100),
            FieldSchema("page", DataType.INT64),
            FieldSchema("text", DataType.VARCHAR, max_length=1000),
            FieldSchema("metadata", DataType.JSON),
            FieldSchema("dense", DataType.FLOAT_VECTOR, dim=DIMENSIONS),
            FieldSchema("sparse", DataType.SPARSE_FLOAT_VECTOR),
        ]
    )
