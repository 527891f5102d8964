"""Limits as SQL keeps them: of keys, users, teams, tenants, models and routes, and those that all tenants share."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Row, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor, reach
from api.announcer import Announcer, Raised, raise_generations
from api.audit import note
from api.errors import (
    ApiError,
    KeyNotFound,
    LimitsNotFound,
    NotAllowed,
    RequestInvalid,
    TeamNotFound,
    TenantNotFound,
    UserNotFound,
)
from api.limits_form import shown_limits
from api.roles import TEMPLATES
from core.clock import Clock
from core.limits import EVERYONE, Limits, Subject, SubjectKind
from core.principal import Role
from router.errors import ModelNotFound
from storage.schema import api_keys, limits, teams, tenants, users
from storage.sql import Database

_NONE = Limits()
_TABLES: dict[SubjectKind, tuple[Table, type[ApiError]]] = {
    SubjectKind.KEY: (api_keys, KeyNotFound),
    SubjectKind.USER: (users, UserNotFound),
    SubjectKind.TEAM: (teams, TeamNotFound),
    SubjectKind.TENANT: (tenants, TenantNotFound),
}


class LimitBook:
    """Sets and shows limits.

    Args:
        model_names: the model groups that there are.
    """

    def __init__(
        self, database: Database, clock: Clock, announcer: Announcer, model_names: Callable[[], Sequence[str]]
    ) -> None:
        self._database = database
        self._clock = clock
        self._announcer = announcer
        self._model_names = model_names

    async def get(self, by: Actor, kind: SubjectKind, subject_id: str, tenant: str | None) -> tuple[str, Subject]:
        """A subject's limits, and its tenant. Raises: the subject's NotFound; LimitsNotFound: it has none."""

        async def find(connection: AsyncConnection) -> tuple[str, Subject]:
            tenant_id = await self._tenant_of(connection, by, kind, subject_id, tenant)
            found = await read_limits(connection, tenant_id, kind, subject_id)
            if found == _NONE:
                raise _no_limits(kind, subject_id)
            return tenant_id, Subject(kind, subject_id, found)

        return await self._database.read(find)

    async def put(
        self, by: Actor, kind: SubjectKind, subject_id: str, tenant: str | None, bounds: Limits
    ) -> tuple[str, Subject]:
        """Give a subject these limits and no others.

        Raises: NotAllowed: a manager and the tenant's own limits, or those of all tenants; the subject's NotFound;
            RequestInvalid: no route; DependencyError: a limit of money, and Redis can't be told of it.
        """
        tenant_id = await self._set(by, kind, subject_id, tenant, bounds, "limits.set")
        return tenant_id, Subject(kind, subject_id, bounds)

    async def delete(self, by: Actor, kind: SubjectKind, subject_id: str, tenant: str | None) -> None:
        """Take a subject's limits away. Raises: as `put`; LimitsNotFound: it has none."""
        await self._set(by, kind, subject_id, tenant, _NONE, "limits.remove")

    async def _set(
        self, by: Actor, kind: SubjectKind, subject_id: str, tenant: str | None, bounds: Limits, action: str
    ) -> str:
        now = self._clock.time()
        if kind is SubjectKind.TENANT and by.principal.role is not Role.ADMIN:
            raise NotAllowed("a tenant's own limits are the role admin's to set")

        async def act(connection: AsyncConnection) -> tuple[str, Sequence[Raised]]:
            tenant_id = await self._tenant_of(connection, by, kind, subject_id, tenant)
            subject = Subject(kind, subject_id, bounds, common=tenant_id == EVERYONE)
            if subject.common and bounds.strict:
                raise RequestInvalid("what all tenants share is leased in parts, which no strict minute has", "strict")
            before = await read_limits(connection, tenant_id, kind, subject_id)
            if bounds == _NONE and before == _NONE:
                raise _no_limits(kind, subject_id)
            await self._announcer.recount(tenant_id, subject)
            await write_limits(connection, self._database, tenant_id, subject, now)
            details = {"before": shown_limits(before), "after": shown_limits(bounds)}
            await note(connection, by, now, tenant_id, action, f"{kind}:{subject_id}", details)
            if kind is SubjectKind.KEY:
                return tenant_id, await raise_generations(connection, api_keys.c.id == subject_id, now)
            return tenant_id, ()

        tenant_id, raised = await self._database.write(act)
        await self._announcer.announce(raised)
        return tenant_id

    async def _tenant_of(
        self, connection: AsyncConnection, by: Actor, kind: SubjectKind, subject_id: str, tenant: str | None
    ) -> str:
        """The tenant of a subject, which exists and is within reach."""
        if tenant == EVERYONE or (kind is SubjectKind.TENANT and subject_id == EVERYONE):
            self._check_common(by, kind, subject_id)
            return EVERYONE
        if kind is SubjectKind.MODEL or kind is SubjectKind.ROUTE:
            self._check_name(kind, subject_id)
            return await reach(connection, by, tenant)
        table, missing = _TABLES[kind]
        owner = table.c.id if table is tenants else table.c.tenant_id
        row = (await connection.execute(select(table).where(table.c.id == subject_id, by.within(owner)))).first()
        if row is None:
            raise missing(f"there is no {kind} {subject_id}")
        if kind is SubjectKind.KEY or kind is SubjectKind.USER:
            by.check_role(Role(row.role))
        return str(row.id if table is tenants else row.tenant_id)

    def _check_common(self, by: Actor, kind: SubjectKind, subject_id: str) -> None:
        """What all tenants share is the admins' to set, and a model's, a route's, or everybody's."""
        if not by.crosses_tenants:
            raise NotAllowed("limits that all tenants share are the role admin's to set")
        if kind is SubjectKind.MODEL or kind is SubjectKind.ROUTE:
            self._check_name(kind, subject_id)
        elif (kind, subject_id) != (SubjectKind.TENANT, EVERYONE):
            raise RequestInvalid(f"a {kind} is of one tenant; leave tenant=* out", "tenant")

    def _check_name(self, kind: SubjectKind, name: str) -> None:
        """Limits of what does not exist would never hold, so they are refused."""
        if kind is SubjectKind.ROUTE and name not in TEMPLATES:
            raise RequestInvalid(f"there is no route {name} with a caller; /docs lists them", "subject_id")
        if kind is SubjectKind.MODEL and name not in self._model_names():
            raise ModelNotFound(name, sorted(self._model_names()))


async def read_limits(connection: AsyncConnection, tenant_id: str, kind: SubjectKind, subject_id: str) -> Limits:
    """A subject's limits; those that bound nothing where it has none."""
    query = select(limits).where(
        limits.c.tenant_id == tenant_id, limits.c.kind == kind, limits.c.subject_id == subject_id
    )
    row = (await connection.execute(query)).first()
    return _NONE if row is None else bounds_of(row)


async def write_limits(
    connection: AsyncConnection,
    database: Database,
    tenant_id: str,
    subject: Subject,
    now: float,
) -> None:
    """Keep a subject's limits. No row is deleted: its `changed_at` tells the workers that it bounds nothing now."""
    values = {**dataclasses.asdict(subject.limits), "changed_at": now}
    key = {"tenant_id": tenant_id, "kind": subject.kind.value, "subject_id": subject.id}
    statement = database.upsert(limits).values(**key, **values)
    await connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def bounds_of(row: Row[Any]) -> Limits:
    """The limits in a row of the table."""
    return Limits(**{field.name: getattr(row, field.name) for field in dataclasses.fields(Limits)})


def _no_limits(kind: SubjectKind, subject_id: str) -> LimitsNotFound:
    return LimitsNotFound(f"{kind} {subject_id} has no limits")
