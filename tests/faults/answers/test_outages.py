"""Each part that answers lean on is killed and frozen under load: every answer says so, none hangs, all come back."""

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.faults.answers.asking import Kind, Load, kinds, load
from tests.faults.answers.splitter import Splitter, splitter_in_thread
from tests.faults.gateway.test_outages import until, write_lock
from tests.faults.ingestion import parts
from tests.faults.ingestion.parts import Part
from tests.support.gateway import Gateway, answers, gateway
from tests.support.network import free_port
from tests.support.postgres import Postgres, postgres_server

pytestmark = pytest.mark.slow  # every part is started

PART_S = 2.5  # deadline of each part
FIRST_TOKEN_S = 3.0
# A question waits for SQL, for both legs of the search, reranking, the model, and the texts that it cites.
BOUND_S = 5 * PART_S + 2 * FIRST_TOKEN_S + 4
RECOVERY_S = 12.0
DOCUMENTS = {
    "ferry.md": "# Ferry\n\nThe ferry to Wellhaven leaves at 07:45 every day. It leaves from the eastern quay.",
    "light.md": "# Lighthouse\n\nThe lighthouse of Wellhaven was built in 1872 and is painted white.",
    "tea.md": "# Tea\n\nTea is served at four in the garden, and nobody may bring a dog.",
}
DEGRADED: frozenset[Kind] = frozenset({"degraded"})
REFUSED: frozenset[Kind] = frozenset({"degraded", "503"})
UNHARMED: frozenset[Kind] = frozenset()

Figure = Callable[[str], None]


@dataclass
class House:
    """A gateway on parts of its own.

    Attributes:
        outages: by part and how it fails.
        embeddings: the address that the gateway knows.
    """

    gate: Gateway
    splitter: Splitter
    outages: dict[str, Callable[[], AbstractContextManager[None]]] = field(default_factory=dict)

    def fill(self, collection: str, **fields: object) -> None:
        """Make a collection of the documents."""
        headers = {"authorization": f"Bearer {self.gate.key}"}
        with httpx.Client(base_url=self.gate.url, headers=headers, timeout=60) as client:
            client.post("/v1/collections", json={"name": collection, **fields}).raise_for_status()
            files = [("file", (name, text.encode())) for name, text in DOCUMENTS.items()]
            job = client.post("/v1/ingest", files=files, data={"collection": collection}).raise_for_status().json()
            limit_s = time.monotonic() + 90
            while (status := client.get(f"/v1/jobs/{job['job_id']}").json()["status"]) != "succeeded":
                assert status in ("queued", "running"), status
                assert time.monotonic() < limit_s, status
                time.sleep(0.1)


@contextmanager
def opened(folder: Path, database_url: str | None = None) -> Iterator[House]:
    """Start every part and a gateway; documents are ingested into `plain`, and into `ranked`, which is reranked."""
    folder.mkdir(parents=True, exist_ok=True)
    model_port = free_port()
    (milvus, milvus_uri), (valkey, redis_url) = parts.milvus(folder), parts.valkey(folder)
    embeddings, embedding_url = parts.embeddings(folder)
    model = Part(
        [sys.executable, "-m", "tests.faults.answers.model", str(model_port)],
        folder / "model.log",
        lambda: answers(model_port, "/v1/models"),
    )
    settings = {
        "STOKER_MILVUS_URI": milvus_uri,
        "STOKER_REDIS_URL": redis_url,
        **{f"STOKER_{part}_DEADLINE_S": str(PART_S) for part in ("EMBEDDING", "SEARCH", "RERANK", "SQL")},
        **({} if database_url is None else {"STOKER_DATABASE_URL": database_url}),
    }
    configuration = (
        "model_list:\n  - model_name: words\n    litellm_params: {model: hosted_vllm/words, "
        f"api_base: 'http://127.0.0.1:{model_port}/v1'}}\n"
        f"stoker:\n  deadlines: {{first_token_s: {FIRST_TOKEN_S}, between_tokens_s: {FIRST_TOKEN_S}}}\n"
    )
    with ExitStack() as stack:
        for part in (valkey, milvus, embeddings, model):
            stack.callback(part.end)
            part.start()
        splitter = stack.enter_context(splitter_in_thread(int(embedding_url.rpartition(":")[2])))
        settings["STOKER_EMBEDDING_URL"] = splitter.url
        gate = stack.enter_context(
            gateway(folder / "gate", 1, settings=settings, configuration=configuration, keeper=False)
        )
        house = House(gate, splitter)
        environment = {**settings, "STOKER_DATA_DIR": str(gate.folder), "STOKER_EMBEDDING_DEADLINE_S": "15"}
        worker = parts.worker(folder, environment)
        try:
            worker.start()
            house.fill("plain")
            house.fill("ranked", search={"rerank": True})
        finally:
            worker.end()
        named = {"valkey": valkey, "milvus": milvus, "embeddings": embeddings, "model": model}
        house.outages = {
            f"{name} {how}": getattr(part, how) for name, part in named.items() for how in ("frozen", "killed")
        }
        house.outages["sqlite locked"] = lambda: write_lock(gate)
        yield house


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("outages") / "house") as one:
        yield one


@pytest.fixture(scope="module")
def reranker(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """An embedding server of its own for what reranks."""
    folder = tmp_path_factory.mktemp("reranker")
    part, url = parts.embeddings(folder)
    try:
        part.start()
        house.splitter.ports["/v1/rerank"] = int(url.rpartition(":")[2])
        yield part
    finally:
        house.splitter.ports.clear()
        part.end()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as one:
        yield one


@pytest.fixture(scope="module")
def on_postgres(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    postgres.execute("CREATE DATABASE answers")
    with opened(tmp_path_factory.mktemp("on-postgres") / "house", postgres.url("answers")) as one:
        yield one


async def trial(
    house: House,
    outage: Callable[[], AbstractContextManager[None]],
    outage_s: float,
    says: str,
    allowed: frozenset[Kind],
    figure: Figure,
    collection: str = "plain",
) -> None:
    """Ask before, during and after an outage.

    Args:
        says: a pattern in which every answer speaks that is not whole, and was under way during the outage.
        allowed: what may become of answers beside whole ones.
    """
    async with load(house.gate.url, house.gate.key, collection) as seen:
        await until(lambda: _whole(seen, 0.0), BOUND_S)  # connections are open, nothing is left of the trial before
        began_s = time.monotonic()
        await asyncio.sleep(0.5)
        away_s = time.monotonic()
        ends_s = await hold(outage, outage_s)
        back_s = time.monotonic()
        recovery_s = await until(lambda: _whole(seen, back_s), RECOVERY_S)
        whole_s = time.monotonic()
        await asyncio.sleep(1)
    during, after = seen.within(away_s, ends_s), seen.since(whole_s)
    bad = [one for one in seen.told if one.kind == "bad"]
    assert not bad, bad[:3]
    before = [one for one in seen.since(began_s) if one.began_s + one.took_s < away_s]
    assert set(kinds(before)) <= {"whole"}, before
    assert set(kinds(during)) <= {"whole", *allowed}, [one for one in during if one.kind not in allowed][:3]
    assert not allowed or set(kinds(during)) & allowed, "the outage was not felt"
    unnamed = [one.why for one in during if one.kind != "whole" and not re.search(says, one.why)]
    assert not unnamed, unnamed[:3]
    slowest_s = max(one.took_s for one in seen.since(began_s))
    assert slowest_s < BOUND_S, slowest_s
    assert set(kinds(after)) == {"whole"}, [one for one in after if one.kind != "whole"][:3]
    counted = kinds(during)
    streamed = sum(one.streamed for one in during)
    figure(
        f"{outage_s:g} s, meanwhile: {counted['whole']} whole, {counted['degraded']} degraded, {counted['503']} "
        f"503 ({streamed} of {len(during)} streamed); slowest {slowest_s:.1f} s; whole again after {recovery_s:.1f} s"
    )


async def hold(outage: Callable[[], AbstractContextManager[None]], outage_s: float) -> float:
    """Have an outage for so long; what was killed is started again, and is ready. Returns: when it was to end."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:  # one: a lock of SQLite's ends in the thread in which it began
        held = outage()
        await loop.run_in_executor(thread, held.__enter__)
        try:
            await asyncio.sleep(outage_s)
            return time.monotonic()
        finally:
            await loop.run_in_executor(thread, held.__exit__, None, None, None)


async def _whole(seen: Load, since_s: float) -> bool:
    """Whether the last answers that were asked for since then are whole, in one piece and streamed."""
    last = seen.since(since_s)[-4:]
    return set(kinds(last)) == {"whole"} and {one.streamed for one in last} == {True, False}


_LONG = pytest.mark.long
_HEAVY = pytest.mark.heavy


@pytest.mark.parametrize(
    ("name", "says", "allowed"),
    [
        pytest.param("embeddings frozen", "embeddings", DEGRADED, id="embeddings-frozen"),
        pytest.param("milvus frozen", "milvus", REFUSED, id="milvus-frozen"),
        pytest.param("model killed", "no model answered", DEGRADED, id="model-killed", marks=_HEAVY),
    ],
)
async def test_while_a_part_is_away_every_answer_says_so(
    house: House, name: str, says: str, allowed: frozenset[Kind], figure: Figure
) -> None:
    await trial(house, house.outages[name], 4, says, allowed, figure)


@_LONG
@pytest.mark.parametrize(
    ("name", "says", "allowed"),
    [
        ("embeddings frozen", "embeddings", DEGRADED),
        ("embeddings killed", "embeddings", DEGRADED),
        ("milvus frozen", "milvus", REFUSED),
        ("milvus killed", "milvus", REFUSED),
        ("model frozen", "no model answered", DEGRADED),
        ("model killed", "no model answered", DEGRADED),
        ("valkey frozen", "", UNHARMED),
        ("valkey killed", "", UNHARMED),
        ("sqlite locked", "", UNHARMED),
    ],
)
async def test_for_longer(house: House, name: str, says: str, allowed: frozenset[Kind], figure: Figure) -> None:
    await trial(house, house.outages[name], 12, says, allowed, figure)


@_LONG
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_without_what_reranks(house: House, reranker: Part, how: str, figure: Figure) -> None:
    await trial(house, getattr(reranker, how), 8, "reranking", DEGRADED, figure, collection="ranked")


@_LONG
@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_without_postgresql(on_postgres: House, postgres: Postgres, how: str, figure: Figure) -> None:
    await trial(on_postgres, getattr(postgres, how), 8, "sql|database", REFUSED, figure)
