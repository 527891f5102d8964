"""One gateway in front of the mock for all tests of the hot path."""

import json
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, Upstream, gateway, mock_upstream


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    with mock_upstream() as one:
        yield one


@pytest.fixture(scope="session")
def gate(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {
        "STOKER_CORS_ORIGINS": "https://allowed.example",
        "STOKER_BODY_DEADLINE_S": "1.5",
        "STOKER_MAX_BODY_BYTES": "200000",
        "STOKER_WORKERS": "2",
    }
    with gateway(tmp_path_factory.mktemp("hot"), upstream.port, settings=settings) as one:
        yield one


@pytest.fixture(scope="session")
def client(gate: Gateway) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {gate.key}"}
    with httpx.Client(base_url=gate.url, headers=headers, timeout=30) as one:
        yield one


def new_key(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    """A key made by the admin."""
    answer = client.post("/v1/admin/keys", json={"name": "test", **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def body(**fields: Any) -> dict[str, Any]:
    """A chat request for three tokens."""
    return {"model": "mock", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 3, **fields}


def lines(gate: Gateway, **where: str) -> list[dict[str, Any]]:
    """The lines of the ledger in SQL that match."""
    with sqlite3.connect(f"file:{gate.folder / 'stoker.db'}?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        clause = " AND ".join(f"{name} = ?" for name in where) or "1"
        return [dict(row) for row in database.execute(f"SELECT * FROM ledger WHERE {clause}", tuple(where.values()))]


def await_lines(gate: Gateway, count: int, **where: str) -> list[dict[str, Any]]:
    """The same, once there are as many; a moment after they were written."""
    limit = time.monotonic() + 20
    while len(found := lines(gate, **where)) < count and time.monotonic() < limit:
        time.sleep(0.1)
    assert len(found) == count, found
    return found


def events(text: str) -> list[Any]:
    """The data of a stream's events, parsed."""
    data = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(one) if one != "[DONE]" else one for one in data]
