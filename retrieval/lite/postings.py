"""Milvus Lite's column of sparse vectors as postings."""

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # has no stubs

from retrieval.postings import Postings

_PAIR = np.dtype([("term", "<u4"), ("weight", "<f4")])  # as Milvus writes a sparse vector


def of_column(column: pa.ChunkedArray) -> Postings:
    """Read a column of sparse vectors, each the bytes of its pairs; empty or null: no terms."""
    vectors = [each or b"" for each in column.to_pylist()]
    pairs = np.frombuffer(b"".join(vectors), _PAIR)
    lengths = np.fromiter(map(len, vectors), np.int64, len(vectors)) // _PAIR.itemsize
    rows = np.repeat(np.arange(len(vectors), dtype=np.int32), lengths)
    return Postings.of(len(vectors), rows, pairs["term"], pairs["weight"])
