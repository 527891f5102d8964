"""Search: the collection is pinned, both legs run at once, and the catalog says which of their hits may be seen."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from core.clock import Clock
from core.dependency import DependencyError
from core.principal import Principal
from monitoring import metrics
from monitoring.logs import logger
from retrieval import bm25, expression, snapshot
from retrieval.access import reads_as
from retrieval.analyzer import analyze
from retrieval.embedder import Embedder, Space
from retrieval.errors import IndexRefused, InputInvalid, SpaceMismatch
from retrieval.fusion import fuse
from retrieval.milvus import Hit, VectorIndex
from retrieval.snapshot import Snapshot, Visible
from storage.sql import Database

_log = logger(__name__)

Mode = Literal["hybrid", "dense", "lexical"]

MAX_TOP_K = 100
MAX_QUESTION = 20_000  # characters
_CANDIDATES = 50  # of each leg, before fusion; more where top_k asks for more
_MOST_CANDIDATES = 1600  # where doubling ends
_MOST_TERMS = 200  # distinct terms of a question that lexical search looks for


@dataclass(frozen=True, slots=True)
class Query:
    """A question to one collection.

    Attributes:
        top_k: most passages to return, 1 to 100.
        filter: the typed tree of `retrieval.expression`, as it came in JSON.
        score_threshold: passages below are left out; on the scale of the mode (cosine, BM25, or fused ranks).
    """

    collection: str
    text: str
    top_k: int = 10
    mode: Mode = "hybrid"
    filter: dict[str, Any] | None = None
    score_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found: the content of `document_version`, from `start` to `end`, is `text`.

    Attributes:
        score: cosine similarity (dense), BM25 (lexical), or the sum of 1 / (60 + rank) over both (hybrid).
    """

    document_id: str
    document_version: int
    revision_id: str
    filename: str
    text: str
    start: int
    end: int
    page: int | None
    score: float
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Passages, best first.

    Attributes:
        degraded: one of hybrid's legs was away, and the other answered alone.
        local_only: nothing of the collection may leave the house.
        timings_ms: milliseconds by stage: pin, embed, dense, lexical, accept, total.
    """

    passages: list[Passage]
    collection_version: int
    degraded: bool = False
    degraded_reason: str | None = None
    local_only: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Leg:
    """One way of searching: `find(limit)` gives its best hits, or fails and is left out."""

    name: str
    find: Callable[[int], Awaitable[list[Hit]]]
    limit: int
    hits: list[Hit] = field(default_factory=list)
    exhausted: bool = False
    error: DependencyError | SpaceMismatch | IndexRefused | None = None


class Searcher:
    """Answers questions with passages that their reader may see."""

    def __init__(self, database: Database, index: VectorIndex, embedder: Embedder, clock: Clock) -> None:
        self._clock = clock
        self._database = database
        self._index = index
        self._embedder = embedder

    async def search(self, principal: Principal, query: Query) -> SearchResult:
        """Find the best passages.

        Raises:
            CollectionNotFound
            InputInvalid: the question, mode or top_k; FilterInvalid: the filter.
            SpaceMismatch: mode "dense", and the embedding server serves another model.
            DependencyError: SQL is away, or every leg is.
        """
        user_filter = _check(query)
        timings: dict[str, float] = {}
        began = perf_counter()
        terms = list(dict.fromkeys(analyze(query.text)))[:_MOST_TERMS] if query.mode != "dense" else []
        pinned = await snapshot.pin(self._database, principal.tenant_id, query.collection, terms)
        timings["pin"] = perf_counter() - began
        legs: list[_Leg] = []
        seen: dict[str, Visible] = {}
        if pinned.chunks:  # an empty collection may not be in the index yet
            readers = reads_as(principal)
            expr = _expression(principal.tenant_id, pinned, readers, user_filter)
            legs = self._legs(query, pinned, expr, timings, local_only=principal.local_only)
            seen = await self._run(legs, pinned, readers, timings)
        reason = _degraded(legs)
        passages = _passages(query, legs, seen)
        timings["total"] = perf_counter() - began
        for stage, seconds in timings.items():
            metrics.RETRIEVAL_SECONDS.labels(stage).observe(seconds)
        return SearchResult(
            passages=passages,
            collection_version=pinned.version,
            degraded=reason is not None,
            degraded_reason=reason,
            local_only=pinned.local_only,
            timings_ms={stage: round(seconds * 1000, 3) for stage, seconds in timings.items()},
        )

    def _legs(
        self, query: Query, pinned: Snapshot, expr: str, timings: dict[str, float], *, local_only: bool
    ) -> list[_Leg]:
        limit = max(_CANDIDATES, query.top_k)
        embedded: list[NDArray[np.float32]] = []

        async def dense(limit: int) -> list[Hit]:
            if not embedded:
                with _Timer(timings, "embed"):
                    space = Space(pinned.embedding_space, pinned.dimensions)
                    rows = await self._embedder.embed([query.text], space, query=True, local_only=local_only)
                    embedded.append(rows[0])
            with _Timer(timings, "dense"):
                return await self._index.search_dense(pinned.place, embedded[0], expr, limit)

        async def lexical(limit: int) -> list[Hit]:
            vector = bm25.query_vector(analyze(query.text), pinned.chunks, pinned.frequencies)
            with _Timer(timings, "lexical"):
                return await self._index.search_sparse(pinned.place, vector, expr, limit)

        legs = []
        if query.mode in ("hybrid", "dense"):
            legs.append(_Leg("dense", dense, limit))
        if query.mode in ("hybrid", "lexical"):
            legs.append(_Leg("lexical", lexical, limit))
        return legs

    async def _run(
        self, legs: Sequence[_Leg], pinned: Snapshot, readers: Sequence[str] | None, timings: dict[str, float]
    ) -> dict[str, Visible]:
        """Fill the legs with hits that may be seen; retired rows in the way make a leg look further.

        Returns: what the catalog says of each revision that may be seen.
        """
        seen: dict[str, Visible] = {}
        asked: set[str] = set()
        wanted = {leg.name: leg.limit for leg in legs}
        short = list(legs)
        while short:
            await asyncio.gather(*(_find(leg) for leg in short))
            unknown = {hit.revision_id for leg in short for hit in leg.hits} - asked
            with _Timer(timings, "accept"):
                seen |= await snapshot.visible(self._database, pinned, unknown, readers, self._clock.time())
            asked |= unknown
            for leg in short:
                leg.hits = [hit for hit in leg.hits if hit.revision_id in seen]
            short = [leg for leg in short if not leg.exhausted and len(leg.hits) < wanted[leg.name]]
            for leg in short:
                leg.limit *= 2
        return seen


def _expression(
    tenant_id: str, pinned: Snapshot, readers: Sequence[str] | None, user_filter: expression.Filter | None
) -> str:
    """What the index is asked for: of stale documents the catalog says whether they may be found."""
    chosen = [
        one.document_id
        for one in pinned.stale
        if (readers is None or not set(readers).isdisjoint(one.readers))
        and (user_filter is None or expression.holds(user_filter, one.metadata))
    ]
    stale = [one.document_id for one in pinned.stale]
    return expression.build(tenant_id, pinned.collection_id, readers, user_filter, stale, chosen)


async def _find(leg: _Leg) -> None:
    try:
        leg.hits = await leg.find(leg.limit)
    except (DependencyError, SpaceMismatch, IndexRefused) as error:
        _log.warning("a leg of the search is away", leg=leg.name, reason=str(error))
        leg.error = error
        leg.hits = []
        leg.exhausted = True
        return
    leg.exhausted = len(leg.hits) < leg.limit or leg.limit * 2 > _MOST_CANDIDATES


def _check(query: Query) -> expression.Filter | None:
    if not query.text.strip():
        raise InputInvalid("query", "The question is empty.")
    if len(query.text) > MAX_QUESTION:
        raise InputInvalid("query", f"A question has at most {MAX_QUESTION:,} characters.")
    if not 1 <= query.top_k <= MAX_TOP_K:
        raise InputInvalid("top_k", f"top_k goes from 1 to {MAX_TOP_K}.")
    if query.mode not in get_args(Mode):
        raise InputInvalid("mode", f"mode is one of {', '.join(get_args(Mode))}.")
    return expression.parse_filter(query.filter) if query.filter is not None else None


def _degraded(legs: Sequence[_Leg]) -> str | None:
    """Why the answer is not all it could be. Raises: the error, when no leg is left."""
    errors = [leg for leg in legs if leg.error is not None]
    for leg in errors:
        if leg.error is not None and len(errors) == len(legs):
            raise leg.error
    if not errors:
        return None
    left = next(leg.name for leg in legs if leg.error is None)
    return f"{errors[0].name} search is away ({errors[0].error}); {left} search answered alone"


def _passages(query: Query, legs: Sequence[_Leg], seen: dict[str, Visible]) -> list[Passage]:
    answering = [leg for leg in legs if leg.error is None]
    hits = {hit.id: hit for leg in answering for hit in leg.hits}
    if query.mode == "hybrid":
        ranked = fuse([[hit.id for hit in leg.hits] for leg in answering])
    else:
        ranked = [(hit.id, hit.score) for leg in answering for hit in leg.hits]
    if query.score_threshold is not None:
        ranked = [(hit_id, score) for hit_id, score in ranked if score >= query.score_threshold]
    return [_as_passage(hits[hit_id], score, seen[hits[hit_id].revision_id]) for hit_id, score in ranked[: query.top_k]]


def _as_passage(hit: Hit, score: float, seen: Visible) -> Passage:
    return Passage(
        document_id=hit.document_id,
        document_version=seen.number,
        revision_id=hit.revision_id,
        filename=hit.filename,
        text=hit.text,
        start=hit.start,
        end=hit.end,
        page=hit.page,
        score=score,
        metadata=seen.metadata,
    )


class _Timer:
    """Adds the seconds of a `with` block to a stage, whether it ends well or not."""

    def __init__(self, timings: dict[str, float], stage: str) -> None:
        self._timings = timings
        self._stage = stage

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self._timings[self._stage] = self._timings.get(self._stage, 0.0) + perf_counter() - self._began
