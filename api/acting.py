"""Who acts as an administrator, and how far that reaches."""

from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Row, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import NotAllowed, TenantNotFound
from api.roles import RANK
from core.principal import Principal, Role
from storage.schema import tenants


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller of one admin route; `request_id` goes into the audit log."""

    principal: Principal
    request_id: str

    @property
    def id(self) -> str:
        """As the audit log names it."""
        return self.principal.key_id or self.principal.user_id or "cli"

    @property
    def crosses_tenants(self) -> bool:
        return self.principal.role is Role.ADMIN

    def within(self, tenant_id: Column[str]) -> ColumnElement[bool]:
        """The condition that a row is within reach: of any tenant for admins, of the own one for managers."""
        return true() if self.crosses_tenants else tenant_id == self.principal.tenant_id

    def check_role(self, role: Role) -> None:
        """Let through what touches nobody above the actor. Raises: NotAllowed."""
        if RANK[role] > RANK[self.principal.role]:
            raise NotAllowed(f"this concerns the role {role}, which is above yours, {self.principal.role}")


async def reach(connection: AsyncConnection, by: Actor, asked: str | None) -> str:
    """The id of the tenant in which an act happens: the own one, or, for admins, the one asked for by id or name.

    Raises: NotAllowed: a manager asks for another; TenantNotFound.
    """
    own = by.principal.tenant_id
    if asked is None or asked == own:
        return own
    found = await find_tenant(connection, asked)
    if not by.crosses_tenants and (found is None or found.id != own):
        raise NotAllowed("only the role admin reaches other tenants; leave tenant out")
    if found is None:
        raise TenantNotFound(f"there is no tenant {asked}", "tenant")
    return str(found.id)


async def find_tenant(connection: AsyncConnection, asked: str) -> Row[tuple[object, ...]] | None:
    """The tenant of an id, or else of a name."""
    query = select(tenants).where(or_(tenants.c.id == asked, tenants.c.name == asked))
    rows = (await connection.execute(query)).all()
    return next((row for row in rows if row.id == asked), rows[0] if rows else None)
