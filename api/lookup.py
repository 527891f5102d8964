"""Identities as SQL has them: rows of keys, users, sessions, tenants and limits, put together."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import find_tenant
from api.identities import Change, Found, Identity, Session
from api.jwt import Claims
from api.limits import bounds_of
from api.login.secret import hash_of_name, name_of_hash
from core.clock import Clock
from core.ids import new_id
from core.limits import EVERYONE, Subject, SubjectKind
from core.principal import CacheWish, Principal, Role
from core.priority import Priority
from core.reach import Reach
from storage.schema import api_keys, limits, sessions, tenants, users
from storage.sql import Database

_OF_TENANT = (SubjectKind.TENANT, SubjectKind.MODEL, SubjectKind.ROUTE)
_LimitRows = Mapping[tuple[str, str, str], Row[Any]]


class Lookup:
    """Reads identities; what it writes is the user of a token that was never seen, or that says something new."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def keys(self, digests: Sequence[str]) -> Mapping[str, Found]:
        """The live keys among these hashes. Raises: DependencyError."""
        query = _live_keys(api_keys.c.sha256.in_(digests), self._clock.time())

        async def find(connection: AsyncConnection) -> Mapping[str, Found]:
            rows = (await connection.execute(query)).all()
            principals = {row.sha256: _of_key(row) for row in rows}
            bounds = await _limits(connection, principals.values())
            return {
                row.sha256: Found(_identity(principals[row.sha256], bounds, row.generation, row.sha256), row.expires_at)
                for row in rows
            }

        return await self._database.read(find)

    async def sessions(self, names: Sequence[str]) -> Mapping[str, Found]:
        """The live sessions among these names, each with what its key is now, or else its user.

        Raises: DependencyError.
        """
        now = self._clock.time()
        live = select(sessions).where(
            sessions.c.sha256.in_([hash_of_name(name) for name in names]),
            sessions.c.revoked_at.is_(None),
            sessions.c.expires_at > now,
        )

        async def find(connection: AsyncConnection) -> Mapping[str, Found]:
            rows = (await connection.execute(live)).all()
            of_keys = _live_keys(api_keys.c.id.in_({row.key_id for row in rows if row.key_id is not None}), now)
            of_users = _live_users({row.user_id for row in rows if row.key_id is None})
            keys = {row.id: row for row in await connection.execute(of_keys)}
            people = {row.id: row for row in await connection.execute(of_users)}
            standing: dict[str, tuple[Row[Any], Row[Any], Principal]] = {}
            for row in rows:
                owner = people.get(row.user_id) if row.key_id is None else keys.get(row.key_id)
                if owner is not None:
                    principal = _of_user(owner, owner.tenant_reach) if row.key_id is None else _of_key(owner)
                    standing[name_of_hash(row.sha256)] = row, owner, principal
            bounds = await _limits(connection, [principal for _, _, principal in standing.values()])
            return {name: _session(*parts, bounds) for name, parts in standing.items()}

        return await self._database.read(find)

    async def standing(self, key_id: str | None, user_id: str | None) -> Identity | None:
        """Who a key is now, or, where there is no key, a user: what runs in their name has no key to show.

        Returns: None where it is not live any more. Raises: DependencyError.
        """
        of_key = _live_keys(api_keys.c.id == key_id, self._clock.time())

        async def find(connection: AsyncConnection) -> Identity | None:
            if key_id is not None:
                row = (await connection.execute(of_key)).one_or_none()
                principal = None if row is None else _of_key(row)
                named = (0, "") if row is None else (row.generation, row.sha256)
            else:
                row = (await connection.execute(_live_users([user_id or ""]))).one_or_none()
                principal = None if row is None else _of_user(row, row.tenant_reach)
                named = (0, "")
            return None if principal is None else _identity(principal, await _limits(connection, [principal]), *named)

        return await self._database.read(find)

    async def user(self, claims: Claims) -> Found | None:
        """The user of a token, made on first sight; role and groups are kept as the token says them.

        Returns: None where user or tenant is disabled, or the tenant unknown.
        Raises: DependencyError.
        """

        async def find(connection: AsyncConnection) -> tuple[str | None, Found | None]:
            """The live tenant's id, and the identity where the user's row says what the token does."""
            tenant = await find_tenant(connection, claims.tenant)
            if tenant is None or tenant.disabled_at is not None:
                return None, None
            user = (await connection.execute(select(users).where(_same_user(tenant.id, claims)))).first()
            if user is None:
                return tenant.id, None
            if user.disabled_at is not None:
                return None, None
            if _says_something_new(user, claims):
                return tenant.id, None
            principal = _of_user(user, tenant.reach)
            return tenant.id, Found(_identity(principal, await _limits(connection, [principal])), None)

        tenant_id, found = await self._database.read(find)
        if tenant_id is not None and found is None:
            await self._database.write(lambda connection: self._keep(connection, tenant_id, claims))
            _, found = await self._database.read(find)
        return found

    async def changed(self, since: float) -> frozenset[Change]:
        """What changed since a time, in seconds since the epoch. Raises: DependencyError."""

        async def find(connection: AsyncConnection) -> frozenset[Change]:
            found: set[Change] = set()
            for kind, table in ((SubjectKind.KEY, api_keys), (SubjectKind.USER, users), (SubjectKind.TENANT, tenants)):
                query = select(table.c.id, table.c.changed_at).where(table.c.changed_at > since)
                found.update(Change(kind.value, *row) for row in await connection.execute(query))
            ended = select(sessions.c.sha256, sessions.c.revoked_at).where(sessions.c.revoked_at > since)
            found.update(
                Change("session", name_of_hash(sha256), revoked_at)
                for sha256, revoked_at in await connection.execute(ended)
            )
            columns = (limits.c.kind, limits.c.subject_id, limits.c.tenant_id, limits.c.changed_at)
            for row in await connection.execute(select(*columns).where(limits.c.changed_at > since)):
                whole = row.kind in _OF_TENANT  # of `*`: whatever knows any tenant
                name = (SubjectKind.TENANT.value, row.tenant_id) if whole else (row.kind, row.subject_id)
                found.add(Change(name[0], name[1], row.changed_at))
            return frozenset(found)

        return await self._database.read(find)

    async def _keep(self, connection: AsyncConnection, tenant_id: str, claims: Claims) -> None:
        now = self._clock.time()
        row = {
            "id": new_id("user"),
            "tenant_id": tenant_id,
            "name": claims.name,
            "external_id": claims.external_id,
            "role": (claims.role or claims.default_role).value,
            "groups": sorted(claims.groups or ()),
            "created_at": now,
            "changed_at": now,
        }
        await connection.execute(self._database.insert_or_ignore(users).values(**row))
        said: dict[str, Any] = {"changed_at": now}
        if claims.role is not None:
            said["role"] = row["role"]
        if claims.groups is not None:
            said["groups"] = row["groups"]
        if len(said) > 1:
            await connection.execute(update(users).where(_same_user(tenant_id, claims)).values(**said))


def _live_keys(which: ColumnElement[bool], now: float) -> Select[Any]:
    return (
        select(
            api_keys,
            func.coalesce(api_keys.c.team_id, users.c.team_id).label("of_team"),
            users.c.groups,
            tenants.c.reach.label("tenant_reach"),
        )
        .join(tenants, tenants.c.id == api_keys.c.tenant_id)
        .outerjoin(users, users.c.id == api_keys.c.user_id)
        .where(
            which,
            api_keys.c.revoked_at.is_(None),
            or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now),
            tenants.c.disabled_at.is_(None),
            users.c.disabled_at.is_(None),
        )
    )


def _live_users(ids: Iterable[str]) -> Select[Any]:
    return (
        select(users, tenants.c.reach.label("tenant_reach"))
        .join(tenants, tenants.c.id == users.c.tenant_id)
        .where(users.c.id.in_(ids), users.c.disabled_at.is_(None), tenants.c.disabled_at.is_(None))
    )


def _same_user(tenant_id: str, claims: Claims) -> ColumnElement[bool]:
    return and_(users.c.tenant_id == tenant_id, users.c.external_id == claims.external_id)


def _says_something_new(user: Row[Any], claims: Claims) -> bool:
    return (claims.role is not None and claims.role != user.role) or (
        claims.groups is not None and claims.groups != frozenset(user.groups)
    )


async def _limits(connection: AsyncConnection, principals: Iterable[Principal]) -> _LimitRows:
    """The limits of these callers, of their tenants and of all tenants, by tenant, kind and id."""
    callers = list(principals)
    if not callers:
        return {}
    own = {id_ for one in callers for id_ in (one.key_id, one.user_id, one.team_id) if id_ is not None}
    query = select(limits).where(
        limits.c.tenant_id.in_({EVERYONE, *(one.tenant_id for one in callers)}),
        or_(limits.c.kind.in_(_OF_TENANT), limits.c.subject_id.in_(own)),
    )
    rows = await connection.execute(query)
    return {(row.tenant_id, row.kind, row.subject_id): row for row in rows if bounds_of(row).any}


def _session(row: Row[Any], owner: Row[Any], principal: Principal, bounds: _LimitRows) -> Found:
    """The session of a key or user: it ends with its key at the latest."""
    key_ends_at = None if row.key_id is None else owner.expires_at
    ends_at = row.expires_at if key_ends_at is None else min(row.expires_at, key_ends_at)
    session = Session(owner.name, row.csrf_sha256, ends_at)
    generation = 0 if row.key_id is None else owner.generation
    return Found(_identity(principal, bounds, generation, name_of_hash(row.sha256), session), ends_at)


def _identity(
    principal: Principal, rows: _LimitRows, generation: int = 0, digest: str = "", session: Session | None = None
) -> Identity:
    tenant_id = principal.tenant_id
    subjects = []
    for owner, kind, id_ in (
        (tenant_id, SubjectKind.KEY, principal.key_id),
        (tenant_id, SubjectKind.USER, principal.user_id),
        (tenant_id, SubjectKind.TEAM, principal.team_id),
        (tenant_id, SubjectKind.TENANT, tenant_id),
        (EVERYONE, SubjectKind.TENANT, EVERYONE),
    ):
        row = rows.get((owner, kind, id_)) if id_ is not None else None
        if row is not None:
            subjects.append(_subject(row))
    return Identity(
        principal,
        tuple(subjects),
        _named(rows, tenant_id, SubjectKind.MODEL),
        _named(rows, tenant_id, SubjectKind.ROUTE),
        generation,
        digest,
        session,
    )


def _named(rows: _LimitRows, tenant_id: str, kind: SubjectKind) -> Mapping[str, tuple[Subject, ...]]:
    """Model groups or routes with limits, the tenant's own before those that all tenants share."""
    found: dict[str, tuple[Subject, ...]] = {}
    for owner in (tenant_id, EVERYONE):
        for (tenant, of_kind, id_), row in rows.items():
            if tenant == owner and of_kind == kind:
                found[id_] = (*found.get(id_, ()), _subject(row))
    return found


def _subject(row: Row[Any]) -> Subject:
    return Subject(SubjectKind(row.kind), row.subject_id, bounds_of(row), common=row.tenant_id == EVERYONE)


def _of_key(row: Row[Any]) -> Principal:
    return Principal(
        tenant_id=row.tenant_id,
        key_id=row.id,
        role=Role(row.role),
        user_id=row.user_id,
        team_id=row.of_team,
        groups=frozenset(row.groups or ()),
        scopes=None if row.scopes is None else frozenset(row.scopes),
        reach=Reach.read(row.reach).narrowed(Reach.read(row.tenant_reach)),
        priority=Priority(row.priority),
        rescue=row.rescue,
        cache=CacheWish(row.cache),
    )


def _of_user(user: Row[Any], reach: Mapping[str, Any] | None) -> Principal:
    return Principal(
        tenant_id=user.tenant_id,
        key_id=None,
        role=Role(user.role),
        user_id=user.id,
        team_id=user.team_id,
        groups=frozenset(user.groups),
        reach=Reach.read(reach),
    )
