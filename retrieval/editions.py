"""What of a collection a kept answer depends on: while its edition is the same, the answer would be, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from core.clock import Clock
from core.principal import Principal
from retrieval.called import of_tenant
from retrieval.errors import CollectionNotFound
from retrieval.expiry import note_use
from retrieval.life import Life
from storage.schema import collections, documents
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class Edition:
    """Of a collection, as one reader meets it.

    Attributes:
        version: rises with each change of what is found, or of who may find it.
        answers: what it says of answers from it, and the version of its template.
        ends_at: when the first of its documents expires, in seconds since 1970; None: none does.
    """

    collection_id: str
    version: int
    answers: tuple[Mapping[str, Any], int]
    ends_at: float | None = None

    def lasts_s(self, at_most_s: float, now_s: float) -> float:
        """For how long what was made from it may be kept: nothing outlives a document that may be in it."""
        return at_most_s if self.ends_at is None else min(at_most_s, self.ends_at - now_s)


async def edition_of(database: Database, principal: Principal, name: str, clock: Clock) -> Edition | None:
    """The edition of now, and a note that the collection is being used; None: it has expired.

    Raises: CollectionNotFound; DependencyError: SQL is away.
    """
    now_s = clock.time()
    first_end = (
        sa.select(sa.func.min(documents.c.expires_at))
        .where(
            documents.c.collection_id == collections.c.id,
            documents.c.deleted_at.is_(None),
            documents.c.expires_at > now_s,
        )
        .scalar_subquery()
    )
    statement = sa.select(collections, first_end.label("first_end")).where(of_tenant(principal.tenant_id, name))

    async def find(connection: AsyncConnection) -> Any:
        return (await connection.execute(statement)).one_or_none()

    row = await database.read(find)
    if row is None:
        raise CollectionNotFound(name)
    life = Life.of(row)
    if life.is_over(now_s):
        return None
    await note_use(database, row.id, life, now_s)
    return Edition(row.id, row.version, (row.answers, row.prompt_version), row.first_end)
