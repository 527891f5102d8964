"""Rank documents by a query: with a model made for it, or with the token vectors of an embedding model."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from inference import metrics
from inference.batcher import Batcher
from inference.embedder import AT_ONCE
from inference.loaded import Matrix
from inference.tokens import Cut, Tokenised, Tokeniser


@dataclass(frozen=True, slots=True)
class Ranked:
    """One request's result.

    Attributes:
        scores: one for each document, in input order; a greater one is better.
        tokens: tokens computed, special ones included.
        truncated: places of the documents that were cut.
    """

    scores: list[float]
    tokens: int
    truncated: list[int]


class Reranker(Protocol):
    """Both ways to rank."""

    async def rank(self, query: str, documents: Sequence[str], cut: Cut) -> Ranked:
        """Score documents.

        Raises:
            TextTooLong: of the documents, or of the query (place -1).
            Overloaded, Stopped: as `Batcher` does.
        """


class _Behind:
    """A model behind a batcher, with its tokeniser and a thread for that, which several models may share."""

    def __init__(self, batcher: Batcher, tokeniser: Tokeniser, tokenising: Executor) -> None:
        self._batcher = batcher
        self._tokeniser = tokeniser
        self._tokenising = tokenising


class CrossReranker(_Behind):
    """A cross-encoder: `inference.crossencoder.CrossEncoder` behind a batcher."""

    async def rank(self, query: str, documents: Sequence[str], cut: Cut) -> Ranked:
        loop = asyncio.get_running_loop()
        pairs = await loop.run_in_executor(self._tokenising, self._tokeniser.pairs, query, documents, cut)
        scores = await self._batcher.compute(pairs, urgent=len(documents) <= AT_ONCE)
        return _ranked([float(score) for score in scores], pairs)


@dataclass(frozen=True, slots=True)
class Against:
    """A document's tokens, and the query that they are held against; None: the query itself, of which vectors are
    wanted.
    """

    ids: list[int]
    query: Matrix | None


class Vectors(Protocol):
    """What knows token vectors: `inference.encoder.Encoder`."""

    def vectors(self, batch: Sequence[Tokenised]) -> list[Matrix]: ...


class LateModel:
    """Late interaction as a model: for a query its token vectors, for a document one score.

    The score is the mean, over the query's tokens, of the cosine with the nearest of the document's tokens: from -1
    to 1. Source: ColBERT, https://arxiv.org/abs/2004.12832, of which the sum is divided by the number of tokens.
    """

    def __init__(self, encoder: Vectors) -> None:
        self._encoder = encoder

    def compute(self, batch: Sequence[Against]) -> list[Any]:
        vectors = self._encoder.vectors([Tokenised(one.ids) for one in batch])
        return [
            row if one.query is None else float(np.mean(np.max(one.query @ row.T, axis=1)))
            for one, row in zip(batch, vectors, strict=True)
        ]


class LateReranker(_Behind):
    """Late interaction over the token vectors of an embedding model: `LateModel` behind a batcher."""

    async def rank(self, query: str, documents: Sequence[str], cut: Cut) -> Ranked:
        loop = asyncio.get_running_loop()
        asked, *tokenised = await loop.run_in_executor(self._tokenising, self._both, query, documents, cut)
        (vectors,) = await self._batcher.compute([Against(asked.ids, None)], urgent=True)
        inner = vectors[1:-1] if len(vectors) > 2 else vectors  # the special tokens say nothing of the query
        urgent = len(documents) <= AT_ONCE
        scores = await self._batcher.compute([Against(row.ids, inner) for row in tokenised], urgent=urgent)
        ranked = _ranked(scores, tokenised)
        return Ranked(ranked.scores, ranked.tokens + len(asked.ids), ranked.truncated)

    def _both(self, query: str, documents: Sequence[str], cut: Cut) -> list[Tokenised]:
        (asked,) = self._tokeniser.texts([query], first=-1)
        return [asked, *self._tokeniser.texts(documents, "", cut)]


def _ranked(scores: list[float], tokenised: Sequence[Tokenised]) -> Ranked:
    truncated = [at for at, row in enumerate(tokenised) if row.truncated]
    metrics.TRUNCATED.inc(len(truncated))
    return Ranked(scores, sum(len(row.ids) for row in tokenised), truncated)
