"""Conversations and their items in SQL. Everything here is asked for by an owner, and nobody else's is ever found."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.conversations.history import size_of
from api.conversations.items import Item
from api.conversations.metadata import is_text
from api.errors import ConversationFull, ConversationNotFound, ItemNotFound
from api.owner import owner_of
from core.clock import Clock
from core.ids import new_id
from core.principal import Principal
from storage.schema import conversation_items, conversations
from storage.sql import Database

MAX_ITEMS = 10_000  # that are ever added to one conversation
_PAGE = 100
_SWEPT = 100  # conversations in one transaction of the sweep

Order = Literal["asc", "desc"]
Items = list[Item]


class Unset(enum.Enum):
    """Marks what a change leaves as it is."""

    UNSET = enum.auto()


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as its owner sees it.

    Attributes:
        local_only: something in it may not leave the house, so none of it does.
        items: how many were ever added.
    """

    id: str
    title: str | None
    metadata: dict[str, Any]
    local_only: bool
    items: int
    created_at: float
    updated_at: float


class Conversations:
    """Keeps what was said."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, principal: Principal, items: Sequence[Item], metadata: dict[str, Any], title: str | None = None
    ) -> Conversation:
        """Begin a conversation, with these items."""
        now = self._clock.time()
        conversation_id = new_id("conv")
        row = {
            "id": conversation_id,
            "tenant_id": principal.tenant_id,
            "owner": owner_of(principal),
            "title": title,
            "metadata": metadata,
            "local_only": principal.local_only,
            "items": 0,
            "created_at": now,
            "updated_at": now,
        }

        async def insert(connection: AsyncConnection) -> Conversation:
            await connection.execute(conversations.insert().values(row))
            await append(connection, principal, conversation_id, items, now)
            return await _find(connection, principal, conversation_id)

        return await self._database.write(insert)

    async def get(self, principal: Principal, conversation_id: str) -> Conversation:
        """Raises: ConversationNotFound."""
        return await self._database.read(lambda connection: _find(connection, principal, conversation_id))

    async def list(
        self, principal: Principal, after: str | None = None, limit: int = 20, order: Order = "desc"
    ) -> list[Conversation]:
        """The caller's own in order of creation, those behind the id `after`; at most `limit`."""
        own = conversations.c.id
        statement = sa.select(conversations).where(_own(principal)).limit(limit)
        if after is not None:
            statement = statement.where(own > after if order == "asc" else own < after)
        statement = statement.order_by(own.asc() if order == "asc" else own.desc())

        async def find(connection: AsyncConnection) -> list[Conversation]:
            return [_as_conversation(row) for row in await connection.execute(statement)]

        return await self._database.read(find)

    async def change(
        self,
        principal: Principal,
        conversation_id: str,
        *,
        metadata: dict[str, Any] | Unset = UNSET,
        title: str | Unset | None = UNSET,
    ) -> Conversation:
        """Change what is given. Raises: ConversationNotFound."""
        given = {"metadata": metadata, "title": title}
        values = {name: value for name, value in given.items() if value is not UNSET}

        async def update(connection: AsyncConnection) -> Conversation:
            await _hold(connection, principal, conversation_id)
            await _set(connection, conversation_id, **values, updated_at=self._clock.time())
            return await _find(connection, principal, conversation_id)

        return await self._database.write(update)

    async def delete(self, principal: Principal, conversation_id: str) -> None:
        """Hide it at once; the sweep removes its rows. Raises: ConversationNotFound."""

        async def hide(connection: AsyncConnection) -> None:
            await _hold(connection, principal, conversation_id)
            await _set(connection, conversation_id, deleted_at=self._clock.time())

        await self._database.write(hide)

    async def add(
        self, principal: Principal, conversation_id: str, items: Sequence[Item], *, local_only: bool = False
    ) -> None:
        """Add items at its end, all or none. Raises: ConversationNotFound, ConversationFull."""
        now = self._clock.time()
        await self._database.write(
            lambda connection: append(connection, principal, conversation_id, items, now, local_only=local_only)
        )

    async def items(
        self,
        principal: Principal,
        conversation_id: str,
        after: str | None = None,
        limit: int = 20,
        order: Order = "desc",
    ) -> Items:
        """Its items, those behind the item `after`; at most `limit`. Raises: ConversationNotFound, ItemNotFound."""

        async def find(connection: AsyncConnection) -> Items:
            await _find(connection, principal, conversation_id)
            position = None if after is None else await _position(connection, conversation_id, after)
            return [row.item for row in await _page(connection, conversation_id, position, limit, order)]

        return await self._database.read(find)

    async def item(self, principal: Principal, conversation_id: str, item_id: str) -> Item:
        """Raises: ConversationNotFound, ItemNotFound."""

        async def find(connection: AsyncConnection) -> Item:
            await _find(connection, principal, conversation_id)
            statement = sa.select(conversation_items.c.item).where(_this(conversation_id, item_id))
            found: Item | None = (await connection.execute(statement)).scalar_one_or_none()
            if found is None:
                raise ItemNotFound(f"there is no item {item_id[:100]!r} in this conversation")
            return found

        return await self._database.read(find)

    async def remove(self, principal: Principal, conversation_id: str, item_id: str) -> Conversation:
        """Take one item out. Raises: ConversationNotFound, ItemNotFound."""

        async def act(connection: AsyncConnection) -> Conversation:
            await _hold(connection, principal, conversation_id)
            result = await connection.execute(conversation_items.delete().where(_this(conversation_id, item_id)))
            if not result.rowcount:
                raise ItemNotFound(f"there is no item {item_id[:100]!r} in this conversation")
            await _set(connection, conversation_id, updated_at=self._clock.time())
            return await _find(connection, principal, conversation_id)

        return await self._database.write(act)

    async def newest(
        self, principal: Principal, conversation_id: str, most_bytes: int
    ) -> tuple[Conversation, Items, bool]:
        """The newest items that fit into so many bytes, the oldest of them first.

        Returns: the conversation, its items, and whether there are older ones.
        Raises: ConversationNotFound.
        """

        async def find(connection: AsyncConnection) -> tuple[Conversation, Items, bool]:
            conversation = await _find(connection, principal, conversation_id)
            found: Items = []
            position, used = None, 0
            while rows := await _page(connection, conversation_id, position, _PAGE, "desc"):
                position = rows[-1].position
                for row in rows:
                    used += size_of(row.item)
                    if used > most_bytes:
                        return conversation, found[::-1], True
                    found.append(row.item)
            return conversation, found[::-1], False

        return await self._database.read(find)


async def append(
    connection: AsyncConnection,
    principal: Principal,
    conversation_id: str,
    items: Sequence[Item],
    now: float,
    *,
    local_only: bool = False,
) -> None:
    """Add items in the caller's transaction; who adds at the same time waits for its end.

    Args:
        local_only: something of them may not leave the house, whoever the caller is.

    Raises: ConversationNotFound, ConversationFull.
    """
    row = await _hold(connection, principal, conversation_id)
    if row.items + len(items) > MAX_ITEMS:
        raise ConversationFull(f"a conversation takes {MAX_ITEMS:,} items in its life; begin another one")
    rows = [
        {"conversation_id": row.id, "position": row.items + at, "id": item["id"], "item": item, "created_at": now}
        for at, item in enumerate(items)
    ]
    if rows:
        await connection.execute(conversation_items.insert(), rows)
    kept = row.local_only or local_only or principal.local_only
    await _set(connection, row.id, items=row.items + len(rows), local_only=kept, updated_at=now)


async def forget_deleted(database: Database) -> int:
    """Remove the rows of deleted conversations.

    The keeper does this, as it forgets sessions: the sweep of retrieval, which removes documents, knows nothing of what
    is kept for the gateway's own routes. Nobody reads a hidden conversation any more, so no reader is waited for.

    Returns: how many were removed.
    Raises: DependencyError.
    """
    removed = 0
    while True:
        found = await database.write(_forget_some)
        removed += found
        if found < _SWEPT:
            return removed


async def _forget_some(connection: AsyncConnection) -> int:
    gone = sa.select(conversations.c.id).where(conversations.c.deleted_at.is_not(None)).limit(_SWEPT)
    ids = list((await connection.execute(gone)).scalars())
    if ids:
        await connection.execute(conversation_items.delete().where(conversation_items.c.conversation_id.in_(ids)))
        await connection.execute(conversations.delete().where(conversations.c.id.in_(ids)))
    return len(ids)


def _own(principal: Principal) -> sa.ColumnElement[bool]:
    """What the caller owns, and has not deleted."""
    return sa.and_(
        conversations.c.tenant_id == principal.tenant_id,
        conversations.c.owner == owner_of(principal),
        conversations.c.deleted_at.is_(None),
    )


def _this(conversation_id: str, item_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(conversation_items.c.conversation_id == conversation_id, conversation_items.c.id == item_id)


async def _row(connection: AsyncConnection, principal: Principal, conversation_id: str, *, hold: bool) -> Any:
    statement = sa.select(conversations).where(conversations.c.id == conversation_id, _own(principal))
    known = is_text(conversation_id)  # or PostgreSQL would refuse the question
    found = (
        (await connection.execute(statement.with_for_update() if hold else statement)).one_or_none() if known else None
    )
    if found is None:
        raise ConversationNotFound(f"there is no conversation {conversation_id[:100]!r}")
    return found


async def _hold(connection: AsyncConnection, principal: Principal, conversation_id: str) -> Any:
    """Find it and hold it until the transaction ends. Raises: ConversationNotFound."""
    return await _row(connection, principal, conversation_id, hold=True)


async def _find(connection: AsyncConnection, principal: Principal, conversation_id: str) -> Conversation:
    return _as_conversation(await _row(connection, principal, conversation_id, hold=False))


async def _set(connection: AsyncConnection, conversation_id: str, **values: Any) -> None:
    await connection.execute(conversations.update().where(conversations.c.id == conversation_id).values(**values))


async def _position(connection: AsyncConnection, conversation_id: str, item_id: str) -> int:
    statement = sa.select(conversation_items.c.position).where(_this(conversation_id, item_id))
    found: int | None = (await connection.execute(statement)).scalar_one_or_none()
    if found is None:
        raise ItemNotFound(f"there is no item {item_id[:100]!r} in this conversation; after names one of its items")
    return found


async def _page(
    connection: AsyncConnection, conversation_id: str, after: int | None, limit: int, order: Order
) -> Sequence[Any]:
    place = conversation_items.c.position
    statement = sa.select(conversation_items).where(conversation_items.c.conversation_id == conversation_id)
    if after is not None:
        statement = statement.where(place > after if order == "asc" else place < after)
    statement = statement.order_by(place.asc() if order == "asc" else place.desc()).limit(limit)
    return (await connection.execute(statement)).all()


def _as_conversation(row: Any) -> Conversation:
    return Conversation(
        id=row.id,
        title=row.title,
        metadata=row.metadata,
        local_only=row.local_only,
        items=row.items,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
