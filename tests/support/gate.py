"""The gateway's identity part on a real database, in process: the whole application, without models and documents."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from api.conversations.store import Conversations
from api.directory import Directory, open_directory
from api.feedback.store import Feedback
from api.first_key import ensure_admin
from api.hot.door import HotDoor
from api.responses.store import Responses
from api.settings import ApiSettings
from core.clock import Clock, SystemClock
from monitoring.logs import configure_logs
from storage.sql import Database

MODELS = ("small", "provider/large")
_APP_SETTINGS = {"cors_origins", "max_json_bytes", "max_body_bytes"}  # what an application is built from
_free_apps: list[FastAPI] = []  # building one, and its first request, takes a tenth of a second


@dataclass
class Gate:
    """One worker.

    Attributes:
        admin: the first admin key.
        bumped: what admission was told: tenant, key, generation.
        state: what routes find; tests may add to it.
    """

    client: httpx.AsyncClient
    database: Database
    directory: Directory
    admin: str
    bumped: list[tuple[str, str, int]] = field(default_factory=list)
    state: SimpleNamespace = field(default_factory=SimpleNamespace)

    async def call(self, method: str, path: str, key: str | None = None, **how: Any) -> httpx.Response:
        """Call with a key, the first admin's where none is given."""
        return await self.client.request(method, path, headers={"x-api-key": key or self.admin}, **how)

    async def made(self, path: str, key: str | None = None, **body: Any) -> dict[str, Any]:
        """POST, which must succeed."""
        answer = await self.call("POST", path, key, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def key(self, role: str = "member", key: str | None = None, **fields: Any) -> dict[str, Any]:
        """A new key."""
        return await self.made("/v1/admin/keys", key, name=f"a {role}", role=role, **fields)

    async def status(self, key: str) -> int:
        """The status of a small request."""
        return (await self.call("GET", "/v1/models", key)).status_code

    async def acts(self, tenant: str | None = None) -> list[dict[str, Any]]:
        """The audit log, the newest act first."""
        params = {"limit": 100} | ({} if tenant is None else {"tenant": tenant})
        return list((await self.call("GET", "/v1/admin/audit", params=params)).json()["data"])


@asynccontextmanager
async def open_gate(
    url: str, data_dir: Path, *, clock: Clock | None = None, database: Database | None = None, **settings: Any
) -> AsyncIterator[Gate]:
    """Open a worker on a migrated database. Two on the same `data_dir` are two workers of one host."""
    configure_logs("gateway")
    settings.setdefault("identity_poll_s", 10.0)  # tests that poll say so
    settings.setdefault("sql_deadline_s", 30.0)  # those that keep SQL waiting, too
    config = ApiSettings(data_dir=data_dir, database_url=SecretStr(url), **settings)
    clock = clock or SystemClock()
    bumped: list[tuple[str, str, int]] = []

    async def note(tenant_id: str, key_id: str, generation: int) -> None:
        bumped.append((tenant_id, key_id, generation))

    async with AsyncExitStack() as stack:
        if database is None:
            database = Database(url, config.sql_deadline_s)
            stack.push_async_callback(database.close)
        await ensure_admin(database, clock, config.admin_key_path())
        directory = await stack.enter_async_context(open_directory(config, database, clock, lambda: list(MODELS), note))
        models = [SimpleNamespace(id=name, created=int(time.time()), owned_by="test", kind="chat") for name in MODELS]
        app = _free_apps.pop() if not settings.keys() & _APP_SETTINGS and _free_apps else create_app(config)
        app.state.stoker = SimpleNamespace(
            settings=config,
            clock=clock,
            database=database,
            directory=directory,
            identities=directory.identities,
            conversations=Conversations(database, clock),
            responses=Responses(database, clock, config.response_days),
            feedback=Feedback(database, clock),
            router=SimpleNamespace(models=lambda: models),
            auto=None,
        )
        transport = httpx.ASGITransport(app=HotDoor(app, config), raise_app_exceptions=False)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://gate"))
        yield Gate(client, database, directory, config.admin_key_path().read_text().strip(), bumped, app.state.stoker)
        if not settings.keys() & _APP_SETTINGS:
            _free_apps.append(app)
