"""Search: the collection is pinned, all legs run at once, the catalog says which of their hits may be seen.

What is left becomes one ranking: fused, where asked for reranked and made diverse.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.clock import Clock
from core.dependency import DependencyError
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from monitoring import metrics, tracing
from monitoring.logs import logger
from monitoring.tracing import genai
from retrieval import bm25, diversity, expression, facets, fuzzy, legs, snapshot
from retrieval.access import reads_as
from retrieval.errors import IndexRefused
from retrieval.expiry import note_use
from retrieval.facets import Facet, Suggestion
from retrieval.fusion import Ranking, fuse
from retrieval.fuzzy import Correction
from retrieval.hosted import Space
from retrieval.index import Hit, Index
from retrieval.legs import Leg, timed
from retrieval.query import Query, Way
from retrieval.questions import Questions
from retrieval.snapshot import Snapshot, Visible
from storage.sql import Database

_log = logger(__name__)

_CANDIDATES = 50  # of each leg, before fusion; more where top_k asks for more
_SIMILAR = 0.5  # of a time that a similar term counts as asked for
_COMPARED = 50  # passages that a search for diversity compares


class Embeds(Protocol):
    """Makes vectors of questions."""

    async def embed(
        self, texts: Sequence[str], space: Space, *, query: bool = False, reach: Reach = ANYWHERE
    ) -> NDArray[np.float32]:
        """float32[n, dimensions], rows L2-normalised. Raises: SpaceMismatch, DocumentRejected; DependencyError."""
        ...


class Reranks(Protocol):
    """Says how well texts answer a question."""

    async def scores(self, question: str, texts: Sequence[str], deadline_s: float | None = None) -> list[float]:
        """Higher is better; the scale is the model's. Raises: DependencyError."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that was found: the content of `document_version`, from `start` to `end`, is `text`.

    Attributes:
        score: cosine similarity (dense), BM25 (lexical), what the fusion gave (hybrid), or the reranker's relevance.
        file_id: the file of `/v1/files` that the document is a copy of; None: it came without one.
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
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class Spelling:
    """A term of the question that no readable chunk holds, and what was looked for beside it, as it is written."""

    term: str
    instead: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Passages, best first.

    Attributes:
        degraded: a leg or the reranker was away, and the others answered alone.
        reach: where text of the collection may go.
        facets: for each key that was asked for.
        corrections: what was looked for beside terms that no readable chunk holds, and how those terms are written.
        named: values of metadata that the question names; where facets were asked for.
        timings_ms: milliseconds by stage: pin, fuzzy, embed, dense, lexical, accept, rerank, diversify, facets, total.
    """

    passages: list[Passage]
    collection_version: int
    degraded: bool = False
    degraded_reason: str | None = None
    reach: Reach = ANYWHERE
    facets: Sequence[Facet] = ()
    corrections: Sequence[Spelling] = ()
    named: Sequence[Suggestion] = ()
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Looked:
    """What a search has found, before anything is made of it; no legs: the collection is empty."""

    pinned: Snapshot
    way: Way
    readers: Sequence[str] | None
    filter: expression.Filter | None
    legs: list[Leg] = field(default_factory=list)
    seen: Mapping[str, Visible] = field(default_factory=dict)
    corrections: Sequence[Correction] = ()


class Searcher:
    """Answers questions with passages that their reader may see."""

    def __init__(
        self,
        database: Database,
        index: Index,
        embedder: Embeds,
        reranker: Reranks,
        clock: Clock,
        questions: Questions | None = None,
    ) -> None:
        self._clock = clock
        self._database = database
        self._index = index
        self._embedder = embedder
        self._reranker = reranker
        self._questions = questions

    async def search(self, principal: Principal, query: Query) -> SearchResult:
        """Find the best passages.

        Raises:
            CollectionNotFound
            InputInvalid: the question, the way to search or a bound; FilterInvalid: the filter.
            SpaceMismatch: mode "dense", and the embedding server serves another model.
            DependencyError: SQL is away, or every leg is.
        """
        timings: dict[str, float] = {}
        began = perf_counter()
        with tracing.stage("retrieval") as searched:
            looked = await self._look(principal, query, timings)
            searched.describe(partial(genai.searched, looked.pinned.collection_id, query.text))
            reasons: list[str] = []
            ranked = await self._arrange(query, looked, reasons, timings) if looked.legs else []
            passages = [_as_passage(hit, score, looked.seen[hit.revision_id]) for hit, score in ranked]
            counted, named = await self._facets(query, looked, reasons, timings)
        timings["total"] = perf_counter() - began
        for stage, seconds in timings.items():
            metrics.RETRIEVAL_SECONDS.labels(stage).observe(seconds)
        return SearchResult(
            passages=passages,
            collection_version=looked.pinned.version,
            degraded=bool(reasons),
            degraded_reason="; ".join(reasons) or None,
            reach=looked.pinned.reach,
            facets=counted,
            corrections=_spelt(looked, passages),
            named=named,
            timings_ms={stage: round(seconds * 1000, 3) for stage, seconds in timings.items()},
        )

    async def rankings(self, principal: Principal, query: Query) -> dict[str, list[Passage]]:
        """What each leg finds, best first, before one ranking is made of it.

        Raises: as `search` does, and where one leg is away, what is away.
        """
        looked = await self._look(principal, query, {})
        for leg in looked.legs:
            if leg.error is not None:
                raise leg.error
        return {
            leg.kind: [_as_passage(hit, hit.score, looked.seen[hit.revision_id]) for hit in leg.rankings[0]]
            for leg in looked.legs
        }

    async def _look(self, principal: Principal, query: Query, timings: dict[str, float]) -> _Looked:
        user_filter = query.check()
        with timed(timings, "pin"):
            texts = [query.text, *query.wordings]
            pinned = await snapshot.pin(self._database, principal.tenant_id, query.collection, texts)
        way = Way.read({**query.way, "mode": query.mode} if query.mode else query.way, "search", pinned.way)
        readers = reads_as(principal)
        looked = _Looked(pinned, way, readers, user_filter)
        now_s = self._clock.time()
        if pinned.life.is_over(now_s) or not pinned.chunks:  # an empty collection may not be in the index yet
            return looked
        if query.noted:
            await note_use(self._database, pinned.collection_id, pinned.life, now_s)
        if query.fuzzy and way.mode != "dense":
            with timed(timings, "fuzzy"):
                terms = pinned.asked[0]
                looked.corrections = await fuzzy.correct(self._database, pinned, terms, readers, self._clock.time())
        scope = _scope(principal.tenant_id, pinned, readers, user_filter)
        looked.legs = self._legs(principal, query, looked, scope, timings)

        async def accept(revision_ids: set[str]) -> Mapping[str, Visible]:
            with timed(timings, "accept"):
                return await snapshot.visible(self._database, pinned, revision_ids, readers, self._clock.time())

        looked.seen = await legs.run(looked.legs, accept, way.per_document)
        return looked

    async def _facets(
        self, query: Query, looked: _Looked, reasons: list[str], timings: dict[str, float]
    ) -> tuple[Sequence[Facet], Sequence[Suggestion]]:
        if not query.facets or looked.pinned.life.is_over(self._clock.time()):
            return (), ()
        about = self._database, looked.pinned, looked.readers, looked.filter
        try:
            with timed(timings, "facets"):
                counted = await facets.count(*about, query.facets, self._clock.time())
                return counted, await facets.suggest(*about, query.text, self._clock.time())
        except DependencyError as error:
            _log.warning("facets are left out", reason=str(error))
            reasons.append(f"facets could not be counted ({error})")
            return (), ()

    def _legs(
        self, principal: Principal, query: Query, looked: _Looked, scope: expression.Scope, timings: dict[str, float]
    ) -> list[Leg]:
        pinned, way = looked.pinned, looked.way
        texts = [query.text, *query.wordings, *([query.hypothetical] if query.hypothetical else [])]
        limit = max(_CANDIDATES, query.top_k)
        embedded: list[NDArray[np.float32]] = []

        async def dense(limit: int) -> list[list[Hit]]:
            if not embedded:
                with timed(timings, "embed"):
                    embedded.append(await self._embedded(principal, pinned, texts, anew=query.anew))
            with timed(timings, "dense"):
                return await self._index.search_dense(pinned.place, embedded[0], scope, limit)

        async def lexical(limit: int) -> list[list[Hit]]:
            similar = [{word: _SIMILAR for one in looked.corrections for word in one.replaced_by}]
            held = dict(
                chain.from_iterable(zip(one.replaced_by, one.chunks, strict=True) for one in looked.corrections)
            )
            frequencies = {**held, **pinned.frequencies}
            vectors = [
                bm25.query_vector(words, pinned.chunks, frequencies, also)
                for words, also in zip_longest(pinned.asked, similar)
            ]
            with timed(timings, "lexical"):
                return await self._index.search_sparse(pinned.place, vectors, scope, limit)

        chosen = []
        if way.mode != "lexical":
            chosen.append(Leg("dense", dense, limit))
        if way.mode != "dense":
            chosen.append(Leg("lexical", lexical, limit))
        return chosen

    async def _embedded(
        self, principal: Principal, pinned: Snapshot, texts: Sequence[str], *, anew: bool
    ) -> NDArray[np.float32]:
        space = Space(pinned.embedding_space, pinned.dimensions)

        async def embed(these: Sequence[str]) -> NDArray[np.float32]:
            return await self._embedder.embed(these, space, query=True, reach=principal.reach.narrowed(pinned.reach))

        if self._questions is None or anew:
            return await embed(texts)
        return await self._questions.embedded(principal, texts, space, embed)

    async def _arrange(
        self, query: Query, looked: _Looked, reasons: list[str], timings: dict[str, float]
    ) -> list[tuple[Hit, float]]:
        """Make one ranking of what the legs found.

        Args:
            reasons: why the answer is not all it could be; added to.

        Raises: what the legs raised, when none is left.
        """
        way = looked.way
        if reason := legs.degraded(looked.legs):
            reasons.append(reason)
        ranked = _fused(way, looked.legs)
        kept = ranked[: query.top_k]
        if way.rerank and kept:
            try:
                with timed(timings, "rerank"):
                    texts = [hit.text for hit, _ in kept]
                    scores = await self._reranker.scores(query.text, texts, query.rerank_deadline_s)
            except DependencyError as error:
                _log.warning("reranking is left out", reason=str(error))
                reasons.append(f"reranking is away ({error})")
            else:
                order = sorted(range(len(kept)), key=lambda at: -scores[at])
                ranked = [(kept[at][0], scores[at]) for at in order]
        if query.score_threshold is not None:
            ranked = [(hit, score) for hit, score in ranked if score >= query.score_threshold]
        most = query.rerank_top_n or query.top_k if way.rerank else query.top_k
        if way.mmr_lambda is not None and ranked:
            try:
                with timed(timings, "diversify"):
                    ranked = await self._diverse(looked.pinned, ranked[: max(_COMPARED, most)], way.mmr_lambda, most)
            except (DependencyError, IndexRefused) as error:
                _log.warning("diversity is left out", reason=str(error))
                reasons.append(f"passages that repeat others were not moved ({error})")
        return ranked[:most]

    async def _diverse(
        self, pinned: Snapshot, ranked: Sequence[tuple[Hit, float]], share: float, most: int
    ) -> list[tuple[Hit, float]]:
        vectors = await self._index.vectors(pinned.place, [hit.id for hit, _ in ranked])
        known = [(hit, score) for hit, score in ranked if hit.id in vectors]
        if not known:
            return list(ranked)
        stacked = np.stack([vectors[hit.id] for hit, _ in known])
        return [known[at] for at in diversity.order([score for _, score in known], stacked, share, most)]


def _fused(way: Way, running: Sequence[Leg]) -> list[tuple[Hit, float]]:
    answering = [leg for leg in running if leg.error is None]
    hits = {hit.id: hit for leg in answering for ranking in leg.rankings for hit in ranking}
    rankings = [
        Ranking([(hit.id, hit.score) for hit in ranking], way.fusion.weight(dense=leg.kind == "dense"))
        for leg in answering
        for ranking in leg.rankings
    ]
    fused = way.mode == "hybrid" or len(rankings) > 1
    scores = dict(fuse(rankings, way.fusion.method) if fused else rankings[0].items)
    return [(hit, scores[hit.id]) for hit in legs.thinned((hits[hit_id] for hit_id in scores), way.per_document)]


def _spelt(looked: _Looked, passages: Sequence[Passage]) -> list[Spelling]:
    if not looked.corrections:
        return []
    terms = {word for one in looked.corrections for word in one.replaced_by}
    written = fuzzy.spellings(terms, (passage.text for passage in passages), looked.pinned.language)
    return [
        Spelling(one.term, tuple(written.get(word, word) for word in one.replaced_by)) for one in looked.corrections
    ]


def _scope(
    tenant_id: str, pinned: Snapshot, readers: Sequence[str] | None, user_filter: expression.Filter | None
) -> expression.Scope:
    """What the index is asked for: of stale documents the catalog says whether they may be found."""
    chosen = [
        one.document_id
        for one in pinned.stale
        if (readers is None or not set(readers).isdisjoint(one.readers))
        and (user_filter is None or expression.holds(user_filter, one.metadata))
    ]
    stale = [one.document_id for one in pinned.stale]
    return expression.Scope(tenant_id, pinned.collection_id, readers, user_filter, stale, chosen)


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
        file_id=seen.file_id,
    )
