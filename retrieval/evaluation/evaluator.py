"""Runs judged questions through ways of searching, and says how good each is and which differ."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from core.clock import Clock
from core.principal import Principal
from retrieval.access import live, may_read, reads_as
from retrieval.collections import Collections
from retrieval.errors import InputInvalid
from retrieval.evaluation.measures import DEPTH, MEASURES
from retrieval.evaluation.statistics import Difference, Mean, compare, mean_of
from retrieval.evaluation.tuning import Tuning, choose
from retrieval.query import Query
from retrieval.rows import fetch
from retrieval.search import Passage, Searcher
from storage.schema import documents
from storage.sql import Database

MAX_QUESTIONS = 2000
MAX_PIPELINES = 16
MAX_SEARCHES = 6000
_EXAMPLES = 5
_METADATA = "metadata."


@dataclass(frozen=True, slots=True)
class Judged:
    """A question with the grades of documents that were judged for it; at least one is relevant."""

    id: str
    text: str
    grades: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A way of searching, under a name; `query` says everything but collection, text and depth."""

    name: str
    query: Query


@dataclass(frozen=True, slots=True)
class Score:
    """What one pipeline is worth.

    Attributes:
        measures: by the names of `measures.MEASURES`, over all questions.
        questions: for each measure, each question's value in the order of the questions.
        p50_ms, p99_ms: of one search, one after the other.
        degraded: questions for which a part of the search was away; the figures are then of something else.
    """

    name: str
    measures: Mapping[str, Mean]
    questions: Mapping[str, Sequence[float]]
    p50_ms: float
    p99_ms: float
    degraded: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two pipelines, by the first measure."""

    first: str
    second: str
    difference: Difference


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A table, and what to know of it.

    Attributes:
        versions: of the collection, lowest and highest: equal unless it was changed meanwhile.
        missing: judged documents that the caller can't find in the collection; some of their names.
    """

    questions: Sequence[Judged]
    scores: Sequence[Score]
    comparisons: Sequence[Comparison]
    versions: tuple[int, int]
    missing: int
    missing_examples: Sequence[str]


@dataclass(frozen=True, slots=True)
class Progress:
    """So many of all searches are done."""

    done: int
    of: int


class Evaluator:
    """Evaluates one collection at a time, as its caller would search it."""

    def __init__(self, database: Database, collections: Collections, searcher: Searcher, clock: Clock) -> None:
        self._database = database
        self._collections = collections
        self._searcher = searcher
        self._clock = clock

    async def run(
        self,
        principal: Principal,
        collection: str,
        questions: Sequence[Judged],
        pipelines: Sequence[Pipeline],
        judged_by: str = "filename",
    ) -> AsyncGenerator[Progress | Evaluation, None]:
        """Search each question by each pipeline; the last thing that comes is the evaluation.

        A document stands where its best passage stands.

        Args:
            judged_by: what judgements call a document by: `filename`, `id`, or `metadata.` and a name.

        Raises:
            CollectionNotFound
            InputInvalid: nothing to evaluate, too much of it, or judgements of documents of which none is there.
            DependencyError: SQL is away, or all of a search.
        """
        check(questions, pipelines, judged_by)
        await self._collections.get(principal, collection)
        missing = await self._missing(principal, collection, questions, judged_by)
        total = len(questions) * len(pipelines)
        versions: list[int] = []
        scores: list[Score] = []
        for number, pipeline in enumerate(pipelines):
            rankings: list[list[str]] = []
            took_ms: list[float] = []
            degraded = 0
            for at, question in enumerate(questions):
                asked = replace(
                    pipeline.query,
                    collection=collection,
                    text=question.text,
                    top_k=DEPTH,
                    way={**pipeline.query.way, "per_document": 1},
                )
                began_s = self._clock.monotonic()
                result = await self._searcher.search(principal, asked)
                took_ms.append((self._clock.monotonic() - began_s) * 1000)
                versions.append(result.collection_version)
                degraded += result.degraded
                rankings.append(list(dict.fromkeys(_key(passage, judged_by) for passage in result.passages)))
                yield Progress(number * len(questions) + at + 1, total)
            scores.append(_score(pipeline.name, questions, rankings, took_ms, degraded))
        yield Evaluation(
            questions=questions,
            scores=scores,
            comparisons=_comparisons(scores),
            versions=(min(versions), max(versions)),
            missing=len(missing),
            missing_examples=sorted(missing)[:_EXAMPLES],
        )

    async def tune(
        self, principal: Principal, collection: str, questions: Sequence[Judged], judged_by: str = "filename"
    ) -> AsyncGenerator[Progress | Tuning, None]:
        """Choose how hybrid search fuses in this collection; the last thing that comes is what was chosen.

        Raises: as `run` does; SpaceMismatch, DependencyError: a leg is away.
        """
        check(questions, [Pipeline("hybrid", Query("", ""))], judged_by)
        await self._missing(principal, collection, questions, judged_by)
        found = []
        for at, question in enumerate(questions):
            query = Query(collection, question.text, DEPTH, mode="hybrid", way={"per_document": 1})
            legs = await self._searcher.rankings(principal, query)
            found.append({leg: [_told(passage, judged_by) for passage in some] for leg, some in legs.items()})
            yield Progress(at + 1, len(questions))
        yield choose(found, [question.grades for question in questions])

    async def _missing(
        self, principal: Principal, collection: str, questions: Sequence[Judged], judged_by: str
    ) -> set[str]:
        """Relevant documents that the caller could not find whatever the search.

        Raises: InputInvalid: that is all of them.
        """
        found = await self._collections.get(principal, collection)
        statement = sa.select(documents.c.id, documents.c.filename, documents.c.metadata).where(
            documents.c.collection_id == found.id,
            documents.c.revision_id.is_not(None),
            live(self._clock.time()),
            may_read(reads_as(principal)),
        )
        there = {_name(row.id, row.filename, row.metadata, judged_by) for row in await fetch(self._database, statement)}
        wanted = {name for question in questions for name, grade in question.grades.items() if grade > 0}
        missing = wanted - there
        if missing == wanted:
            some = ", ".join(repr(name) for name in sorted(name for name in there if name)[:3]) or "nothing"
            raise InputInvalid(
                "judged_by",
                f"None of the judged documents is in the collection: by {judged_by} there is {some}; judgements name "
                f"{', '.join(repr(name) for name in sorted(wanted)[:3])}. Say with judged_by what they are called by: "
                "filename, id, or metadata.NAME.",
            )
        return missing


def check(questions: Sequence[Judged], pipelines: Sequence[Pipeline], judged_by: str) -> None:
    """Raises: InputInvalid: nothing to evaluate, or too much of it."""
    if not questions or len(questions) > MAX_QUESTIONS:
        raise InputInvalid("queries", f"An evaluation has 1 to {MAX_QUESTIONS:,} questions.")
    if not pipelines or len(pipelines) > MAX_PIPELINES:
        raise InputInvalid("pipelines", f"An evaluation has 1 to {MAX_PIPELINES} pipelines.")
    if len(questions) * len(pipelines) > MAX_SEARCHES:
        raise InputInvalid("pipelines", f"An evaluation makes at most {MAX_SEARCHES:,} searches: ask in parts.")
    if len({pipeline.name for pipeline in pipelines}) < len(pipelines):
        raise InputInvalid("pipelines", "Two pipelines have one name.")
    if len({question.id for question in questions}) < len(questions):
        raise InputInvalid("queries", "Two questions have one id.")
    for question in questions:
        if not any(grade > 0 for grade in question.grades.values()):
            raise InputInvalid("qrels", f"The question {question.id!r} has no relevant document: leave it out.")
    if judged_by not in ("filename", "id") and judged_by.removeprefix(_METADATA) in ("", judged_by):
        raise InputInvalid("judged_by", "judged_by is filename, id, or metadata. and the name of a metadata field.")


def _key(passage: Passage, judged_by: str) -> str:
    return _name(passage.document_id, passage.filename, passage.metadata, judged_by) or passage.document_id


def _name(document_id: str, filename: str, metadata: Mapping[str, Any], judged_by: str) -> str | None:
    if judged_by == "id":
        return document_id
    if judged_by == "filename":
        return filename
    value = metadata.get(judged_by.removeprefix(_METADATA))
    return None if value is None else str(value)


def _told(passage: Passage, judged_by: str) -> tuple[str, float, str]:
    return f"{passage.revision_id}/{passage.start}", passage.score, _key(passage, judged_by)


def _score(
    name: str, questions: Sequence[Judged], rankings: Sequence[Sequence[str]], took_ms: Sequence[float], degraded: int
) -> Score:
    values = {
        measure: [of(ranked, question.grades) for ranked, question in zip(rankings, questions, strict=True)]
        for measure, of in MEASURES.items()
    }
    p50_ms, p99_ms = np.percentile(took_ms, [50, 99])
    means = {measure: mean_of(some) for measure, some in values.items()}
    return Score(name, means, values, float(p50_ms), float(p99_ms), degraded)


def _comparisons(scores: Sequence[Score]) -> list[Comparison]:
    """Each pipeline with the first one."""
    measure = next(iter(MEASURES))
    first = scores[0]
    return [
        Comparison(first.name, other.name, compare(first.questions[measure], other.questions[measure]))
        for other in scores[1:]
    ]
