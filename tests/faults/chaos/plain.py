"""A Stoker on SQLite without proxies, all of whose data is in one folder: for disks that fill and clocks that jump."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.chaos.audit import Books
from tests.faults.chaos.house import LEASE_S, PART_S, PRICE, configured, models, settled
from tests.faults.chaos.load import TELLING, Tenant
from tests.faults.ingestion import parts
from tests.faults.ingestion.parts import Part
from tests.support.exact.server import ExactServer
from tests.support.gateway import Gateway, gateway, workers


@dataclass
class Plain:
    """What runs; `folder` holds the data."""

    gate: Gateway
    parts: dict[str, Part]
    engines: list[ExactServer]
    tenants: list[Tenant]
    milvus_uri: str

    def books(self) -> Books:
        """Where the truth is kept."""
        database = f"sqlite+aiosqlite:///{self.gate.folder / 'stoker.db'}"
        return Books(database, self.milvus_uri, self.gate.folder, self.tenants, self.engines, PRICE)

    def processes(self) -> dict[str, object]:
        """What must be the same before and after."""
        return {"gateway": sorted(workers(self.gate.pid)), **{name: part.lives for name, part in self.parts.items()}}


@contextmanager
def plain(
    folder: Path, ours: Mapping[str, str] | None = None, valkeys: Mapping[str, str] | None = None
) -> Iterator[Plain]:
    """Start everything, with two tenants who have a document each.

    Args:
        ours: more variables of the gateway, the keeper and the worker.
        valkeys: more variables of Valkey.
    """
    folder.mkdir(parents=True, exist_ok=True)
    milvus, milvus_uri = parts.milvus(folder)
    valkey, redis_url = parts.valkey(folder, valkeys)
    embeddings, embedding_url = parts.embeddings(folder)
    found = {"milvus": milvus, "valkey": valkey, "embeddings": embeddings}
    with ExitStack() as stack:
        for part in found.values():
            stack.callback(part.end)
            part.start()
        engines, telling = stack.enter_context(models())
        first, second, provider = (f"http://127.0.0.1:{engine.port}" for engine in engines)
        settings = {
            **{f"STOKER_{part}_DEADLINE_S": str(PART_S) for part in ("EMBEDDING", "SEARCH", "RERANK")},
            "STOKER_ADMISSION_LEASE_S": str(LEASE_S),
            "STOKER_LEASE_S": "3",
            "STOKER_HEARTBEAT_S": "0.5",
            "STOKER_POLL_S": "0.3",
            "STOKER_ANSWER_MODEL": TELLING,
            "STOKER_MILVUS_URI": milvus_uri,
            "STOKER_REDIS_URL": redis_url,
            "STOKER_EMBEDDING_URL": embedding_url,
            "STOKER_WORKERS": "2",
            **(ours or {}),
        }
        configuration = configured(first, second, provider, telling.removesuffix("/v1"))
        gate = stack.enter_context(
            gateway(folder / "data", 1, settings=settings, configuration=configuration, keeper=False)
        )
        data = {
            **settings,
            "STOKER_DATA_DIR": str(gate.folder),
            "STOKER_CONFIG": str(gate.folder / "stoker.yaml"),
            "STOKER_GATEWAY_URL": gate.url,
        }
        found["worker"] = parts.worker(folder, {**data, "STOKER_EMBEDDING_DEADLINE_S": "15"})
        found["keeper"] = parts.keeper(folder, data)
        for name in ("worker", "keeper"):
            stack.callback(found[name].end)
            found[name].start()
        yield Plain(gate, found, engines, settled(gate.url, gate.key), milvus_uri)
