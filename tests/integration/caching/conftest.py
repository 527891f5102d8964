"""A gateway with a cache, a collection, and a model that is a double."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from tests.integration.hot.conftest import new_key
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.gateway import Gateway, gateway
from tests.support.openai_server import OpenAiServer, openai_server_in_thread
from tests.support.process import running
from tests.support.valkey import valkey_server

__all__ = ["servers"]

QUESTION = "When does the pier open?"
MODELS = ("words", "fragile")  # of one server; the first is the default, the second is for tests that break it
HELPED = "helped"  # of the same server, too, as is its fallback `helper`
UNLIMITED = {"rpm": None, "tpm": None, "parallel": None}


@dataclass
class House:
    """A gateway whose model answers with the first line of what it is shown."""

    gate: Gateway
    admin: httpx.Client
    server: OpenAiServer
    numbers: "Iterator[int]" = field(default_factory=lambda: iter(range(10**6)))
    clients: list[httpx.Client] = field(default_factory=list)

    def tenant(self) -> "Tenant":
        made = self.admin.post("/v1/admin/tenants", json={"name": f"tenant-{next(self.numbers)}"})
        return Tenant(self, str(made.raise_for_status().json()["id"]))


@dataclass
class Tenant:
    """A tenant with one collection, and its callers."""

    house: House
    id: str
    clients: dict[tuple[str, ...], httpx.Client] = field(default_factory=dict)

    def caller(self, *groups: str, role: str = "member") -> httpx.Client:
        """A user of these groups."""
        if (role, *groups) not in self.clients:
            admin, name = self.house.admin, f"user-{next(self.house.numbers)}"
            user = admin.post("/v1/admin/users", json={"name": name, "tenant": self.id, "groups": groups, "role": role})
            key = new_key(admin, tenant=self.id, user=user.raise_for_status().json()["id"], limits=UNLIMITED, role=role)
            headers = {"x-api-key": key["key"]}
            self.clients[role, *groups] = httpx.Client(base_url=self.house.gate.url, headers=headers, timeout=60)
            self.house.clients.append(self.clients[role, *groups])
        return self.clients[role, *groups]

    @property
    def manager(self) -> httpx.Client:
        return self.caller(role="manager")

    def keep(self, title: str, content: str, **fields: Any) -> str:
        """Ingest one document, or its next version. Returns: its id."""
        self.manager.post("/v1/collections", json={"name": "piers"})
        document = {"title": title, "content": content, **fields}
        job = self.manager.post("/v1/ingest", json={"collection": "piers", "documents": [document]})
        limit_s = time.monotonic() + 60
        while (state := self.manager.get(f"/v1/jobs/{job.raise_for_status().json()['job_id']}").json())[
            "status"
        ] != "succeeded":
            assert state["status"] in ("queued", "running"), state
            assert time.monotonic() < limit_s
            time.sleep(0.05)
        return str(state["documents"][0]["id"])


def ask(caller: httpx.Client, query: str = QUESTION, **fields: Any) -> dict[str, Any]:
    answer = caller.post("/v1/query", json={"query": query, "collection": "piers", "max_tokens": 60, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["x-cache"] == found["cache"]
    return found


def first_line(body: dict[str, Any]) -> str:
    """What the model says: the first line of the first text that it is shown."""
    shown = str(body["messages"][-1]["content"])
    return shown.split("<text>\n", 1)[-1].split("\n", 1)[0]


@contextmanager
def opened(servers: Servers, folder: Path, **more: str) -> Iterator[House]:
    with openai_server_in_thread() as server:
        server.script = lambda _name, body: first_line(body)
        settings = {
            "STOKER_MILVUS_URI": servers.milvus_uri,
            "STOKER_EMBEDDING_URL": servers.embedding_url,
            "STOKER_EMBEDDING_DEADLINE_S": "15",
            "STOKER_SEARCH_DEADLINE_S": "12",
            "STOKER_WORKERS": "2",
            "STOKER_ANSWER_CACHE_S": "3600",
            "STOKER_SEARCH_CACHE_S": "3600",
            "STOKER_QUESTION_CACHE_S": "3600",
            "STOKER_ANSWER_CACHE_SEMANTIC": "true",
            **more,
        }
        entry = f"{{model: hosted_vllm/words, api_base: '{server.base_url}'}}"
        priced = "model_info: {input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}"
        configuration = "model_list:\n" + "".join(
            f"  - model_name: {name}\n    litellm_params: {entry}\n    {priced}\n" for name in (*MODELS, HELPED)
        )
        configuration += f"  - {{model_name: helper, litellm_params: {entry}}}\n"
        configuration += f"litellm_settings: {{fallbacks: [{{{HELPED}: [helper]}}]}}\n"
        with gateway(folder, 1, settings=settings, configuration=configuration) as gate:
            worker = {**settings, "STOKER_DATA_DIR": str(gate.folder), "STOKER_REDIS_URL": gate.redis_url}
            with (
                running([sys.executable, "-m", "retrieval.worker"], folder / "worker.log", lambda: True, worker),
                httpx.Client(base_url=gate.url, headers={"x-api-key": gate.key}, timeout=60) as admin,
            ):
                made = House(gate, admin, server)
                yield made
                for client in made.clients:
                    client.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey of its own, for tests of the cache alone."""
    with valkey_server(tmp_path_factory.mktemp("valkey")) as address:
        yield address


@pytest.fixture
def redis(url: str) -> Redis:
    """A client of it; there is nothing in it."""
    client: Redis = Redis.from_url(url)
    client.flushall()
    return client


@pytest.fixture(scope="package")
def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(servers, tmp_path_factory.mktemp("cached"), STOKER_SEMANTIC_CHECK_SHARE="0") as one:
        yield one


@pytest.fixture(scope="package")
def checking(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One that holds each hit of other words against a new answer."""
    more = {"STOKER_SEMANTIC_CHECK_SHARE": "1", "STOKER_WORKERS": "1"}
    with opened(servers, tmp_path_factory.mktemp("checking"), **more) as one:
        yield one
