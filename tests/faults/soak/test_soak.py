"""Mixed load with churn of keys, collections and deployments: no process, file, series or key grows for ever.

`SOAK_S` is how long the long run lasts. Its part of `./stoker test --long` takes 40 minutes, so that it ends in 45; by
itself it may take the hour, or a day.
"""

import asyncio
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
from redis import Redis

from tests.faults.chaos.audit import Books
from tests.faults.chaos.house import PRICE, configured, models, settled
from tests.faults.chaos.load import EXACT, Tenant, load
from tests.faults.chaos.trial import examine
from tests.faults.soak.samples import Bounds, Sample, course, grown, growth, median, take
from tests.support.exact.server import ExactServer
from tests.support.stack import Stack, start_stack
from tests.support.valkey import valkey_server

pytestmark = pytest.mark.heavy  # a whole stack is started

SOAK_S = float(os.environ.get("SOAK_S", "2400"))
_BASE_S = 600.0  # the minute that the end is held against
_KEPT = 20  # documents of a tenant
_PAUSE_S = 0.25
Figure = Callable[[str], None]


@dataclass
class House:
    """A stack as `./stoker up` starts it, before engines of the test, with a Valkey that can be looked into."""

    stack: Stack
    engines: list[ExactServer]
    tenants: list[Tenant]
    redis: "Redis"
    done: Counter[str] = field(default_factory=Counter)

    def parts(self) -> dict[str, int]:
        """Each part's first process."""
        said = json.loads(self.stack.cli("status", "--json").stdout)
        return {one["name"]: one["pid"] for one in said["processes"] if one["pid"]}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("soak")
    config = folder / "stoker.yaml"
    with (
        models() as (engines, telling),
        valkey_server(folder / "valkey") as redis_url,
        Redis.from_url(redis_url, decode_responses=True) as redis,
    ):
        first, second, provider = (f"http://127.0.0.1:{engine.port}" for engine in engines)
        config.write_text(configured(first, second, provider, telling.removesuffix("/v1")))
        settings = {
            "STOKER_REDIS_URL": redis_url,
            "STOKER_ADMISSION_LEASE_S": "4",
            "STOKER_ANSWER_MODEL": "telling",
            "STOKER_SWEEP_S": "5",
            "STOKER_METRICS_GRACE_S": "2",
            "STOKER_READER_GRACE_S": "26",  # for so long what was deleted is held open
            **dict.fromkeys(("STOKER_ANSWER_CACHE_S", "STOKER_SEARCH_CACHE_S", "STOKER_QUESTION_CACHE_S"), "60"),
        }
        flags = ("--engine", "none", "--no-demo", "--config", str(config), "--workers", "2")
        with start_stack(folder / "data", *flags, env=settings) as stack:
            yield House(stack, engines, settled(stack.url, stack.admin_key), redis)


async def churn(house: House, halt: asyncio.Event) -> None:
    """Make a key, a collection and a deployment, use each and take it away again, until told to stop."""
    headers = {"x-api-key": house.stack.admin_key}
    async with httpx.AsyncClient(base_url=house.stack.url, headers=headers, timeout=60) as admin:
        for number in itertools.count():
            if halt.is_set():
                return
            made = (await admin.post("/v1/admin/keys", json={"name": f"churn-{number}"})).raise_for_status().json()
            own = {"x-api-key": made["key"]}
            said = {"model": EXACT, "max_tokens": 2, "messages": [{"role": "user", "content": "churn"}]}
            (await admin.post("/v1/chat/completions", json=said, headers=own)).raise_for_status()
            name = f"churn-{number}"
            (await admin.post("/v1/collections", json={"name": name}, headers=own)).raise_for_status()
            documents = [{"title": name, "content": "The owl sleeps in the bell tower."}]
            sent = await admin.post("/v1/ingest", json={"collection": name, "documents": documents}, headers=own)
            await _ended(admin, sent.raise_for_status().json()["job_id"])
            found = await admin.post("/v1/search", json={"collection": name, "query": "owl"}, headers=own)
            assert found.raise_for_status().json()["data"], "what was ingested is not found"
            (await admin.delete(f"/v1/collections/{name}", headers=own)).raise_for_status()
            await _deploy(house, admin, number)
            (await admin.delete(f"/v1/admin/keys/{made['id']}")).raise_for_status()
            house.done["keys, collections and deployments made and taken away"] += 1
            await asyncio.sleep(_PAUSE_S)


async def _deploy(house: House, admin: httpx.AsyncClient, number: int) -> None:
    base, name = f"http://127.0.0.1:{house.engines[1].port}/v1", f"passing-{number}"
    entry = {
        "model_name": name,
        "litellm_params": {"model": f"hosted_vllm/{EXACT}", "api_base": base},
        "model_info": {"id": name},
    }
    (await admin.post("/v1/admin/deployments", json=entry)).raise_for_status()
    said = {"model": name, "max_tokens": 2, "messages": [{"role": "user", "content": "churn"}]}
    limit_s = time.monotonic() + 30
    while (await admin.post("/v1/chat/completions", json=said)).status_code != 200:  # the other worker learns of it
        assert time.monotonic() < limit_s, "a deployment that was added is not asked"
        await asyncio.sleep(0.1)
    (await admin.patch(f"/v1/admin/deployments/{name}", json={"state": "draining"})).raise_for_status()
    (await admin.delete(f"/v1/admin/deployments/{name}")).raise_for_status()


async def _ended(admin: httpx.AsyncClient, job_id: str) -> None:
    limit_s = time.monotonic() + 60
    while (status := (await admin.get(f"/v1/jobs/{job_id}")).json()["status"]) != "succeeded":
        assert status in ("queued", "running"), status
        assert time.monotonic() < limit_s, "a document does not end"
        await asyncio.sleep(0.1)


async def soak(house: House, seconds: float, every_s: float, figure: Figure, bounds: Bounds, base_s: float) -> None:
    """Load and churn for so long, with a look at everything every so often; then hold the end against the base."""
    samples: list[Sample] = []
    parts = house.parts()
    began_s = time.monotonic()
    halt = asyncio.Event()
    async with load(lambda: house.stack.url, house.tenants, _PAUSE_S, _KEPT) as seen:
        churning = asyncio.create_task(churn(house, halt))
        while (at_s := time.monotonic() - began_s) < seconds and not churning.done():
            samples.append(await asyncio.to_thread(take, at_s, parts, house.stack.url, house.redis))
            await asyncio.sleep(every_s)
        halt.set()
        await churning
    assert house.parts() == parts, "a process was started again"
    first, last = median(samples, base_s, 6 * every_s), median(samples, samples[-1].at_s, 6 * every_s)
    figure(
        f"{seconds:g} s, {len(samples)} looks, {dict(house.done)}; from {first.at_s:.0f} s on: {growth(first, last)}"
    )
    figure(f"MiB from the first look to the last: {course(samples)}")
    there = json.loads(house.stack.cli("status", "--json").stdout)["processes"]
    milvus = next(one["port"] for one in there if one["name"] == "milvus")
    database = f"sqlite+aiosqlite:///{house.stack.data_dir / 'stoker.db'}"
    books = Books(database, f"http://127.0.0.1:{milvus}", house.stack.data_dir, house.tenants, house.engines, PRICE)
    await examine(books, seen, int(house.stack.url.rpartition(":")[2]), "soak", figure)
    assert grown(first, last, bounds) == []


async def test_a_minute_of_churn_leaves_nothing_open(house: House, figure: Figure) -> None:
    """What memory does in a minute is warming up: it is only told. Series go some seconds after deployments."""
    await soak(house, 85, 2, figure, Bounds(memory_share=None, series=0.25), base_s=45)


@pytest.mark.long
async def test_nothing_grows_for_ever(house: House, figure: Figure) -> None:
    assert SOAK_S > _BASE_S, "there is no end to hold against minute 10"
    await soak(house, SOAK_S, 10, figure, Bounds(memory_share=0.05), base_s=_BASE_S)
