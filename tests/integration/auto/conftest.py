"""A gateway with a small and a large model, each of a double of its own, and a collection to ask about."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.retrieval.conftest import Servers, servers
from tests.support.gateway import entry, gateway, models
from tests.support.openai_server import OpenAiServer, openai_server_in_thread
from tests.support.process import running

__all__ = ["servers"]

_PRICES = {"small": "0.000001", "large": "0.00001"}  # US dollars a token


@dataclass
class House:
    """A gateway that chooses between `small` and `large`; the admin's key has no limits."""

    client: httpx.Client
    small: OpenAiServer
    large: OpenAiServer

    def asked(self) -> str:
        """Which of the two was asked since the last look; "both" where it was both."""
        found = [name for name, server in (("small", self.small), ("large", self.large)) if server.bodies]
        self.small.bodies.clear()
        self.large.bodies.clear()
        return "both" if len(found) == 2 else "".join(found)

    def send(self, path: str, key: str | None = None, **body: Any) -> dict[str, Any]:
        headers = None if key is None else {"x-api-key": key}
        answer = self.client.post(path, json={"model": "auto", **body}, headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def keep(self, content: str) -> None:
        self.client.post("/v1/collections", json={"name": "piers"}).raise_for_status()
        sent = {"collection": "piers", "documents": [{"title": "a", "content": content}]}
        job = self.client.post("/v1/ingest", json=sent).raise_for_status().json()["job_id"]
        limit_s = time.monotonic() + 120
        while (state := self.client.get(f"/v1/jobs/{job}").json())["status"] != "succeeded":
            assert state["status"] in ("queued", "running"), state
            assert time.monotonic() < limit_s
            time.sleep(0.05)


@pytest.fixture(scope="package")
def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("auto")
    with ExitStack() as stack:
        small, large = (stack.enter_context(openai_server_in_thread()) for _ in range(2))
        settings = {
            "STOKER_MILVUS_URI": servers.milvus_uri,
            "STOKER_EMBEDDING_URL": servers.embedding_url,
            "STOKER_EMBEDDING_DEADLINE_S": "15",
            "STOKER_SEARCH_DEADLINE_S": "12",
            "STOKER_AUTO_MODELS": "small,large",
            "STOKER_AUTO_THRESHOLDS": "0.5",
        }
        entries = [
            entry(name, server.base_url, _PRICES[name], _PRICES[name])
            for name, server in (("small", small), ("large", large))
        ]
        gate = stack.enter_context(gateway(folder, 1, settings=settings, configuration=models(*entries)))
        worker = {**settings, "STOKER_DATA_DIR": str(gate.folder), "STOKER_REDIS_URL": gate.redis_url}
        log = folder / "worker.log"
        stack.enter_context(running([sys.executable, "-m", "retrieval.worker"], log, lambda: True, worker))
        headers = {"x-api-key": gate.key}
        client = stack.enter_context(httpx.Client(base_url=gate.url, headers=headers, timeout=60))
        made = House(client, small, large)
        made.keep("The pier opens at 06:15. It has two berths, and a lamp at its end.")
        yield made
