"""One gateway with documents and a model whose words are told in advance, for every door to its answers."""

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.hot.conftest import new_key
from tests.integration.querywork.test_gateway import House, bare_house, open_house
from tests.integration.retrieval.conftest import Servers, servers

__all__ = ["servers"]

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ASKED = "What is the winter fare of the ferry in 2024?"
SOURCED = "The winter fare of the ferry is nine crowns."
UNSOURCED = " Elephants sing loudly at night."
CLOSED = "The winter fare of the ferry will be twenty crowns."
OWN_ORIGIN = "https://own.example"
OF_2024 = {"type": "eq", "key": "year", "value": 2024}  # one document alone, whatever the ranking is
OF_2025 = {"type": "eq", "key": "year", "value": 2025}  # the closed one
OF_ANY = {"type": "gte", "key": "year", "value": 2000}


SETTINGS = {
    "STOKER_SOCKET_AUTH_S": "5",
    "STOKER_SOCKET_IDLE_S": "3",
    "STOKER_MAX_JSON_BYTES": "60000",
    "STOKER_CORS_ORIGINS": OWN_ORIGIN,
}


@pytest.fixture(scope="package")
def opened(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(servers, tmp_path_factory.mktemp("doors"), **SETTINGS) as house:
        yield house


@pytest.fixture(scope="package")
def opened_bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with bare_house(tmp_path_factory.mktemp("bare"), **SETTINGS) as house:
        yield house


@pytest.fixture
def house(opened: House) -> Iterator[House]:
    """The same, with a model that says what a source says to every request whose name ends in `.said`."""
    opened.says.clear()
    opened.says["said"] = SOURCED
    yield opened
    opened.server.fault, opened.server.pause_s = None, 0.0


@pytest.fixture
def bare(opened_bare: House) -> Iterator[House]:
    """One without documents, which starts in seconds."""
    yield opened_bare
    opened_bare.server.fault, opened_bare.server.pause_s = None, 0.0


def stranger_of(house: House) -> str:
    """A key of another tenant."""
    made = house.client.post("/v1/admin/tenants", json={"name": secrets.token_hex(6)}).raise_for_status().json()
    return str(new_key(house.client, tenant=made["id"], role="manager")["key"])


@pytest.fixture(scope="package")
def stranger(opened: House) -> str:
    return stranger_of(opened)


def name() -> str:
    """Of a request to which the model says `house.says["said"]`."""
    return f"door-{secrets.token_hex(4)}.said"


def ask(
    house: House, path: str = CHAT, says: str = SOURCED, key: str | None = None, asked: str = ASKED, **fields: Any
) -> httpx.Response:
    """Ask a chat from documents, having the model say this."""
    house.says["said"] = says
    headers = {"x-request-id": name()} | ({} if key is None else {"authorization": f"Bearer {key}"})
    retrieval = {"collection": "fares", "filter": OF_2024, **fields.pop("retrieval", {})}
    messages = [{"role": "user", "content": asked}]
    body = {"model": "words", "messages": messages, "max_tokens": 64, "retrieval": retrieval, **fields}
    return house.client.post(path, json=body, headers=headers)


def answered(house: House, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    answer = ask(house, path, **fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def begin(house: House, key: str | None = None) -> str:
    """A conversation of the caller's."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return str(house.client.post("/v1/conversations", json={}, headers=headers).raise_for_status().json()["id"])


def talk(house: House, conversation_id: str, key: str | None = None) -> list[tuple[str, str]]:
    """Who said what in a conversation."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    path = f"/v1/conversations/{conversation_id}/items"
    items = house.client.get(path, params={"order": "asc", "limit": 100}, headers=headers).raise_for_status().json()
    return [(item["role"], item["content"][0]["text"]) for item in items["data"]]
