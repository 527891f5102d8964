"""A whole Stoker of single processes with a proxy between each pair of them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.faults.chaos.audit import Books
from tests.faults.chaos.load import COLLECTION, EXACT, HOSTED, TELLING, Tenant
from tests.faults.ingestion import parts
from tests.faults.ingestion.parts import Part
from tests.support.exact.server import ExactServer, exact_server_in_thread
from tests.support.gateway import Gateway, gateway, workers
from tests.support.openai_server import openai_server_in_thread
from tests.support.postgres import Postgres, postgres_server
from tests.support.proxy import Network, Proxy, network

PART_S = 2.5  # deadline of each part
PRICE = 600  # nano-USD a token of the prompt and of the answer alike
PARALLEL = 24  # what a key may have running at once
LEASE_S = 4.0
PAIRS = (
    *("client-gateway", "gateway-engine", "gateway-provider", "gateway-embeddings", "gateway-valkey", "gateway-sql"),
    *("gateway-milvus", "worker-embeddings", "worker-valkey", "worker-sql", "worker-milvus"),
    *("keeper-valkey", "keeper-sql", "keeper-gateway"),
)
_PRICES = "input_cost_per_token: 0.0000006, output_cost_per_token: 0.0000006"


@dataclass
class House:
    """What runs.

    Attributes:
        pairs: the proxies between two parts, by the parts' names.
        engines: what answers chats, and keeps a log of it.
        folder: of the data.
        database_url: of the SQL server itself, without a proxy.
    """

    gate: Gateway
    network: Network
    pairs: dict[str, list[Proxy]]
    parts: dict[str, Part]
    engines: list[ExactServer]
    postgres: Postgres
    tenants: list[Tenant]
    folder: Path
    database_url: str
    milvus_uri: str

    @property
    def url(self) -> str:
        """The gateway as clients reach it."""
        return self.pairs["client-gateway"][0].url

    def books(self) -> Books:
        """Where the truth is kept."""
        return Books(self.database_url, self.milvus_uri, self.folder, self.tenants, self.engines, PRICE)

    def processes(self) -> dict[str, object]:
        """What must be the same before and after a fault of the network."""
        return {"gateway": sorted(workers(self.gate.pid)), **{name: part.lives for name, part in self.parts.items()}}


@contextmanager
def opened(folder: Path) -> Iterator[House]:
    """Start everything, with two tenants who have a document each."""
    folder.mkdir(parents=True)
    milvus, milvus_uri = parts.milvus(folder)
    valkey, redis_url = parts.valkey(folder)
    embeddings, embedding_url = parts.embeddings(folder)
    with ExitStack() as stack:
        servers = {"valkey": valkey, "milvus": milvus, "embeddings": embeddings}
        for part in servers.values():
            stack.callback(part.end)
            part.start()
        postgres = stack.enter_context(postgres_server())
        postgres.execute("CREATE DATABASE chaos")
        engines, telling = stack.enter_context(models())
        net = stack.enter_context(network())
        addresses: dict[str, int | str] = {
            "valkey": _port(redis_url),
            "sql": postgres.socket,
            "milvus": _port(milvus_uri),
            "embeddings": _port(embedding_url),
        }
        pairs = {
            f"{who}-{what}": [net.before(address, f"{who}-{what}")]
            for who in ("gateway", "worker", "keeper")
            for what, address in addresses.items()
            if f"{who}-{what}" in PAIRS
        }
        pairs["gateway-engine"] = [net.before(engines[0].port), net.before(_port(telling))]
        pairs["gateway-provider"] = [net.before(engines[2].port)]
        configuration = configured(
            f"http://127.0.0.1:{pairs['gateway-engine'][0].port}",
            f"http://127.0.0.1:{engines[1].port}",
            f"http://127.0.0.1:{pairs['gateway-provider'][0].port}",
            f"http://127.0.0.1:{pairs['gateway-engine'][1].port}",
        )
        shared = {
            **{f"STOKER_{part}_DEADLINE_S": str(PART_S) for part in ("EMBEDDING", "SEARCH", "RERANK", "SQL")},
            "STOKER_ADMISSION_LEASE_S": str(LEASE_S),
            "STOKER_LEASE_S": "3",
            "STOKER_HEARTBEAT_S": "0.5",
            "STOKER_POLL_S": "0.3",
            "STOKER_ANSWER_MODEL": TELLING,
        }
        gate = stack.enter_context(
            gateway(
                folder / "data",
                1,
                settings={**shared, **_led(pairs, "gateway"), "STOKER_WORKERS": "2"},
                configuration=configuration,
                keeper=False,
            )
        )
        for name, port in (("client-gateway", gate.port), ("keeper-gateway", gate.port)):
            pairs[name] = [net.before(port, name)]
        data = {**shared, "STOKER_DATA_DIR": str(gate.folder), "STOKER_CONFIG": str(gate.folder / "stoker.yaml")}
        worker_s = {"STOKER_EMBEDDING_DEADLINE_S": "15"}
        servers["worker"] = parts.worker(folder, {**data, **_led(pairs, "worker"), **worker_s})
        servers["keeper"] = parts.keeper(
            folder,
            {**data, **_led(pairs, "keeper"), "STOKER_GATEWAY_URL": pairs["keeper-gateway"][0].url},
        )
        for name in ("worker", "keeper"):
            stack.callback(servers[name].end)
            servers[name].start()
        tenants = settled(gate.url, gate.key)
        yield House(
            gate, net, pairs, servers, engines, postgres, tenants, gate.folder, postgres.url("chaos"), milvus_uri
        )


@contextmanager
def models() -> Iterator[tuple[list[ExactServer], str]]:
    """Three engines of one model with logs, and the address, with /v1, of one that answers questions."""
    with ExitStack() as stack:
        engines = [stack.enter_context(exact_server_in_thread(EXACT)) for _ in range(3)]
        for engine in engines:
            engine.pause_s = 0.01
        telling = stack.enter_context(openai_server_in_thread())
        telling.script = lambda _name, body: _tells(str(body["messages"][-1]["content"]))
        yield engines, telling.base_url


def _tells(prompt: str) -> str | None:
    """The first line that the model is shown."""
    return prompt.split("<text>\n", 1)[1].split("\n", 1)[0] if "<text>\n" in prompt else None


def configured(first: str, second: str, provider: str, telling: str) -> str:
    """The text of stoker.yaml: a group of two engines, one that LiteLLM reaches, and one that answers questions."""
    entries = (
        (EXACT, f"hosted_vllm/{EXACT}", first, ""),
        (EXACT, f"hosted_vllm/{EXACT}", second, ""),
        (HOSTED, f"openai/{EXACT}", provider, ", api_key: sk-none"),
        (TELLING, "hosted_vllm/words", telling, ""),
    )
    return (
        "model_list:\n"
        + "".join(
            f"  - model_name: {group}\n    litellm_params: {{model: {model}, api_base: '{url}/v1', {_PRICES}{more}}}\n"
            for group, model, url, more in entries
        )
        + "stoker:\n  deadlines: {connect_s: 2, first_token_s: 3, between_tokens_s: 3, total_s: 12}\n"
        "  breaker: {probe_hosted_s: 2}\n"
    )


def _led(pairs: Mapping[str, list[Proxy]], who: str) -> dict[str, str]:
    """The addresses of parts as one process knows them."""
    forms = {
        "valkey": ("STOKER_REDIS_URL", "redis://127.0.0.1:{}/0"),
        "sql": ("STOKER_DATABASE_URL", "postgresql+asyncpg://postgres:@127.0.0.1:{}/chaos"),
        "milvus": ("STOKER_MILVUS_URI", "http://127.0.0.1:{}"),
        "embeddings": ("STOKER_EMBEDDING_URL", "http://127.0.0.1:{}"),
    }
    return {
        variable: form.format(pairs[f"{who}-{part}"][0].port)
        for part, (variable, form) in forms.items()
        if f"{who}-{part}" in pairs
    }


def _port(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


def settled(url: str, key: str) -> list[Tenant]:
    """Two tenants, each with a key and a collection in which one document is."""
    return [_tenant(url, key, word) for word in ("crimson", "azure")]


def _tenant(url: str, admin_key: str, word: str) -> Tenant:
    with httpx.Client(base_url=url, headers={"x-api-key": admin_key}, timeout=60) as admin:
        tenant = admin.post("/v1/admin/tenants", json={"name": word}).raise_for_status().json()["id"]
        limits = {"rpm": 10**7, "tpm": 10**9, "parallel": PARALLEL, "usd_per_day": "1000"}
        made = admin.post("/v1/admin/keys", json={"name": "load", "tenant": tenant, "limits": limits})
        key = str(made.raise_for_status().json()["key"])
    with httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60) as client:
        client.post("/v1/collections", json={"name": COLLECTION}).raise_for_status()
        content = f"The {word} owl sleeps in the bell tower."
        body = {"collection": COLLECTION, "documents": [{"title": f"{word}-first", "content": content}]}
        job = client.post("/v1/ingest", json=body).raise_for_status().json()["job_id"]
        limit_s = time.monotonic() + 60
        while (status := client.get(f"/v1/jobs/{job}").json()["status"]) != "succeeded":
            assert status in ("queued", "running"), status
            assert time.monotonic() < limit_s
            time.sleep(0.1)
    return Tenant(tenant, key, word)
