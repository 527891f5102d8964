"""A document is ready once it is published: what comes after that fails no attempt."""

from typing import Any

import numpy as np
import pytest

from core.clock import ManualClock
from core.dependency import DependencyUnavailable
from core.reach import ANYWHERE
from retrieval.chunking import Chunk
from retrieval.errors import IndexRefused
from retrieval.leases import Lease
from retrieval.parsing import Digest
from retrieval.pipeline import Pipeline
from retrieval.settings import RetrievalSettings

TEXT = "The tide is high."


class Parts:
    """All that a pipeline works with: it takes everything, and fails to flush in this way."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def do(*_: object) -> None:
            self.done.append(name)

        return do

    async def get(self, _key: str) -> bytes:
        return TEXT.encode()

    async def parse(self, *_: object) -> Digest:
        return Digest(TEXT, (), {}, [Chunk(TEXT, 0, len(TEXT), None, "")])

    async def embed(self, texts: list[str], *_: object, **__: object) -> Any:
        return np.ones((len(texts), 1), np.float32)

    async def flush(self, *_: object) -> None:
        self.done.append("flush")
        raise self._error


@pytest.mark.parametrize(
    "error",
    [IndexRefused(ValueError("collection not found")), DependencyUnavailable("index", "away")],
    ids=["refused", "away"],
)
async def test_a_flush_that_is_refused_fails_no_document_that_is_ready(error: Exception) -> None:
    """Its collection may have been deleted since."""
    parts: Any = Parts(error)
    pipeline = Pipeline(RetrievalSettings(), parts, parts, parts, parts, parts, ManualClock())
    lease = Lease(
        job_id="job", document_id="doc", fence=1, attempt=1, tenant_id="t", reach=ANYWHERE, filename="a.txt",
        media_type="text/plain", source_key="s", sha256="", revision_id=None, refresh=False, metadata={}, readers=[],
        collection_id="c", generation=0, pool=None, embedding_space="e", dimensions=1, average_terms=5.0,
        language="english", chunking={},
    )  # fmt: skip
    await pipeline.run(lease)
    assert parts.done[-2:] == ["publish", "flush"]
