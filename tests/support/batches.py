"""Batches of chat requests for the exact provider: files kept in a gateway's stores, and what must come out of them."""

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from api.files.store import Files, NewFile
from core.clock import SystemClock
from core.principal import Principal, Role
from storage.objects import FolderStore
from storage.sql import Database
from tests.support.exact import model as exact
from tests.support.gateway import Gateway

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


def chat(text: str, model: str = "exact", **fields: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 12, **fields}


def jsonl(bodies: Sequence[dict[str, Any]], endpoint: str = CHAT) -> bytes:
    """A batch's file; the custom ids are line-0 and on."""
    lines = [
        {"custom_id": f"line-{at}", "method": "POST", "url": endpoint, "body": body} for at, body in enumerate(bodies)
    ]
    return b"\n".join(map(orjson.dumps, lines))


class _NoDocuments:
    async def hide_made_of(self, *_: object) -> None:
        """None are made of these files."""


@dataclass
class Batcher:
    """Makes batches at a running gateway, and looks at what came out."""

    gate: Gateway
    key: str

    def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.request(method, f"{self.gate.url}{path}", headers=headers, timeout=30, **how)

    def keep(self, data: bytes, purpose: str = "batch") -> str:
        """Keep a file for everyone in the tenant. Returns: its id."""

        async def keep() -> str:
            database = Database(f"sqlite+aiosqlite:///{self.gate.folder / 'stoker.db'}", 10.0)
            files = Files(database, FolderStore(self.gate.folder / "objects", 10.0), _NoDocuments(), SystemClock())
            try:
                return (await files.keep(self._principal(), NewFile("in.jsonl", purpose, data))).id
            finally:
                await database.close()

        return asyncio.run(keep())

    def _principal(self) -> Principal:
        [(tenant_id,)] = self.sql("SELECT tenant_id FROM api_keys LIMIT 1")
        return Principal(tenant_id, None, Role.MEMBER)

    def create(self, data: bytes, endpoint: str = CHAT, **fields: Any) -> dict[str, Any]:
        asked = {"input_file_id": self.keep(data), "endpoint": endpoint, "completion_window": "24h", **fields}
        answer = self.call("POST", "/v1/batches", json=asked)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def get(self, batch_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/v1/batches/{batch_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def until(
        self, batch_id: str, condition: Callable[[dict[str, Any]], bool] | None = None, limit_s: float = 120
    ) -> dict[str, Any]:
        """Poll until it has ended, or until the condition holds; a gateway that is just starting is asked again."""
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit:
            with contextlib.suppress(httpx.TransportError):
                found = self.get(batch_id)
                if condition(found) if condition else found["status"] in ENDED:
                    return found
            time.sleep(0.05)
        raise AssertionError(f"not in time: {found}")

    def sql(self, statement: str, *values: Any) -> list[Any]:
        with contextlib.closing(sqlite3.connect(f"file:{self.gate.folder / 'stoker.db'}?mode=ro", uri=True)) as one:
            return one.execute(statement, values).fetchall()

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a file that came out."""
        if file_id is None:
            return []
        [(key,)] = self.sql("SELECT object_key FROM files WHERE id = ?", file_id)
        return [orjson.loads(line) for line in (self.gate.folder / "objects" / key).read_bytes().splitlines()]

    def ledger(self, batch_id: str) -> list[Any]:
        """Lines of the ledger: request id, route, outcome, tokens in and out, nano-USD, key."""
        columns = "request_id, route, outcome, tokens_in, tokens_out, nano_usd, key_id"
        return self.sql(f"SELECT {columns} FROM ledger WHERE request_id LIKE ?", f"{batch_id}-%")

    def await_ledger(self, batch_id: str, count: int) -> list[Any]:
        """The same, once there are as many: a moment after they were written."""
        limit = time.monotonic() + 20
        while len(found := self.ledger(batch_id)) < count and time.monotonic() < limit:
            time.sleep(0.1)
        return found


def check_whole(output: list[dict[str, Any]], bodies: Sequence[dict[str, Any]]) -> None:
    """Each line is there once, with the one answer that the exact provider gives to it."""
    assert Counter(line["custom_id"] for line in output) == Counter(f"line-{at}" for at in range(len(bodies)))
    for line in output:
        told = exact.answer("exact", exact.read_chat(bodies[int(line["custom_id"].removeprefix("line-"))]))
        answer = line["response"]["body"]
        assert answer["choices"][0]["message"]["content"] == told.text, line["custom_id"]
        assert answer["usage"]["completion_tokens"] == len(told.tokens)
