"""Feedback in SQL: one word of each reader on each answer of their tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import RequestNotFound
from api.ledger.reports import day_named, days_since_epoch
from api.ledger.requests import ASKED_SIGNS
from core.clock import Clock
from core.ids import new_id
from core.principal import Principal
from retrieval.errors import CollectionNotFound
from storage.schema import collections, feedback, ledger, ledger_asked
from storage.sql import Database

Rating = Literal["up", "down"]

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Word:
    """What one reader said of one answer. Times are seconds since the epoch.

    Attributes:
        request_id: the answer's `x-request-id`.
        who: the reader's user, or else their key.
        model: the model group that answered.
        collection: its name.
    """

    id: str
    request_id: str
    who: str
    rating: Rating
    comment: str | None
    model: str
    collection: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Count:
    """Words on answers of one model group, given first on one day (UTC)."""

    day: str
    model: str
    up: int
    down: int


@dataclass(frozen=True, slots=True)
class Only:
    """Which words are asked for; None: all."""

    rating: Rating | None = None
    model: str | None = None
    collection: str | None = None


class Feedback:
    """Takes words and tells of them. Raises everywhere: DependencyError: SQL is away."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def give(
        self, principal: Principal, request_id: str, rating: Rating, comment: str | None, collection: str | None
    ) -> Word:
        """Keep a word; it takes the place of the same reader's earlier one.

        Raises:
            RequestNotFound: no line of the caller's tenant in the ledger is of this request.
            CollectionNotFound
        """
        now = self._clock.time()
        who, request_id = principal.who, request_id[:ASKED_SIGNS]

        async def write(connection: AsyncConnection) -> Word:
            model = await _answered_by(connection, principal.tenant_id, request_id)
            said: dict[str, Any] = {
                "rating": rating,
                "comment": comment,
                "collection_id": await _collection_id(connection, principal.tenant_id, collection),
                "model_group": model,
                "updated_at": now,
            }
            named = {"tenant_id": principal.tenant_id, "request_id": request_id, "who": who}
            insert = self._database.upsert(feedback).values(id=new_id("fb"), created_at=now, **named, **said)
            await connection.execute(insert.on_conflict_do_update(index_elements=list(named), set_=said))
            this = (feedback.c[name] == value for name, value in named.items())
            return _word((await connection.execute(_words(principal.tenant_id).where(*this))).one())

        return await self._database.write(write)

    async def page(self, tenant_id: str, only: Only, after: str | None, limit: int) -> Sequence[Word]:
        """A tenant's words, the newest first, those behind the id `after`; at most `limit`."""
        statement = _words(tenant_id).order_by(feedback.c.id.desc()).limit(limit)
        if after is not None:
            statement = statement.where(feedback.c.id < after)
        if only.rating is not None:
            statement = statement.where(feedback.c.rating == only.rating)
        if only.model is not None:
            statement = statement.where(feedback.c.model_group == only.model)
        if only.collection is not None:
            statement = statement.where(collections.c.name == only.collection)

        async def find(connection: AsyncConnection) -> Sequence[Word]:
            return [_word(row) for row in await connection.execute(statement)]

        return await self._database.read(find)

    async def counts(self, tenant_id: str, days: int) -> Sequence[Count]:
        """Ups and downs of the last `days` days, today included, by day and model group; the oldest day first."""
        today = self._clock.time() // _DAY_S
        day = days_since_epoch(self._database, feedback.c.created_at)
        sums = (sa.func.sum(sa.case((feedback.c.rating == word, 1), else_=0)) for word in ("up", "down"))
        statement = (
            sa.select(day, feedback.c.model_group, *sums)
            .where(feedback.c.tenant_id == tenant_id, feedback.c.created_at >= (today - days + 1) * _DAY_S)
            .group_by(day, feedback.c.model_group)
            .order_by(day, feedback.c.model_group)
        )

        async def find(connection: AsyncConnection) -> Sequence[Count]:
            rows = await connection.execute(statement)
            return [Count(day_named(number), model, int(up), int(down)) for number, model, up, down in rows]

        return await self._database.read(find)


async def _answered_by(connection: AsyncConnection, tenant_id: str, request_id: str) -> str:
    """The model group of a request's newest line."""
    query = (
        sa.select(ledger.c.model_group)
        .where(ledger.c.tenant_id == tenant_id, ledger_asked == request_id)
        .order_by(ledger.c.at.desc())
        .limit(1)
    )
    found: str | None = await connection.scalar(query)
    if found is None:
        raise RequestNotFound(
            f"no answer of a model to {request_id!r} is known here: send the x-request-id of the answer, and where "
            "that is younger than a few seconds, send this again in a moment",
            "request_id",
        )
    return found


async def _collection_id(connection: AsyncConnection, tenant_id: str, name: str | None) -> str | None:
    if name is None:
        return None
    query = sa.select(collections.c.id).where(collections.c.tenant_id == tenant_id, collections.c.live_name == name)
    found: str | None = await connection.scalar(query)
    if found is None:
        raise CollectionNotFound(name)
    return found


def _words(tenant_id: str) -> sa.Select[*tuple[Any, ...]]:
    named = collections.c.name.label("collection")
    return (
        sa.select(feedback, named)
        .outerjoin(collections, collections.c.id == feedback.c.collection_id)
        .where(feedback.c.tenant_id == tenant_id)
    )


def _word(row: Any) -> Word:
    return Word(
        id=row.id,
        request_id=row.request_id,
        who=row.who,
        rating=row.rating,
        comment=row.comment,
        model=row.model_group,
        collection=row.collection,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
