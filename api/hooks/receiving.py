"""A signed message that brings documents: taken once, and queued in the same transaction."""

from typing import Any

import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import MessageReplayed, NotAllowed
from api.fields import read_json_object
from api.hooks.hooks import Hook
from api.hooks.signing import TOLERANCE_S, Signed
from api.ingest_form import read_ingest
from core.clock import Clock
from core.dependency import DependencyError
from core.principal import Principal, Role
from core.reach import Reach
from monitoring.logs import logger
from retrieval.intake import Intake
from retrieval.rows import fetch
from retrieval.sources.lists import Origins
from storage.redis import RedisClient
from storage.schema import hook_messages, tenants
from storage.sql import Database

KEPT_S = 7 * 86_400.0  # in SQL; in Redis for as long as a signature holds
_log = logger(__name__)


class Receiving:
    """Takes messages; Redis refuses most replays, SQL all of them."""

    def __init__(
        self,
        database: Database,
        redis: RedisClient,
        intake: Intake,
        origins: Origins,
        clock: Clock,
    ) -> None:
        self._database = database
        self._redis = redis
        self._intake = intake
        self._origins = origins
        self._clock = clock

    async def take(self, hook: Hook, signed: Signed, body: bytes) -> dict[str, Any]:
        """Take a message's documents in. Returns: as POST /v1/ingest does.

        Raises:
            MessageReplayed: it was taken before.
            NotAllowed: the hook is not for this collection.
            What `read_ingest` and `Ingest.accept` raise; the message can then be sent again.
        """
        if await self._seen(hook, signed):
            raise MessageReplayed(f"the message {signed.message_id} was taken already")
        principal = await self._principal(hook)
        asked = await read_ingest(read_json_object(body), principal, self._origins)
        if hook.collections is not None and asked.collection not in hook.collections:
            raise NotAllowed("this hook is not for this collection", "collection")

        async def claim(connection: AsyncConnection, job_id: str) -> None:
            row = {"hook_id": hook.id, "message_id": signed.message_id, "job_id": job_id, "at": self._clock.time()}
            claimed = await connection.execute(self._database.insert_or_ignore(hook_messages).values(**row))
            if claimed.rowcount != 1:
                raise MessageReplayed(f"the message {signed.message_id} was taken already")

        told = await asked.accept(principal, self._intake, self._origins, claim)
        await self._remember(hook, signed)
        return told

    async def _principal(self, hook: Hook) -> Principal:
        query = sa.select(tenants.c.reach).where(tenants.c.id == hook.tenant_id)

        async def find(connection: AsyncConnection) -> Reach:
            return Reach.read((await connection.execute(query)).scalar_one())

        return Principal(hook.tenant_id, hook.id, Role.INGEST, reach=await self._database.read(find))

    async def _seen(self, hook: Hook, signed: Signed) -> bool:
        """Whether Redis knows it; where it is silent, SQL does, which says so once more when it is claimed."""

        async def ask(redis: Redis) -> bool:
            return bool(await redis.exists(_name(hook, signed)))

        try:
            return await self._redis.call(ask)
        except DependencyError:
            known = sa.and_(hook_messages.c.hook_id == hook.id, hook_messages.c.message_id == signed.message_id)
            return bool(await fetch(self._database, sa.select(hook_messages.c.at).where(known)))

    async def _remember(self, hook: Hook, signed: Signed) -> None:
        async def keep(redis: Redis) -> None:
            await redis.set(_name(hook, signed), "1", ex=2 * TOLERANCE_S)

        try:
            await self._redis.call(keep)
        except DependencyError as error:
            _log.info("Redis did not hear of a message", reason=str(error))


async def forget_messages(database: Database, clock: Clock) -> int:
    """Delete ids of messages that nobody sends again. Returns: how many. Raises: DependencyError."""

    async def delete(connection: AsyncConnection) -> int:
        old = hook_messages.delete().where(hook_messages.c.at < clock.time() - KEPT_S)
        return (await connection.execute(old)).rowcount

    return await database.write(delete)


def _name(hook: Hook, signed: Signed) -> str:
    return f"stoker:hook:{{{hook.tenant_id}}}:{hook.id}:{signed.message_id}"
