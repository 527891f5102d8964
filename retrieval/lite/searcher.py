"""Searching a view of a collection: each part on its own, and the best of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from retrieval.lite.filters import Mask
from retrieval.lite.view import Part, View

Found = tuple[NDArray[np.int64], NDArray[np.float64]]  # rows, and how near they are: nearest first


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for.

    Attributes:
        field: of vectors.
        metric: COSINE or IP; IP where the vectors are sparse.
        queries: float32[n, dimensions], or weights by term for each query.
        partitions: where; None: everywhere.
        expression: what a row must fulfil; None: nothing.
        shown: fields of what is found.
    """

    field: str
    metric: str
    queries: NDArray[np.float32] | Sequence[Mapping[int, float]]
    limit: int
    partitions: Sequence[str] | None
    expression: Any
    shown: Sequence[str]
    params: dict[str, Any] | None


def search(view: View, asked: Search) -> list[list[dict[str, Any]]]:
    """For each query, best first, `id`, `distance` (the similarity, as Milvus tells it) and `entity`.

    Raises: filters.Unsupported: the expression is one that only Milvus Lite can evaluate.
    """
    parts = view.parts()
    found = [(part, _look(part, valid, asked)) for part in parts if (valid := _valid(part, asked)) is not _NONE]
    return [_merged([(part, each[query]) for part, each in found], asked) for query in range(len(asked.queries))]


_NONE = np.zeros(0, np.bool_)


def _valid(part: Part, asked: Search) -> Mask | None:
    """The rows of a part that count; None: all; _NONE: none."""
    valid = part.seen
    if asked.partitions is not None:
        valid = _both(valid, part.rows.in_partitions(asked.partitions))
    if asked.expression is not None and (valid is None or valid.any()):
        valid = _both(valid, part.rows.fulfil(asked.expression))
    if valid is None or valid.all():
        return None
    return valid if valid.any() else _NONE


def _both(one: Mask | None, other: Mask | None) -> Mask | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _look(part: Part, valid: Mask | None, asked: Search) -> list[Found]:
    if isinstance(asked.queries, np.ndarray):
        return part.rows.nearest(asked.field, asked.queries, asked.limit, valid, asked.metric, asked.params)
    postings = part.rows.postings(asked.field)
    return [postings.best(query, asked.limit, valid) for query in asked.queries]


def _merged(found: Sequence[tuple[Part, Found]], asked: Search) -> list[dict[str, Any]]:
    found = [(part, each) for part, each in found if len(each[0])]
    if not found:
        return []
    scores = np.concatenate([each[1] for _, each in found])
    rows = np.concatenate([each[0] for _, each in found])
    of = np.repeat(np.arange(len(found)), [len(each[0]) for _, each in found])
    best = np.argsort(-scores, kind="stable")[: asked.limit]
    hits: list[dict[str, Any]] = [{}] * len(best)
    for number in np.unique(of[best]):
        part = found[number][0]
        places = np.flatnonzero(of[best] == number)
        chosen = rows[best[places]]
        entities = part.rows.table.select(list(asked.shown)).take(pa.array(chosen)).to_pylist()
        for place, row, entity in zip(places.tolist(), chosen.tolist(), entities, strict=True):
            similarity = float(np.float32(scores[best[place]]))
            hits[place] = {"id": part.rows.pks[row], "distance": similarity, "entity": entity}
    return hits
