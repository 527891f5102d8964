"""Workers of one gateway that take messages by hooks: a real database, a real Valkey, files in a folder."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from api.hooks.receiving import Receiving
from core.clock import SystemClock
from core.ids import new_id
from retrieval.intake import Intake
from retrieval.jobs import Jobs
from retrieval.rows import fetch
from retrieval.sources.open import open_origins
from storage.open import open_store
from storage.redis import RedisClient
from storage.schema import collections, jobs
from tests.integration.identity.conftest import postgres, postgres_url, sqlite_url, url
from tests.support.gate import Gate, open_gate
from tests.support.valkey import valkey_server

__all__ = ["postgres", "postgres_url", "sqlite_url", "url"]

NAME = "c"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey_server(tmp_path_factory.mktemp("valkey")) as found:
        yield found


@dataclass
class Desk:
    """A gateway's worker that takes messages in, with the collection `c` in the tenant `default`."""

    gate: Gate

    async def hook(self, **fields: Any) -> dict[str, Any]:
        return await self.gate.made("/v1/admin/hooks", name="a hook", **fields)

    async def send(self, hook: str, headers: dict[str, str], body: str) -> Any:
        headers = {"content-type": "application/json", **headers}
        return await self.gate.client.post(f"/v1/hooks/ingest?hook={hook}", content=body, headers=headers)

    async def jobs(self) -> int:
        return len(await fetch(self.gate.database, sa.select(jobs.c.id)))


def signed(secret: str, message_id: str, body: str, at_s: float | None = None) -> dict[str, str]:
    """The headers that somebody's own library makes."""
    import datetime

    moment = datetime.datetime.fromtimestamp(int(at_s or time.time()), datetime.UTC)
    signature = Webhook(secret).sign(message_id, moment, body)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": signature,
    }


Open = Callable[..., Any]


@pytest.fixture
def desks(url: str, redis_url: str, tmp_path: Path) -> Open:
    """Opens a worker; all of one test share database, Redis and folder."""

    @asynccontextmanager
    async def opened(redis_at: str = "", **settings: Any) -> AsyncIterator[Desk]:
        async with AsyncExitStack() as stack:
            gate = await stack.enter_async_context(open_gate(url, tmp_path / "data", **settings))
            config, clock = gate.state.settings, SystemClock()
            redis = RedisClient(redis_at or redis_url, 1.0)
            stack.push_async_callback(redis.close)
            objects = open_store(f"folder:{tmp_path / 'objects'}", 10)
            intake = Intake(gate.database, redis, objects, clock, config)
            origins = open_origins(config, gate.database, clock)
            gate.state.retrieval = SimpleNamespace(
                intake=intake, origins=origins, jobs=Jobs(gate.database, redis, clock)
            )
            gate.state.receiving = Receiving(gate.database, redis, intake, origins, clock)
            await _furnish(gate)
            yield Desk(gate)

    return opened


async def _furnish(gate: Gate) -> None:
    row = {"id": new_id("col"), "tenant_id": "default", "name": NAME, "live_name": NAME, "metadata": {}, "chunking": {}}
    row |= {"embedding_space": "mini", "dimensions": 4, "average_terms": 65.0, "created_at": 0.0}

    async def insert(connection: Any) -> None:
        await connection.execute(gate.database.insert_or_ignore(collections).values(**row))

    await gate.database.write(insert)
