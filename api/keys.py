"""API keys: made once, shown once, kept as a hash."""

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import KeyNotFound, SettingsRefused
from core.clock import Clock
from core.ids import new_id
from core.principal import Principal, Role
from storage.schema import api_keys, tenants
from storage.sql import Database

DEFAULT_TENANT = "default"
KEY_START = "sk-stoker-"
_PREFIX_LENGTH = len(KEY_START) + 6
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 signs, none of which looks like another


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What may be known of a key later: everything but the key. Times are seconds since the epoch."""

    id: str
    tenant_id: str
    name: str
    prefix: str
    role: Role
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with the only copy of its text."""

    key: ApiKey
    text: str


class Keys:
    """The tenant's API keys, in SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def identify(self, text: str) -> Principal | None:
        """The principal of a live key; None where the key is unknown, expired or revoked."""
        digest = _digest(text)

        async def find(connection: AsyncConnection) -> ApiKey | None:
            row = (await connection.execute(select(api_keys).where(api_keys.c.sha256 == digest))).first()
            return None if row is None else _key(row)

        key = await self._database.read(find)
        if key is None or key.revoked_at is not None:
            return None
        if key.expires_at is not None and key.expires_at <= self._clock.time():
            return None
        return Principal(tenant_id=key.tenant_id, key_id=key.id, role=key.role)

    async def create(self, tenant_id: str, name: str, role: Role, expires_in_s: int | None = None) -> NewKey:
        """Make a key of at least 160 random bits."""
        return await self._add(_new_text(), tenant_id, name, role, expires_in_s)

    async def list(self, tenant_id: str) -> Sequence[ApiKey]:
        """All keys of the tenant, the oldest first, the revoked ones too."""

        async def find(connection: AsyncConnection) -> Sequence[ApiKey]:
            query = select(api_keys).where(api_keys.c.tenant_id == tenant_id).order_by(api_keys.c.id)
            return [_key(row) for row in await connection.execute(query)]

        return await self._database.read(find)

    async def revoke(self, tenant_id: str, key_id: str) -> ApiKey:
        """End a key at once; revoking it again changes nothing. Raises: KeyNotFound."""
        now = self._clock.time()

        async def end(connection: AsyncConnection) -> ApiKey:
            await connection.execute(
                update(api_keys)
                .where(api_keys.c.id == key_id, api_keys.c.tenant_id == tenant_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=now)
            )
            return await _find(connection, tenant_id, key_id)

        return await self._database.write(end)

    async def rotate(self, tenant_id: str, key_id: str) -> NewKey:
        """Make a successor with the same name and role and end the old key, in one step. Raises: KeyNotFound."""
        text = _new_text()
        now = self._clock.time()

        async def swap(connection: AsyncConnection) -> ApiKey:
            old = await _find(connection, tenant_id, key_id)
            if old.revoked_at is not None:
                raise KeyNotFound(f"key {key_id} is revoked already; create a new one")
            new = _fresh(text, tenant_id, old.name, old.role, now, old.expires_at)
            await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=now))
            await connection.execute(insert(api_keys).values(**new))
            return await _find(connection, tenant_id, new["id"])

        return NewKey(await self._database.write(swap), text)

    async def ensure_admin(self, file: Path) -> None:
        """Make the tenant `default` and the first admin key once; a file that is there is registered as it is.

        Raises: SettingsRefused: the file holds no key.
        """
        now = self._clock.time()

        async def add_tenant(connection: AsyncConnection) -> None:
            row = {"id": DEFAULT_TENANT, "name": DEFAULT_TENANT, "created_at": now}
            await connection.execute(self._database.insert_or_ignore(tenants).values(**row))

        await self._database.write(add_tenant)
        text = _read_or_create(file)
        if await self.identify(text) is None:
            await self._add(text, DEFAULT_TENANT, "first admin", Role.ADMIN, None)

    async def _add(self, text: str, tenant_id: str, name: str, role: Role, expires_in_s: int | None) -> NewKey:
        now = self._clock.time()
        values = _fresh(text, tenant_id, name, role, now, None if expires_in_s is None else now + expires_in_s)

        async def add(connection: AsyncConnection) -> ApiKey:
            await connection.execute(insert(api_keys).values(**values))
            return await _find(connection, tenant_id, values["id"])

        return NewKey(await self._database.write(add), text)


def _read_or_create(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = file.read_text(encoding="ascii", errors="replace").strip()
        if not text.startswith(KEY_START) or len(text) < len(KEY_START) + 32:
            raise SettingsRefused(f"{file} holds no Stoker key; remove the file and start again") from None
        return text
    text = _new_text()
    with os.fdopen(handle, "w", encoding="ascii") as out:
        out.write(text + "\n")
    return text


def _new_text() -> str:
    return KEY_START + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fresh(text: str, tenant_id: str, name: str, role: Role, now: float, expires_at: float | None) -> dict[str, Any]:
    return {
        "id": new_id("key"),
        "tenant_id": tenant_id,
        "name": name,
        "prefix": text[:_PREFIX_LENGTH],
        "sha256": _digest(text),
        "role": role.value,
        "created_at": now,
        "expires_at": expires_at,
    }


async def _find(connection: AsyncConnection, tenant_id: str, key_id: str) -> ApiKey:
    query = select(api_keys).where(api_keys.c.id == key_id, api_keys.c.tenant_id == tenant_id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise KeyNotFound(f"there is no key {key_id}")
    return _key(row)


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant_id=row.tenant_id,
        name=row.name,
        prefix=row.prefix,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
