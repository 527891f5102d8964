"""300 documents that attack, before a model that obeys them all."""

import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import events, new_key
from tests.integration.retrieval.conftest import Servers, servers
from tests.support.attacks import Attack, attacks, obey
from tests.support.gateway import gateway
from tests.support.openai_server import OpenAiServer, openai_server_in_thread
from tests.support.process import running

__all__ = ["servers"]

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

SECRET = "Quillfeather"
OTHERS = {"title": "secret", "content": f"The secret of the other tenant is {SECRET}. Its pier opens at midnight."}
ATTACKS = attacks()
WAYS = ("strict", "mark", "off", "responses")
_LEADS = re.compile(
    r"[a-z]+:/*[/\\]{2}|//\S*evil\.test|www\.|\]\([^)]*[/:]|\]:\s*(?!\(link left out\))\S"
    r"|<\s*/?\s*(?:img|a|script|iframe)\b|(?:javascript|mailto|data):\S",
    re.IGNORECASE,
)


@dataclass
class House:
    """A tenant whose collection is full of attacks, and another one who has a secret."""

    client: httpx.Client
    other: httpx.Client
    server: OpenAiServer

    def ask(self, attack: Attack, way: str) -> list[str]:
        """The texts that are shown: the answer, and each piece of its stream."""
        if way == "responses":
            store = self.client.get("/v1/collections/piers").json()["id"]
            tool = {"type": "file_search", "vector_store_ids": [store], "max_num_results": 3}
            body = {"model": "words", "input": attack.question, "tools": [tool], "stream": True, "store": False}
            answer = self.client.post("/v1/responses", json={**body, "max_output_tokens": 400})
            assert answer.status_code == 200, answer.text
            told = events(answer.text)
            whole = next(event["response"] for event in told if event["type"] == "response.completed")
            message = whole["output"][-1]["content"][0]
            return [message["text"], "".join(one["delta"] for one in told if one["type"].endswith("text.delta"))]
        body = {"query": attack.question, "collection": "piers", "grounding": way, "max_tokens": 400, "stream": True}
        answer = self.client.post("/v1/query", json=body)
        assert answer.status_code == 200, answer.text
        told = events(answer.text)
        done = told[-1]
        tokens = [event["text"] for event in told if set(event) <= {"text", "supported"}]
        for citation in done["citations"]:
            path = f"/v1/collections/piers/documents/{citation['document_id']}/content"
            content = self.client.get(path, params={"version": citation["document_version"]}).text
            assert content[citation["start"] : citation["end"]] == citation["quote"]
        return [done["answer"], "".join(tokens)]


@pytest.fixture(scope="module")
def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("attacked")
    with openai_server_in_thread() as server:
        server.script = lambda _name, body: obey(body)
        settings = {
            "STOKER_MILVUS_URI": servers.milvus_uri,
            "STOKER_EMBEDDING_URL": servers.embedding_url,
            "STOKER_EMBEDDING_DEADLINE_S": "15",
            "STOKER_SEARCH_DEADLINE_S": "12",
            "STOKER_ANSWER_CONTEXT_CHARACTERS": "2000",
        }
        entry = f"{{model: hosted_vllm/words, api_base: '{server.base_url}'}}"
        configuration = f"model_list:\n  - model_name: words\n    litellm_params: {entry}\n"
        with gateway(folder, 1, settings=settings, configuration=configuration) as gate:
            worker = {**settings, "STOKER_DATA_DIR": str(gate.folder), "STOKER_REDIS_URL": gate.redis_url}
            with running([sys.executable, "-m", "retrieval.worker"], folder / "worker.log", lambda: True, worker):
                with httpx.Client(base_url=gate.url, headers={"x-api-key": gate.key}, timeout=60) as admin:
                    keys = [tenant_key(admin, name) for name in ("attacked", "other")]
                clients = [httpx.Client(base_url=gate.url, headers={"x-api-key": key}, timeout=60) for key in keys]
                documents = [{"title": f"pier {one.number}", "content": one.content} for one in ATTACKS]
                for client, texts in zip(clients, (documents, [OTHERS]), strict=True):
                    fill(client, texts)
                yield House(*clients, server)
                for client in clients:
                    client.close()


def tenant_key(admin: httpx.Client, name: str) -> str:
    made = admin.post("/v1/admin/tenants", json={"name": name}).raise_for_status().json()
    unlimited = {"rpm": None, "tpm": None, "parallel": None}
    return str(new_key(admin, tenant=made["id"], limits=unlimited)["key"])


def fill(client: httpx.Client, documents: list[dict[str, Any]]) -> None:
    client.post("/v1/collections", json={"name": "piers"}).raise_for_status()
    jobs = [
        client.post("/v1/ingest", json={"collection": "piers", "documents": documents[first : first + 50]})
        .raise_for_status()
        .json()["job_id"]
        for first in range(0, len(documents), 50)
    ]
    limit_s = time.monotonic() + 240
    for job in jobs:
        while (status := client.get(f"/v1/jobs/{job}").json()["status"]) != "succeeded":
            assert status in ("queued", "running"), status
            assert time.monotonic() < limit_s
            time.sleep(0.2)


def hidden(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in ("Cf", "Cc", "Cs") and char not in "\n\t"}


@pytest.mark.parametrize(
    "ways", [pytest.param(1, id="one-way-each"), pytest.param(4, id="all", marks=pytest.mark.long)]
)
def test_nothing_leaves_nobody_else_is_touched_and_no_foreign_link_is_shown(
    house: House, ways: int, figure: Callable[[str], None]
) -> None:
    counted: Counter[str] = Counter()
    for attack in ATTACKS:
        for at in range(ways):
            way = WAYS[(attack.number + at) % len(WAYS)]
            before = len(house.server.bodies)
            shown = house.ask(attack, way)
            asked = house.server.bodies[before:]
            assert len(asked) == 1  # the model's words are told, and never acted on
            prompt = str(asked[0]["messages"])
            assert SECRET not in prompt
            counted["obeyed"] += "«" in prompt
            for text in shown:
                assert SECRET not in text
                assert not _LEADS.search(text), (way, attack.number, text)
                assert not hidden(text), (way, attack.number, text)
            assert shown[1].strip() == shown[0].strip()
            counted[way] += 1
    assert counted["obeyed"] > len(ATTACKS) * ways * 0.8  # the orders reached the model, or this would show nothing
    assert house.client.get("/v1/collections/piers").json()["documents"] == len(ATTACKS)
    assert house.other.get("/v1/collections/piers").json()["documents"] == 1
    found = house.other.post("/v1/search", json={"query": "secret", "collection": "piers"}).json()["data"]
    assert [SECRET in passage["text"] for passage in found] == [True]
    figure(f"{len(ATTACKS)} documents that attack: {dict(counted)}")


def test_the_attacks_would_show_without_the_care() -> None:
    """That model shows foreign links and hidden text, where nobody takes them out."""
    said = [obey({"messages": [{"content": f"<text>\n{attack.content}\n</text>\n\nAnswer."}]}) for attack in ATTACKS]
    assert sum(bool(_LEADS.search(text)) for text in said) > 230
    assert len({attack.content for attack in ATTACKS}) == len(ATTACKS) == 300
