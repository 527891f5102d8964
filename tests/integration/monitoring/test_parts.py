"""Keeper and ingestion worker that run by themselves tell what they count; those that share a folder leave it to the
gateway."""

import http.client
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.retrieval.conftest import House, house, kill, servers
from tests.support.database import fresh_sqlite
from tests.support.gateway import answers, gateway, mock_upstream
from tests.support.network import free_port
from tests.support.process import running
from tests.support.valkey import valkey_server

__all__ = ["house", "servers"]


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def told(port: int) -> Counter[str]:
    """Name and labels of each sample, to its value."""
    status, text = get(port, "/metrics")
    assert status == 200
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                found[f"{sample.name}{sorted(sample.labels.items())}"] = sample.value  # type: ignore[assignment]
    return found


def await_(holds: Callable[[], bool]) -> None:
    """Counts come a moment after what is counted."""
    limit_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < limit_s, "it is not told"
        time.sleep(0.05)


def test_a_keeper_by_itself_tells_what_it_counts(tmp_path: Path) -> None:
    port, began_s = free_port(), time.time()
    fresh_sqlite(tmp_path / "stoker.db")
    with ExitStack() as stack:
        env = {
            "STOKER_DATA_DIR": str(tmp_path),
            "STOKER_REDIS_URL": stack.enter_context(valkey_server(tmp_path / "valkey")),
            "STOKER_METRICS_PORT": str(port),
        }
        assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
        command = [sys.executable, "-m", "api.keeper"]
        stack.enter_context(running(command, tmp_path / "keeper.log", lambda: answers(port, "/health"), env))
        await_(lambda: told(port)["stoker_ledger_shipped_timestamp_seconds[]"] >= began_s)
        assert get(port, "/health") == (200, json.dumps({"status": "ok"}))
        assert get(port, "/other")[0] == 404
        assert get(port, "/metrics", "POST")[0] == 405


def test_what_shares_a_folder_is_told_once(tmp_path: Path) -> None:
    port = free_port()
    settings = {"STOKER_METRICS_PORT": str(port), "STOKER_WORKERS": "2"}
    with mock_upstream() as upstream, gateway(tmp_path / "g", upstream.port, settings=settings) as gate:
        await_(lambda: told(gate.port)["stoker_ledger_shipped_timestamp_seconds[]"] > 0)
        assert get(port, "/health")[0] == 200
        assert told(port) == {}, "the gateway tells it, too"


def test_a_port_that_is_taken_is_said_in_words(tmp_path: Path) -> None:
    fresh_sqlite(tmp_path / "stoker.db")
    with valkey_server(tmp_path / "valkey") as redis_url:
        env = {"STOKER_DATA_DIR": str(tmp_path), "STOKER_REDIS_URL": redis_url}
        env["STOKER_METRICS_PORT"] = redis_url.rpartition(":")[2].partition("/")[0]
        command = [sys.executable, "-m", "api.keeper"]
        with (
            pytest.raises(RuntimeError, match="STOKER_METRICS_PORT: nobody can listen"),
            running(command, tmp_path / "keeper.log", lambda: False, env),
        ):
            pass


@pytest.fixture
async def worker_port(house: House, tmp_path: Path) -> AsyncIterator[int]:
    port = free_port()
    process = house.worker_process(tmp_path / "worker.log", STOKER_METRICS_PORT=str(port))
    yield port
    kill(process)


async def test_a_worker_by_itself_tells_what_it_ingested(house: House, worker_port: int) -> None:
    await house.retrieval.collections.create(house.principal, "tales")
    await house.ingest("tales", owl="The owl sleeps in the tower.", cat="The cat sleeps on the stove.")
    await_(lambda: told(worker_port)["stoker_ingested_documents_total[('status', 'ready')]"] == 2)
    assert get(worker_port, "/health")[0] == 200
