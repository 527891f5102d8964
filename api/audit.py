"""The audit log: who did what to what, written in the act's own transaction. The database refuses changes to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from core.ids import new_id
from core.limits import EVERYONE
from storage.schema import audit_log
from storage.sql import Database


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act; `at` in seconds since the epoch, `details` without secrets."""

    id: str
    at: float
    tenant_id: str
    actor: str
    action: str
    target: str
    request_id: str
    details: Mapping[str, Any]


class AuditLog:
    """Reads the log; writing is `note`'s."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, by: Actor, tenant: str | None, after: str | None, limit: int) -> Sequence[AuditEntry]:
        """What was done to a tenant, or, for admins, to `EVERYONE`, the newest first.

        Raises: NotAllowed; TenantNotFound.
        """

        async def find(connection: AsyncConnection) -> Sequence[AuditEntry]:
            everyone = tenant == EVERYONE and by.crosses_tenants
            owner = EVERYONE if everyone else await reach(connection, by, tenant)
            query = select(audit_log).where(audit_log.c.tenant_id == owner)
            if after is not None:
                query = query.where(audit_log.c.id < after)
            rows = await connection.execute(query.order_by(audit_log.c.id.desc()).limit(limit))
            return [_entry(row) for row in rows]

        return await self._database.read(find)


async def note(
    connection: AsyncConnection,
    by: Actor,
    at: float,
    tenant_id: str,
    action: str,
    target: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write one act into the log, within the act's own transaction."""
    row = {
        "id": new_id("audit"),
        "at": at,
        "tenant_id": tenant_id,
        "actor": by.id,
        "action": action,
        "target": target,
        "request_id": by.request_id,
        "details": dict(details or {}),
    }
    await connection.execute(insert(audit_log).values(**row))


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(row.id, row.at, row.tenant_id, row.actor, row.action, row.target, row.request_id, row.details)
