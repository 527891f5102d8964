"""Records of an export, as a gateway would send them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from retrieval import bm25
from retrieval.analyzer import analyze
from retrieval.exporting import packed
from retrieval.index import Row

DIMENSIONS = 4


def records(texts: Sequence[str], dimensions: int = DIMENSIONS, seed: int = 1) -> Iterator[dict[str, Any]]:
    """One document for each text, one chunk each."""
    rng = np.random.default_rng(seed)
    yield {
        "kind": "collection",
        "format": 1,
        "id": "col_1",
        "name": "papers",
        "description": "",
        "metadata": {},
        "chunking": {},
        "answers": {},
        "prompt": None,
        "prompt_version": 0,
        "answering": {},
        "version": 3,
        "chunks": len(texts),
        "embedding_model": "model",
        "dimensions": dimensions,
        "average_terms": 65.0,
        "language": "english",
        "search": {},
        "readers": ["*"],
        "local_only": False,
        "providers": None,
        "regions": None,
        "created_at": 1,
    }
    frequencies: dict[str, int] = {}
    for number, text in enumerate(texts):
        terms = analyze(text)
        for term in set(terms):
            frequencies[term] = frequencies.get(term, 0) + 1
        yield {
            "kind": "document",
            "id": f"doc_{number}",
            "revision_id": f"rev_{number}",
            "version": 1,
            "filename": f"{number}.md",
            "media_type": "text/plain",
            "sha256": "",
            "metadata": {"number": number},
            "file_id": None,
            "pages": [],
            "created_at": 1.0,
            "expires_at": None,
            "chunks": 1,
            "terms": dict.fromkeys(terms, 1),
            "text": text,
        }
        vector = rng.standard_normal(dimensions).astype(np.float32)
        row = Row(
            id=f"rev_{number}_0",
            revision_id=f"rev_{number}",
            document_id=f"doc_{number}",
            tenant_id="",
            collection_id="col_1",
            acl=(),
            filename=f"{number}.md",
            start=0,
            end=len(text),
            page=None,
            text=text,
            metadata={},
            dense=vector / np.linalg.norm(vector),
            sparse=bm25.weigh(terms, 65.0) or {0: 1.0},
        )
        yield {"kind": "chunks", "document": f"doc_{number}", **packed([row])}
    yield {"kind": "statistics", "terms": frequencies}
    yield {"kind": "end", "documents": len(texts), "chunks": len(texts)}
