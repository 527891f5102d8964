"""What an edge tells of its documents: nothing of those whose time is over."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from core.clock import ManualClock
from edge.app import create_app
from edge.exporting import ModelFolder, write
from edge.index import FileIndex
from edge.library import ShelvedCollection, Texts
from edge.llm import LocalModel, Wish, Writing
from edge.settings import EdgeSettings
from tests.unit.edge.records import records

_DOCUMENTS = "/v1/collections/papers/documents"


@pytest.fixture
async def client(tmp_path: Path, model: ModelFolder) -> AsyncIterator[httpx.AsyncClient]:
    folder = tmp_path / "out"
    manifest = write(records(["The pier.", "The ferry.", "The gate."]), folder, model, None, "0.1.0", 1.0)
    clock, collection = ManualClock(100.0), ShelvedCollection.of(manifest)
    index = FileIndex(folder, manifest.index["kind"])
    texts = Texts(collection, index, clock, {"doc_1": 99.0, "doc_2": 101.0})
    app = create_app(EdgeSettings(folder=folder), manifest)
    app.state.edge = SimpleNamespace(
        library=SimpleNamespace(documents=texts), collection=collection, index=index, manifest=manifest
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8090") as opened:
        yield opened
    index.close()


async def test_an_expired_document_is_neither_listed_nor_named_nor_read(client: httpx.AsyncClient) -> None:
    listed = (await client.get(_DOCUMENTS)).json()["data"]
    assert [one["id"] for one in listed] == ["doc_0", "doc_2"]
    assert (await client.get(f"{_DOCUMENTS}/doc_2")).json()["filename"] == "2.md"
    for path in ("doc_1", "doc_1/content", "doc_9"):
        assert (await client.get(f"{_DOCUMENTS}/{path}")).status_code == 404


class Endless:
    """A model of a window of ten tokens, which never ends by itself."""

    window = 10
    ends = frozenset[int]()

    def prompt(self, messages: Sequence[Any]) -> list[int]:
        return [0] * 6

    def text(self, tokens: Sequence[int]) -> str:
        return "a" * len(tokens)

    def tokens(self, ids: Sequence[int], temperature: float) -> Iterator[int]:
        yield from range(1, 1000)


@pytest.mark.parametrize(("allowed", "made"), [(3, 3), (4, 4), (400, 4)])
def test_a_local_model_writes_no_further_than_its_window(allowed: int, made: int) -> None:
    writing = Writing(cast(LocalModel, Endless()), Wish([], allowed))
    assert "".join(writing) == "a" * made
    assert writing.cut
