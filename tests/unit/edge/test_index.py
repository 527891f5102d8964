"""The index of a folder: exact where it is flat, true to filters, and its spans stand in its texts."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge import indexing
from edge.exporting import ModelFolder, write
from edge.index import FileIndex
from retrieval import bm25
from retrieval.analyzer import analyze
from retrieval.expression import Scope, parse_filter
from retrieval.index import Place
from tests.unit.edge.records import records

_PLACE = Place("col_1")
_WORDS = "pier ferry Straße 𝄞 harbour gate Ödipus crew oil tide".split()


def _texts(count: int) -> list[str]:
    rng = np.random.default_rng(7)
    return [" ".join(rng.choice(_WORDS, 6)) + f" n{number}" for number in range(count)]


def _scope(**filtered: object) -> Scope:
    return Scope("edge", "col_1", filter=parse_filter(filtered) if filtered else None)


@pytest.fixture(params=["flat", "hnsw"])
def index(
    request: pytest.FixtureRequest, tmp_path: Path, model: ModelFolder, monkeypatch: pytest.MonkeyPatch
) -> FileIndex:
    if request.param == "hnsw":
        monkeypatch.setattr(indexing, "MOST_FLAT", 10)
    manifest = write(records(_texts(500), 16), tmp_path / "out", model, None, "0.1.0", 1.0)
    assert manifest.index["kind"] == request.param
    found = FileIndex(tmp_path / "out", request.param)
    yield found
    found.close()


def _vectors(index: FileIndex) -> NDArray[np.float32]:
    return index.sample(index.chunks)[1]


async def test_the_nearest_are_found_in_order(index: FileIndex) -> None:
    vectors = _vectors(index)
    for row in (0, 77, 499):
        (hits,) = await index.search_dense(_PLACE, vectors[row : row + 1], _scope(), 10)
        exact = np.argsort(-(vectors @ vectors[row]), kind="stable")[:10]
        assert [int(hit.id) for hit in hits] == exact.tolist()
        assert hits[0].score == pytest.approx(1.0, abs=1e-5)


async def test_a_filter_lets_only_its_documents_through(index: FileIndex) -> None:
    vectors = _vectors(index)
    scope = _scope(type="lt", key="number", value=5)
    (hits,) = await index.search_dense(_PLACE, vectors[9:10], scope, 10)
    assert {hit.document_id for hit in hits} == {f"doc_{number}" for number in range(5)}
    (found,) = await index.search_sparse(
        _PLACE, [{bm25.term_index(term): 1.0 for term in analyze("pier ferry")}], scope, 50
    )
    assert {hit.metadata["number"] for hit in found} <= set(range(5))
    assert await index.search_dense(_PLACE, vectors[:1], _scope(type="eq", key="no", value=1), 10) == [[]]


async def test_each_span_stands_in_its_text(index: FileIndex) -> None:
    texts = _texts(500)
    (hits,) = await index.search_dense(_PLACE, _vectors(index)[:1], _scope(), 500)
    assert len(hits) >= 400
    for hit in hits:
        document = index.by_id[hit.document_id]
        content = index.text(document.at, document.until)
        assert content[hit.start : hit.end] == hit.text == texts[int(hit.metadata["number"])]


async def test_an_empty_collection_finds_nothing(tmp_path: Path, model: ModelFolder) -> None:
    write(records(()), tmp_path / "out", model, None, "0.1.0", 1.0)
    empty = FileIndex(tmp_path / "out", "flat")
    assert await empty.search_dense(_PLACE, np.ones((1, 4), np.float32), _scope(), 10) == [[]]
    assert await empty.search_sparse(_PLACE, [{1: 1.0}], _scope(), 10) == [[]]
    empty.close()
