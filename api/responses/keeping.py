"""What a response goes on from, and what is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from api.conversations.items import Item
from api.conversations.rows import MAX_ITEMS, append
from api.conversations.store import Conversations
from api.errors import ContextTooLong, ConversationFull, ConversationNotFound
from api.responses.request import Asked
from api.responses.store import Responses, Stored
from core.clock import Clock
from core.principal import Principal
from core.reach import ANYWHERE, Reach
from monitoring.logs import logger
from storage.sql import Database

_MOST_EARLIER = 4 * 1024 * 1024  # bytes of what was said before: more than any model reads
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Earlier:
    """What came before a request, and where all of it may go."""

    items: Sequence[Item] = ()
    reach: Reach = ANYWHERE


class Keeper:
    """Keeps a response, and adds it to its conversation, in one transaction."""

    def __init__(self, database: Database, conversations: Conversations, responses: Responses, clock: Clock) -> None:
        self._database = database
        self._conversations = conversations
        self._responses = responses
        self._clock = clock

    async def earlier(self, principal: Principal, asked: Asked) -> Earlier:
        """What a request goes on from.

        Raises: PreviousNotFound, ConversationNotFound, ConversationFull; ContextTooLong: it is more than is read.
        """
        if asked.previous_id is not None:
            items, reach, more = await self._responses.chain(principal, asked.previous_id, _MOST_EARLIER)
        elif asked.conversation_id is not None:
            conversation, items, more = await self._conversations.newest(
                principal, asked.conversation_id, _MOST_EARLIER
            )
            reach = conversation.reach
            if conversation.items + len(asked.input) >= MAX_ITEMS:
                raise ConversationFull("this conversation is full; begin another one", "conversation")
        else:
            return Earlier()
        if more and asked.truncation == "disabled":
            raise ContextTooLong("more was said before than any model reads; send truncation: auto", "truncation")
        return Earlier(items, reach)

    async def keep(self, principal: Principal, asked: Asked, response: dict[str, Any], *, reach: Reach) -> None:
        """Write down an answer that has ended; what failed is added to no conversation.

        Raises: DependencyError: SQL is away; nothing was kept.
        """
        items = [*asked.input, *response["output"]]
        stored = Stored(
            str(response["id"]), asked.previous_id, asked.conversation_id, reach, list(asked.input), dict(response)
        )
        adds = asked.conversation_id if response["status"] != "failed" else None

        async def write(connection: AsyncConnection, conversation_id: str | None = adds) -> None:
            if conversation_id is not None:
                now = self._clock.time()
                await append(connection, principal, conversation_id, items, now, reach=reach)
            if asked.store:
                await self._responses.keep(connection, principal, stored)

        if adds is None and not asked.store:
            return
        try:
            await self._database.write(write)
        except (ConversationNotFound, ConversationFull) as error:  # others were at it meanwhile
            _log.info("an answer was not added to its conversation", response=stored.id, reason=str(error))
            await self._database.write(lambda connection: write(connection, None))
