"""What is done with the rows of conversations within one transaction. Nobody else's rows are ever found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from api.conversations.items import Item
from api.conversations.metadata import is_text
from api.errors import ConversationFull, ConversationNotFound, ItemNotFound
from api.owner import owner_of
from core.ids import is_id
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from storage.schema import conversation_items, conversations

MAX_ITEMS = 10_000  # that are ever added to one conversation

Order = Literal["asc", "desc"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as its owner sees it.

    Attributes:
        reach: where all of it may go.
        items: how many were ever added.
    """

    id: str
    title: str | None
    metadata: dict[str, Any]
    reach: Reach
    items: int
    created_at: float
    updated_at: float


async def append(
    connection: AsyncConnection,
    principal: Principal,
    conversation_id: str,
    items: Sequence[Item],
    now: float,
    *,
    reach: Reach = ANYWHERE,
) -> None:
    """Add items in the caller's transaction; who adds at the same time waits for its end.

    Args:
        reach: where they may go, whoever the caller is.

    Raises: ConversationNotFound, ConversationFull.
    """
    row = await hold(connection, principal, conversation_id)
    if row.items + len(items) > MAX_ITEMS:
        raise ConversationFull(f"a conversation takes {MAX_ITEMS:,} items in its life; begin another one")
    rows = [
        {"conversation_id": row.id, "position": row.items + at, "id": item["id"], "item": item, "created_at": now}
        for at, item in enumerate(items)
    ]
    if rows:
        await connection.execute(conversation_items.insert(), rows)
    kept = Reach.read(row.reach).narrowed(reach).narrowed(principal.reach)
    await put(connection, row.id, items=row.items + len(rows), reach=kept.row(), updated_at=now)


def own(principal: Principal) -> sa.ColumnElement[bool]:
    """What the caller owns, and has not deleted."""
    return sa.and_(
        conversations.c.tenant_id == principal.tenant_id,
        conversations.c.owner == owner_of(principal),
        conversations.c.deleted_at.is_(None),
    )


def this(conversation_id: str, item_id: str) -> sa.ColumnElement[bool]:
    if not is_text(item_id):  # PostgreSQL would refuse the question
        return sa.false()
    return sa.and_(conversation_items.c.conversation_id == conversation_id, conversation_items.c.id == item_id)


async def _row(connection: AsyncConnection, principal: Principal, conversation_id: str, *, hold: bool) -> Any:
    statement = sa.select(conversations).where(conversations.c.id == conversation_id, own(principal))
    known = is_id(conversation_id, "conv")
    found = (
        (await connection.execute(statement.with_for_update() if hold else statement)).one_or_none() if known else None
    )
    if found is None:
        raise ConversationNotFound(f"there is no conversation {conversation_id[:100]!r}")
    return found


async def hold(connection: AsyncConnection, principal: Principal, conversation_id: str) -> Any:
    """Find it and hold it until the transaction ends. Raises: ConversationNotFound."""
    return await _row(connection, principal, conversation_id, hold=True)


async def find(connection: AsyncConnection, principal: Principal, conversation_id: str) -> Conversation:
    return as_conversation(await _row(connection, principal, conversation_id, hold=False))


async def put(connection: AsyncConnection, conversation_id: str, **values: Any) -> None:
    await connection.execute(conversations.update().where(conversations.c.id == conversation_id).values(**values))


async def position(connection: AsyncConnection, conversation_id: str, item_id: str) -> int:
    statement = sa.select(conversation_items.c.position).where(this(conversation_id, item_id))
    found: int | None = (await connection.execute(statement)).scalar_one_or_none()
    if found is None:
        raise ItemNotFound(f"there is no item {item_id[:100]!r} in this conversation; after names one of its items")
    return found


async def page(
    connection: AsyncConnection, conversation_id: str, after: int | None, limit: int, order: Order
) -> Sequence[Any]:
    place = conversation_items.c.position
    statement = sa.select(conversation_items).where(conversation_items.c.conversation_id == conversation_id)
    if after is not None:
        statement = statement.where(place > after if order == "asc" else place < after)
    statement = statement.order_by(place.asc() if order == "asc" else place.desc()).limit(limit)
    return (await connection.execute(statement)).all()


def as_conversation(row: Any) -> Conversation:
    return Conversation(
        id=row.id,
        title=row.title,
        metadata=row.metadata,
        reach=Reach.read(row.reach),
        items=row.items,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
