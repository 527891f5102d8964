"""Judged sets by which collections are evaluated every day, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.ids import new_id
from core.principal import Principal
from retrieval import lifecycle
from retrieval.called import of_tenant
from retrieval.errors import CollectionNotFound, EvaluationNotFound, InputInvalid
from retrieval.evaluation.evaluator import Evaluation, Judged, Pipeline, check
from retrieval.evaluation.measures import DEPTH
from retrieval.query import Query
from storage.schema import collections, daily_evaluations, evaluations
from storage.sql import Database

# As the collection is searched where a search says nothing else; to be looked at is no use of it.
USUAL = Pipeline("usual", Query("", "", DEPTH, noted=False))
Outcome = Literal["whole", "degraded", "failed"]


@dataclass(frozen=True, slots=True)
class Result:
    """One day's evaluation.

    Attributes:
        outcome: `degraded`: a part of the search was away for some questions, so the figures are of something else;
            `failed`: there are none, for the `reason`.
        figures: as `figures_of` writes them.
        at: when it ended, in seconds since the epoch.
    """

    id: str
    outcome: Outcome
    reason: str | None
    figures: dict[str, Any] | None
    at: float


@dataclass(frozen=True, slots=True)
class Setting:
    """That a collection is evaluated every day. Times are seconds since the epoch.

    Attributes:
        questions: how many there are.
        last: the last whole evaluation by this set.
    """

    collection: str
    questions: int
    judged_by: str
    created_by: str
    created_at: float
    due_at: float
    last: Result | None


class DailyEvaluations:
    """Switches them on and off, and tells of them. Raises everywhere: CollectionNotFound; DependencyError."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def put(self, principal: Principal, collection: str, questions: Sequence[Judged], judged_by: str) -> Setting:
        """Evaluate a collection by this set every day, now for the first time; an earlier set is forgotten.

        It is searched as by a manager of its tenant, whose text goes no further than the caller's.

        Raises: InputInvalid: there is nothing to evaluate, or too much, or what no database takes.
        """
        check(questions, [USUAL], judged_by)
        _check_texts(questions, judged_by)
        now = self._clock.time()
        row: dict[str, Any] = {
            "tenant_id": principal.tenant_id,
            "questions": [{**asdict(one), "grades": dict(one.grades)} for one in questions],
            "judged_by": judged_by,
            "reach": principal.reach.row(),
            "created_by": f"key:{principal.key_id}" if principal.user_id is None else f"user:{principal.user_id}",
            "created_at": now,
            "due_at": now,
            "last_id": None,
            "worker": None,
            "lease_until": None,
        }

        async def write(connection: AsyncConnection) -> Setting:
            found = await lifecycle.lock_collection(connection, principal.tenant_id, collection, now)
            insert = self._database.upsert(daily_evaluations).values(collection_id=found.id, fence=0, **row)
            # Whoever works by the set before loses its lease.
            moved = {**row, "fence": daily_evaluations.c.fence + 1}
            await connection.execute(insert.on_conflict_do_update(index_elements=["collection_id"], set_=moved))
            return await _setting(connection, principal.tenant_id, collection)

        return await self._database.write(write)

    async def get(self, principal: Principal, collection: str) -> Setting:
        """Raises: EvaluationNotFound: it is not evaluated."""
        return await self._database.read(lambda connection: _setting(connection, principal.tenant_id, collection))

    async def remove(self, principal: Principal, collection: str) -> None:
        """Evaluate it no more; what came of it so far stays. Raises: EvaluationNotFound: it is not evaluated."""

        async def delete(connection: AsyncConnection) -> None:
            this = daily_evaluations.c.collection_id == await _id_of(connection, principal.tenant_id, collection)
            if not (await connection.execute(daily_evaluations.delete().where(this))).rowcount:
                raise EvaluationNotFound(collection)

        await self._database.write(delete)

    async def results(self, principal: Principal, collection: str, after: str | None, limit: int) -> Sequence[Result]:
        """What came of it, the newest first, those behind the id `after`; at most `limit`."""

        async def find(connection: AsyncConnection) -> Sequence[Result]:
            collection_id = await _id_of(connection, principal.tenant_id, collection)
            query = sa.select(evaluations).where(evaluations.c.collection_id == collection_id)
            if after is not None:
                query = query.where(evaluations.c.id < after)
            rows = await connection.execute(query.order_by(evaluations.c.id.desc()).limit(limit))
            return [_result(row) for row in rows]

        return await self._database.read(find)


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    """What is kept of an evaluation: each measure with its 95 % interval over the questions."""
    (score,) = evaluation.scores
    return {
        "questions": len(evaluation.questions),
        "collection_version": evaluation.versions[1],
        "missing_documents": evaluation.missing,
        "degraded_queries": score.degraded,
        "measures": {name: _rounded(asdict(mean)) for name, mean in score.measures.items()},
        "search_ms": {"p50": round(score.p50_ms, 1), "p99": round(score.p99_ms, 1)},
    }


def new_result(outcome: Outcome, reason: str | None, figures: dict[str, Any] | None, at: float) -> Result:
    """A result with an id of its own."""
    return Result(new_id("eval"), outcome, reason, figures, at)


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


async def _id_of(connection: AsyncConnection, tenant_id: str, collection: str) -> str:
    found: str | None = await connection.scalar(sa.select(collections.c.id).where(of_tenant(tenant_id, collection)))
    if found is None:
        raise CollectionNotFound(collection)
    return found


async def _setting(connection: AsyncConnection, tenant_id: str, collection: str) -> Setting:
    collection_id = await _id_of(connection, tenant_id, collection)
    query = sa.select(daily_evaluations).where(daily_evaluations.c.collection_id == collection_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise EvaluationNotFound(collection)
    last = (await connection.execute(sa.select(evaluations).where(evaluations.c.id == row.last_id))).one_or_none()
    return Setting(
        collection=collection,
        questions=len(row.questions),
        judged_by=row.judged_by,
        created_by=row.created_by,
        created_at=row.created_at,
        due_at=row.due_at,
        last=None if last is None else _result(last),
    )


def _result(row: Any) -> Result:
    return Result(row.id, row.outcome, row.reason, row.result, row.at)


def _check_texts(questions: Sequence[Judged], judged_by: str) -> None:
    for text in (judged_by, *(text for one in questions for text in (one.id, one.text, *one.grades))):
        if any(char == "\0" or 0xD800 <= ord(char) < 0xE000 for char in text):
            raise InputInvalid("queries", "A text of the judged set holds a zero byte or half of a sign.")
