"""Conversations and their items in SQL, as their owner sees them."""

import enum
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.conversations import rows
from api.conversations.history import size_of
from api.conversations.items import Item
from api.conversations.rows import Conversation, Order
from api.errors import ItemNotFound
from api.owner import owner_of
from core.clock import Clock
from core.ids import new_id
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from storage.schema import conversation_items, conversations
from storage.sql import Database

_PAGE = 100

Items = list[Item]


class Unset(enum.Enum):
    """Marks what a change leaves as it is."""

    UNSET = enum.auto()


UNSET = Unset.UNSET


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
            "reach": principal.reach.row(),
            "items": 0,
            "created_at": now,
            "updated_at": now,
        }

        async def insert(connection: AsyncConnection) -> Conversation:
            await connection.execute(conversations.insert().values(row))
            await rows.append(connection, principal, conversation_id, items, now)
            return await rows.find(connection, principal, conversation_id)

        return await self._database.write(insert)

    async def get(self, principal: Principal, conversation_id: str) -> Conversation:
        """Raises: ConversationNotFound."""
        return await self._database.read(lambda connection: rows.find(connection, principal, conversation_id))

    async def list(
        self, principal: Principal, after: str | None = None, limit: int = 20, order: Order = "desc"
    ) -> list[Conversation]:
        """The caller's own in order of creation, those behind the id `after`; at most `limit`."""
        made = conversations.c.id
        statement = sa.select(conversations).where(rows.own(principal)).limit(limit)
        if after is not None:
            statement = statement.where(made > after if order == "asc" else made < after)
        statement = statement.order_by(made.asc() if order == "asc" else made.desc())

        async def find(connection: AsyncConnection) -> list[Conversation]:
            return [rows.as_conversation(row) for row in await connection.execute(statement)]

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
            await rows.hold(connection, principal, conversation_id)
            await rows.put(connection, conversation_id, **values, updated_at=self._clock.time())
            return await rows.find(connection, principal, conversation_id)

        return await self._database.write(update)

    async def delete(self, principal: Principal, conversation_id: str) -> None:
        """Hide it at once; the sweep removes its rows. Raises: ConversationNotFound."""

        async def hide(connection: AsyncConnection) -> None:
            await rows.hold(connection, principal, conversation_id)
            await rows.put(connection, conversation_id, deleted_at=self._clock.time())

        await self._database.write(hide)

    async def add(
        self, principal: Principal, conversation_id: str, items: Sequence[Item], *, reach: Reach = ANYWHERE
    ) -> None:
        """Add items at its end, all or none. Raises: ConversationNotFound, ConversationFull."""
        now = self._clock.time()
        await self._database.write(
            lambda connection: rows.append(connection, principal, conversation_id, items, now, reach=reach)
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
            await rows.find(connection, principal, conversation_id)
            at = None if after is None else await rows.position(connection, conversation_id, after)
            return [row.item for row in await rows.page(connection, conversation_id, at, limit, order)]

        return await self._database.read(find)

    async def item(self, principal: Principal, conversation_id: str, item_id: str) -> Item:
        """Raises: ConversationNotFound, ItemNotFound."""

        async def find(connection: AsyncConnection) -> Item:
            await rows.find(connection, principal, conversation_id)
            statement = sa.select(conversation_items.c.item).where(rows.this(conversation_id, item_id))
            found: Item | None = (await connection.execute(statement)).scalar_one_or_none()
            if found is None:
                raise ItemNotFound(f"there is no item {item_id[:100]!r} in this conversation")
            return found

        return await self._database.read(find)

    async def remove(self, principal: Principal, conversation_id: str, item_id: str) -> Conversation:
        """Take one item out. Raises: ConversationNotFound, ItemNotFound."""

        async def act(connection: AsyncConnection) -> Conversation:
            await rows.hold(connection, principal, conversation_id)
            result = await connection.execute(conversation_items.delete().where(rows.this(conversation_id, item_id)))
            if not result.rowcount:
                raise ItemNotFound(f"there is no item {item_id[:100]!r} in this conversation")
            await rows.put(connection, conversation_id, updated_at=self._clock.time())
            return await rows.find(connection, principal, conversation_id)

        return await self._database.write(act)

    async def newest(
        self, principal: Principal, conversation_id: str, most_bytes: int
    ) -> tuple[Conversation, Items, bool]:
        """The newest items that fit into so many bytes, the oldest of them first.

        Returns: the conversation, its items, and whether there are older ones.
        Raises: ConversationNotFound.
        """

        async def find(connection: AsyncConnection) -> tuple[Conversation, Items, bool]:
            conversation = await rows.find(connection, principal, conversation_id)
            found: Items = []
            at, used = None, 0
            while found_rows := await rows.page(connection, conversation_id, at, _PAGE, "desc"):
                at = found_rows[-1].position
                for row in found_rows:
                    used += size_of(row.item)
                    if used > most_bytes:
                        return conversation, found[::-1], True
                    found.append(row.item)
            return conversation, found[::-1], False

        return await self._database.read(find)
