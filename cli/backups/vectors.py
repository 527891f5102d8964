"""A revision's rows of the index in a file: JSON lines, packed; the dense vector as base64 of little-endian float32."""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np

from retrieval.index import Row

_FLOAT32 = np.dtype("<f4")


def write(file: Path, rows: Sequence[Row]) -> None:
    """Write them, beside the file's place first."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".written")
    with gzip.open(beside, "wt", compresslevel=1, encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(_packed(row)) + "\n")
    beside.replace(file)


def read(file: Path, at_once: int) -> Iterator[list[Row]]:
    """Read them in parts."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = map(_unpacked, lines)
        while part := list(islice(rows, at_once)):
            yield part


def _packed(row: Row) -> dict[str, object]:
    dense = base64.b64encode(row.dense.astype(_FLOAT32).tobytes()).decode()
    return {**asdict(row), "acl": list(row.acl), "dense": dense, "sparse": list(row.sparse.items())}


def _unpacked(line: str) -> Row:
    told = json.loads(line)
    dense = np.frombuffer(base64.b64decode(told["dense"]), _FLOAT32).astype(np.float32)
    return Row(**{**told, "dense": dense, "sparse": dict(told["sparse"])})
