"""The keeper's own process, beside a gateway's worker."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import select

from api.keeper import all_duties, keep
from api.ledger.ledger import Ledger
from api.settings import ApiSettings
from core.clock import ManualClock, SystemClock
from retrieval.rows import fetch
from retrieval.status import Status
from storage.schema import tasks
from storage.sql import Database
from tests.integration.ledger.test_alerts import hook, limit, stored
from tests.integration.ledger.test_kills import files_in, outcomes, until
from tests.support.catalog import new_catalog
from tests.support.ledger import PRICE, a_line, finished
from tests.support.process import running
from tests.support.valkey import valkey_server

SHARED = [f"stoker:{{*{name}}}:whole" for name in ("model:words", "route:%2Fv1%2Fchat%2Fcompletions", "tenant:%2A")]


@pytest.mark.slow
async def test_the_keeper_ships_lines_stores_alerts_and_tells_the_webhook(
    database: Database, url: str, tmp_path: Path
) -> None:
    clock, began_s = SystemClock(), time.time()
    (metrics := tmp_path / "metrics").mkdir()
    worker = Ledger(tmp_path / "ledger", clock)
    await limit(database, "key", "key_1", nano_usd_per_month=1000)
    line = a_line("done", at=clock.time())
    worker.begin(line, PRICE).finish(finished(line, nano_usd=900))
    worker.begin(a_line("open"), PRICE)
    worker.close()
    async with AsyncExitStack() as stack, hook() as taker:
        redis_url = stack.enter_context(valkey_server(tmp_path / "valkey"))
        settings = {
            "STOKER_DATA_DIR": str(tmp_path),
            "STOKER_DATABASE_URL": url,
            "STOKER_REDIS_URL": redis_url,
            "STOKER_BUDGET_WEBHOOK": taker.url,
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        }
        redis = stack.enter_context(Redis.from_url(redis_url, decode_responses=True))
        for name in (own := "stoker:{default}:key:key_1", *SHARED):
            redis.hset(name, mapping={"d": 1, "ds": 1})  # the dead worker's last lines are not in it
        with running([sys.executable, "-m", "api.keeper"], tmp_path / "log", lambda: True, settings) as keeper:
            await until(lambda: len(taker.bodies) == 2 and not files_in(tmp_path / "ledger"))
        assert not any(redis.hexists(name, "ds") for name in (own, *SHARED)), "the ledger is not asked what was spent"
    assert keeper.returncode == 0
    assert await outcomes(database) == {"done": "ok", "open": "lost"}
    assert {percent for *_, percent in await stored(database)} == {50, 80}
    assert not files_in(tmp_path / "ledger")
    told = _told(metrics)
    spent = (line.route, line.model_group, line.deployment)
    assert told["stoker_spent_usd_total", spent] == pytest.approx(900e-9)
    assert told["stoker_ledger_shipped_timestamp_seconds", ()] >= began_s
    counted = {percent: told["stoker_budget_alerts_total", ("key", percent)] for percent in ("50", "80", "100")}
    assert counted == {"50": 1, "80": 1, "100": 0}
    assert told["stoker_ingest_waiting_documents", ()] == 0


async def test_what_was_written_while_it_rested_is_shipped_before_it_ends(
    database: Database, url: str, tmp_path: Path
) -> None:
    """Beside its gateway in a pod it ends last, and the volume may go with the pod. Told to end, it begins nothing."""
    worker, stop = Ledger(tmp_path / "ledger", SystemClock()), asyncio.Event()
    line = a_line("last")
    worker.begin(line, PRICE).finish(finished(line))
    worker.begin(a_line("open"), PRICE)
    worker.close()
    stop.set()
    async with AsyncExitStack() as stack:
        redis_url = stack.enter_context(valkey_server(tmp_path / "valkey"))
        settings = ApiSettings(data_dir=tmp_path, database_url=SecretStr(url), redis_url=SecretStr(redis_url))
        await keep(await all_duties(settings, database, SystemClock(), stack), stop)
    assert await outcomes(database) == {"last": "ok", "open": "lost"}
    assert not files_in(tmp_path / "ledger")


def _told(folder: Path) -> dict[tuple[str, tuple[str, ...]], float]:
    """What the process told the metrics: by name and labels, in the order in which these were declared."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))
    order = ("route", "model_group", "deployment", "kind", "percent")
    return {
        (sample.name, tuple(sample.labels[name] for name in order if name in sample.labels)): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


async def test_a_document_has_as_many_attempts_as_the_operator_says(
    database: Database, url: str, tmp_path: Path
) -> None:
    """A worker gives up by the same setting; the keeper, which takes leases back too, went by three."""
    catalog, clock = await new_catalog(database), ManualClock()
    document_id = await catalog.put(publish=False)
    its = tasks.c.document_id == document_id
    nowhere = SecretStr("redis://127.0.0.1:9/0")
    settings = ApiSettings(data_dir=tmp_path, database_url=SecretStr(url), redis_url=nowhere, max_attempts=5)
    async with AsyncExitStack() as stack:
        (leases,) = [one for one in await all_duties(settings, database, clock, stack) if one.name == "leases"]
        for attempts, ends_as in ((4, Status.QUEUED), (5, Status.FAILED)):
            silent = {"status": Status.INDEXING, "attempts": attempts, "worker": "w", "lease_until": clock.time() + 30}
            await database.write(lambda connection: connection.execute(tasks.update().where(its).values(silent)))  # noqa: B023
            for _ in range(3):
                clock.advance(3600)
                await leases.work()
            assert [row.status for row in await fetch(database, select(tasks.c.status).where(its))] == [ends_as]
