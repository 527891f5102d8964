"""Responses in SQL, for as long as they are kept. Everything is asked for by an owner, and nobody else's is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.conversations.history import size_of
from api.conversations.items import Item
from api.errors import PreviousNotFound, ResponseNotFound
from api.owner import owner_of
from core.clock import Clock
from core.ids import is_id
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from storage.schema import responses
from storage.sql import Database

_MOST_LINKS = 500  # of a chain of responses
_DAY_S = 86_400
_SWEPT = 500


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that is kept.

    Attributes:
        input: the items that were sent with it, without what came before.
        response: as clients see it, with all that they may ask for.
        reach: where all of it may go.
    """

    id: str
    previous_id: str | None
    conversation_id: str | None
    reach: Reach
    input: list[Item]
    response: dict[str, Any]


class Responses:
    """Keeps answers.

    Args:
        days: for which they are kept.
    """

    def __init__(self, database: Database, clock: Clock, days: float) -> None:
        self._database = database
        self._clock = clock
        self._days = days

    async def keep(self, connection: AsyncConnection, principal: Principal, stored: Stored) -> None:
        """Write one down in the caller's transaction."""
        now = self._clock.time()
        row = {
            "id": stored.id,
            "tenant_id": principal.tenant_id,
            "owner": owner_of(principal),
            "previous_id": stored.previous_id,
            "conversation_id": stored.conversation_id,
            "status": stored.response["status"],
            "reach": stored.reach.row(),
            "input": stored.input,
            "response": stored.response,
            "created_at": now,
            "expires_at": now + self._days * _DAY_S,
        }
        await connection.execute(responses.insert().values(row))

    async def get(self, principal: Principal, response_id: str) -> Stored:
        """Raises: ResponseNotFound."""
        return await self._database.read(lambda connection: self._find(connection, principal, response_id))

    async def delete(self, principal: Principal, response_id: str) -> None:
        """Hide it at once; the sweep removes its row. Raises: ResponseNotFound."""

        async def hide(connection: AsyncConnection) -> None:
            await self._find(connection, principal, response_id)
            this = responses.update().where(responses.c.id == response_id)
            await connection.execute(this.values(deleted_at=self._clock.time()))

        await self._database.write(hide)

    async def chain(self, principal: Principal, response_id: str, most_bytes: int) -> tuple[list[Item], Reach, bool]:
        """What was said up to and with this response, the oldest first, as far back as the bytes go.

        A chain ends where a response of it was deleted or has expired: nothing before it is shown to a model.

        Returns: the items, whether something of them may not leave the house, and whether there are older ones.
        Raises: PreviousNotFound: the response itself is not there.
        """

        async def walk(connection: AsyncConnection) -> tuple[list[Item], Reach, bool]:
            links: list[list[Item]] = []
            reach, used = ANYWHERE, 0
            next_id: str | None = response_id
            while next_id is not None and len(links) < _MOST_LINKS:
                try:
                    found = await self._find(connection, principal, next_id)
                except ResponseNotFound:
                    if next_id == response_id:
                        raise
                    break
                items = [*found.input, *found.response["output"]]
                used += sum(map(size_of, items))
                if used > most_bytes:
                    return _joined(links), reach, True
                links.append(items)
                reach = reach.narrowed(found.reach)
                next_id = found.previous_id
            return _joined(links), reach, len(links) == _MOST_LINKS

        try:
            return await self._database.read(walk)
        except ResponseNotFound as error:
            raise PreviousNotFound(str(error), "previous_response_id") from None

    async def _find(self, connection: AsyncConnection, principal: Principal, response_id: str) -> Stored:
        statement = sa.select(responses).where(
            responses.c.id == response_id,
            responses.c.tenant_id == principal.tenant_id,
            responses.c.owner == owner_of(principal),
            responses.c.deleted_at.is_(None),
            responses.c.expires_at > self._clock.time(),
        )
        row = (await connection.execute(statement)).one_or_none() if is_id(response_id, "resp") else None
        if row is None:
            raise ResponseNotFound(f"there is no response {response_id[:100]!r}; it was never kept, or is no longer")
        return Stored(row.id, row.previous_id, row.conversation_id, Reach.read(row.reach), row.input, row.response)


async def forget_gone(database: Database, clock: Clock) -> int:
    """Remove the rows of responses that were deleted or have expired; the keeper does this, as it forgets sessions.

    Returns: how many were removed.
    Raises: DependencyError.
    """

    async def forget(connection: AsyncConnection) -> int:
        gone = sa.or_(responses.c.deleted_at.is_not(None), responses.c.expires_at <= clock.time())
        ids = list((await connection.execute(sa.select(responses.c.id).where(gone).limit(_SWEPT))).scalars())
        if ids:
            await connection.execute(responses.delete().where(responses.c.id.in_(ids)))
        return len(ids)

    removed = 0
    while True:
        found = await database.write(forget)
        removed += found
        if found < _SWEPT:
            return removed


def _joined(links: Sequence[list[Item]]) -> list[Item]:
    return [item for link in reversed(links) for item in link]
