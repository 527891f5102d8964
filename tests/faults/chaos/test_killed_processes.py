"""`kill -9` and SIGSTOP of every process of a stack in turn, under mixed load; nobody starts anything again by hand."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.chaos.audit import Books
from tests.faults.chaos.house import LEASE_S, PRICE, configured, models, settled
from tests.faults.chaos.load import Tenant, load, recovered
from tests.faults.chaos.trial import Figure, examine
from tests.support.exact.server import ExactServer
from tests.support.gateway import workers
from tests.support.stack import Stack, start_stack

pytestmark = pytest.mark.heavy  # a whole stack is started

PARTS = ("valkey", "milvus", "embeddings", "worker", "keeper", "gateway", "a worker of the gateway")
_FROZEN_S = 4.0
_BACK_S = 90.0


@dataclass
class House:
    """A stack as `./stoker up` starts it, before engines of the test."""

    stack: Stack
    engines: list[ExactServer]
    tenants: list[Tenant]

    @property
    def port(self) -> int:
        return int(self.stack.url.rpartition(":")[2])

    def processes(self) -> dict[str, dict[str, object]]:
        """What `status --json` says of each."""
        said = json.loads(self.stack.cli("status", "--json").stdout)
        return {one["name"]: one for one in said["processes"]}

    def pids(self, name: str) -> list[int]:
        """The processes of a part; of the gateway also the workers, where one of these is meant."""
        if name == "a worker of the gateway":
            return workers(self._pid("gateway"))[:1]
        return [self._pid(name)]

    def _pid(self, name: str) -> int:
        pid = self.processes()[name]["pid"]
        assert isinstance(pid, int), self.processes()[name]
        return pid


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("killed")
    config = folder / "stoker.yaml"
    with models() as (engines, telling):
        first, second, provider = (f"http://127.0.0.1:{engine.port}" for engine in engines)
        config.write_text(configured(first, second, provider, telling.removesuffix("/v1")))
        flags = ("--engine", "none", "--no-demo", "--config", str(config), "--workers", "2")
        settings = {
            "STOKER_ADMISSION_LEASE_S": str(LEASE_S),
            "STOKER_LEASE_S": "3",
            "STOKER_HEARTBEAT_S": "0.5",
            "STOKER_POLL_S": "0.3",
            "STOKER_SEARCH_DEADLINE_S": "2.5",
            "STOKER_EMBEDDING_DEADLINE_S": "2.5",
            "STOKER_ANSWER_MODEL": "telling",
            **dict.fromkeys(("STOKER_ANSWER_CACHE_S", "STOKER_SEARCH_CACHE_S", "STOKER_QUESTION_CACHE_S"), "0"),
        }
        with start_stack(folder / "data", *flags, env=settings) as stack:
            yield House(stack, engines, settled(stack.url, stack.admin_key))


async def until_ready(house: House) -> None:
    """Wait until `status` says that every part is ready. Raises: AssertionError: a part needs a person."""
    limit_s = time.monotonic() + _BACK_S
    while True:
        said = await asyncio.to_thread(house.stack.cli, "status", "--json")
        if said.returncode == 0:
            return
        assert time.monotonic() < limit_s, said.stdout
        await asyncio.sleep(0.5)


async def trial(house: House, names: tuple[str, ...], how: str, figure: Figure) -> None:
    """Kill or freeze one after the other under one load, then look at everything."""
    async with load(lambda: house.stack.url, house.tenants) as seen:
        await recovered(seen, time.monotonic())
        for name in names:
            pids = await asyncio.to_thread(house.pids, name)
            since_s = time.monotonic()
            if how == "killed":
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(1)
                gone_s = time.monotonic()
                await until_ready(house)
            else:
                for pid in pids:
                    os.killpg(pid, signal.SIGSTOP) if name in PARTS[:5] else os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(_FROZEN_S)
                for pid in pids:
                    os.killpg(pid, signal.SIGCONT) if name in PARTS[:5] else os.kill(pid, signal.SIGCONT)
                gone_s = time.monotonic()
            took_s = await recovered(seen, gone_s, _BACK_S)
            met = [one for one in seen.operations if one.ended_s >= since_s and one.began_s <= gone_s]
            outcomes = Counter(one.outcome for one in met)
            figure(f"{name} {how}: {len(met)} operations {dict(outcomes)}, right again after {took_s:.1f} s")
    there = await asyncio.to_thread(house.processes)
    database = f"sqlite+aiosqlite:///{house.stack.data_dir / 'stoker.db'}"
    milvus = f"http://127.0.0.1:{there['milvus']['port']}"
    books = Books(database, milvus, house.stack.data_dir, house.tenants, house.engines, PRICE)
    # Whoever a gateway was answering has lost the connection.
    theirs = ("broken",) if any(name.endswith("gateway") for name in names) else ()
    await examine(books, seen, house.port, how, figure, theirs)


async def test_some_processes(house: House, figure: Figure) -> None:
    await trial(house, ("worker", "a worker of the gateway"), "killed", figure)


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_every_process_in_turn(house: House, how: str, figure: Figure) -> None:
    await trial(house, PARTS, how, figure)


def test_every_process_is_named(house: House) -> None:
    lasting = {name for name, one in house.processes().items() if one["state"] != "done"}
    assert lasting == set(PARTS) - {"a worker of the gateway"}
