"""The house of retrieval's tests on parts that may be killed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.ingestion import parts
from tests.faults.ingestion.parts import Part
from tests.integration.retrieval.conftest import House, Servers, house

__all__ = ["house"]


@pytest.fixture
def fallible(tmp_path: Path) -> Iterator[tuple[dict[str, Part], Servers]]:
    """Milvus, Valkey and the embedding server, running, and where they are."""
    folder = tmp_path / "parts"
    folder.mkdir()
    made = {"milvus": parts.milvus(folder), "valkey": parts.valkey(folder), "embeddings": parts.embeddings(folder)}
    processes = {name: part for name, (part, _) in made.items()}
    try:
        for part in processes.values():
            part.start()
        yield processes, Servers(made["milvus"][1], made["valkey"][1], made["embeddings"][1])
    finally:
        for part in processes.values():
            part.end()


@pytest.fixture
def servers(fallible: tuple[dict[str, Part], Servers]) -> Servers:
    return fallible[1]


@pytest.fixture
def killable(fallible: tuple[dict[str, Part], Servers], house: House, tmp_path: Path) -> Iterator[dict[str, Part]]:
    """All four parts of ingestion, running."""
    environment = {
        "STOKER_DATA_DIR": str(house.settings.data_dir),
        "STOKER_REDIS_URL": fallible[1].redis_url,
        "STOKER_MILVUS_URI": fallible[1].milvus_uri,
        "STOKER_EMBEDDING_URL": fallible[1].embedding_url,
        "STOKER_LEASE_S": "3",
        "STOKER_HEARTBEAT_S": "0.5",
        "STOKER_POLL_S": "0.3",
    }
    worker = parts.worker(tmp_path / "parts", environment)
    try:
        worker.start()
        yield {"worker": worker, **fallible[0]}
    finally:
        worker.end()
