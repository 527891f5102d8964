"""The sweep of conversations: the keeper does it, as it forgets sessions.

The sweep of retrieval, which removes documents, knows nothing of what is kept for the gateway's own routes. Nobody
reads a hidden conversation any more, so no reader is waited for.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.schema import conversation_items, conversations
from storage.sql import Database

_SWEPT = 100  # conversations in one transaction


async def forget_deleted(database: Database) -> int:
    """Remove the rows of deleted conversations.

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
