"""/v1/admin/cache: what was answered before is forgotten."""

from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from api.admin_keys import InTenant
from api.audit import note
from api.caching.name import ALL, of_collection, of_key
from api.errors import RequestInvalid
from api.identity import Acting
from api.state import AppState, State
from retrieval.called import of_tenant
from retrieval.errors import CollectionNotFound
from storage.schema import collections

routes = APIRouter(prefix="/v1/admin/cache", tags=["Administration"])

CollectionName = Annotated[str | None, Query(max_length=200, description="Purge only what was made from it.")]
KeyId = Annotated[str | None, Query(max_length=64, description="Purge only what was made for requests of this key.")]


@routes.delete("")
async def purge(
    state: State, by: Acting, tenant: InTenant = None, collection: CollectionName = None, key: KeyId = None
) -> dict[str, Any]:
    """Make entries of a tenant's caches void at once: all, those made from a collection, or for a key."""
    if collection is not None and key is not None:
        raise RequestInvalid("collection and key exclude each other: purge one after the other", "key")
    return {"object": "cache.purged", "purged": await _purge(state, by, tenant, collection, key)}


async def _purge(state: AppState, by: Actor, tenant: str | None, collection: str | None, key: str | None) -> str:
    """Returns: the name that what is void carries."""

    async def act(connection: AsyncConnection) -> str:
        tenant_id = await reach(connection, by, tenant)
        carried = ALL if key is None else of_key(key)
        if collection is not None:
            found = await connection.scalar(sa.select(collections.c.id).where(of_tenant(tenant_id, collection)))
            if found is None:
                raise CollectionNotFound(collection)
            carried = of_collection(found)
        await note(connection, by, state.clock.time(), tenant_id, "cache.purge", carried)
        await state.cache.purge(tenant_id, carried)  # not without being noted
        return carried

    return await state.database.write(act)
