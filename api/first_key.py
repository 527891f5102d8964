"""The first admin key, made when the gateway first starts."""

import os
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.acting import Actor
from api.audit import note
from api.errors import SettingsRefused
from api.key_rows import KeyPlan, insert_key
from api.keytext import KEY_START, digest_of, new_text
from core.clock import Clock
from core.principal import Principal, Role
from monitoring.logs import logger
from storage.schema import api_keys, tenants
from storage.sql import Database

DEFAULT_TENANT = "default"
_log = logger(__name__)
_NOBODY = Actor(Principal(tenant_id=DEFAULT_TENANT, key_id=None, role=Role.ADMIN), request_id="start")


async def ensure_admin(database: Database, clock: Clock, file: Path) -> None:
    """Make the tenant `default` and the first admin key once; a file that is there is registered as it is.

    Raises: SettingsRefused: the file holds no key; DependencyError.
    """
    now = clock.time()
    text = _read_or_create(file)

    async def act(connection: AsyncConnection) -> bool:
        tenant = {"id": DEFAULT_TENANT, "name": DEFAULT_TENANT, "created_at": now}
        await connection.execute(database.insert_or_ignore(tenants).values(**tenant))
        query = select(api_keys.c.revoked_at).where(api_keys.c.sha256 == digest_of(text))
        found = (await connection.execute(query)).first()
        if found is None:
            plan = KeyPlan("first admin", Role.ADMIN)
            key, told = await insert_key(connection, database, DEFAULT_TENANT, text, plan, now)
            await note(connection, _NOBODY, now, DEFAULT_TENANT, "key.create", key.id, told)
        return found is not None and found.revoked_at is not None

    if await database.write(act):
        _log.warning("the first admin key is revoked; remove its file to get a new one", file=str(file))


def _read_or_create(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = file.read_text(encoding="ascii", errors="replace").strip()
        if not text.startswith(KEY_START) or len(text) < len(KEY_START) + 32:
            raise SettingsRefused(f"{file} holds no Stoker key; remove the file and start again") from None
        return text
    text = new_text()
    with os.fdopen(handle, "w", encoding="ascii") as out:
        out.write(text + "\n")
    return text
