"""A tenant with one of everything that has an id, made over HTTP; rows that only a worker would write go into SQL."""

import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from core.ids import new_id
from tests.security.parts import NOTHING_LISTENS, caller
from tests.support.batches import ENDED
from tests.support.gateway import Gateway

TEXT = "The winter fare is nine crowns."
# Rows that change by themselves while nobody attacks: what is counted, timed or leased.
_RESTLESS = {
    "ledger": None,
    "audit_log": None,
    "tasks": {"fence", "worker", "lease_until", "attempts", "due", "progress"},
    "sessions": None,
    "batches": {"swept_at"},
    "batch_lines": None,
    "hosts": None,
    "deployments": None,
    "sla_checks": None,
    "sla_hours": None,
    "sla_latencies": None,
    "sla_marks": None,
    "budget_alerts": None,
    "term_frequencies": None,
    "coming_frequencies": None,
    "revision_terms": None,
}


@dataclass(frozen=True)
class Furnished:
    """A tenant.

    Attributes:
        manager, member, other: keys; member and other are of two of its users, who own what is personal, and nothing.
        ids: of one thing of each kind.
        mark: a word that stands in whatever the tenant named.
    """

    name: str
    manager: str
    member: str
    other: str
    ids: dict[str, str]
    folder: Path

    @property
    def mark(self) -> str:
        return f"{self.name}mark"

    def rows(self) -> dict[str, list[str]]:
        """All that SQL holds of it, and of what belongs to no tenant by a column of its own, without the restless."""
        with sqlite3.connect(f"file:{self.folder / 'stoker.db'}?mode=ro", uri=True) as database:
            database.row_factory = sqlite3.Row
            tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {table: self._rows(database, table) for table in tables if _RESTLESS.get(table, set()) is not None}

    def _rows(self, database: sqlite3.Connection, table: str) -> list[str]:
        columns = [row["name"] for row in database.execute(f"PRAGMA table_info({table})")]
        whose = "tenant_id = ?" if "tenant_id" in columns else "id = ?" if table == "tenants" else None
        where, values = ("", ()) if whose is None else (f" WHERE {whose}", (self.ids["tenant"],))
        shown = ", ".join(f'"{name}"' for name in columns if name not in (_RESTLESS.get(table) or ()))
        found = database.execute(f"SELECT {shown} FROM {table}{where}", values)
        return sorted(json.dumps([str(value) for value in row]) for row in found)


def furnish(gate: Gateway, admin: httpx.Client, name: str) -> Furnished:
    """Make a tenant of this name."""
    mark, ids = f"{name}mark", dict[str, str]()

    def made(client: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
        answer = client.post(path, json=body)
        assert answer.is_success, (path, answer.text)
        return dict(answer.json())

    ids["tenant"] = made(admin, "/v1/admin/tenants", name=name)["id"]
    ids["tenant's name"] = name
    ids["team"] = made(admin, "/v1/admin/teams", name=f"{mark} team", tenant=name)["id"]
    users = [made(admin, "/v1/admin/users", name=f"{mark} {who}", tenant=name, team=ids["team"])["id"] for who in "ab"]
    ids["user"] = users[0]
    free = {"rpm": None, "tpm": None, "parallel": None}
    manager = made(admin, "/v1/admin/keys", name=f"{mark} boss", role="manager", tenant=name, limits=free)["key"]
    keys = [
        made(admin, "/v1/admin/keys", name=f"{mark} key", role="member", tenant=name, user=user, limits=free)
        for user in users
    ]
    ids["key"] = keys[0]["id"]
    for kind in ("key", "user", "team", "tenant"):
        admin.put(f"/v1/admin/limits/{kind}/{ids[kind]}", json={"rpm": 1_000_000}).raise_for_status()
    with caller(gate, manager) as boss, caller(gate, keys[0]["key"]) as member:
        ids["hook"] = made(boss, "/v1/admin/hooks", name=f"{mark} hook")["id"]
        ids["webhook"] = made(boss, "/v1/admin/webhooks", url=f"{NOTHING_LISTENS}/{mark}")["id"]
        ids["collection"] = f"{name}-papers"
        ids["collection's id"] = made(member, "/v1/collections", name=ids["collection"], description=mark)["id"]
        judged = {"queries": [{"id": "q", "text": mark}], "qrels": [{"query_id": "q", "document": f"{mark}.txt"}]}
        boss.put(f"/v1/collections/{ids['collection']}/evaluation", json=judged).raise_for_status()
        one = {"title": f"{mark}.txt", "content": f"{TEXT} {mark}"}
        accepted = made(member, "/v1/ingest", collection=ids["collection"], documents=[one])
        ids["job"], ids["document"] = accepted["job_id"], accepted["document_ids"][0]
        ids["file"] = _uploaded(member, f"{mark}.txt", f"{TEXT} {mark}".encode(), "assistants")
        ids["store"] = made(member, "/v1/vector_stores", name=f"{mark} store")["id"]
        store = f"/v1/vector_stores/{ids['store']}"
        made(member, f"{store}/files", file_id=ids["file"])
        batched = _uploaded(member, f"{mark} batched.txt", mark.encode(), "assistants")
        ids["file batch"] = made(member, f"{store}/file_batches", file_ids=[batched])["id"]
        said = {"type": "message", "role": "user", "content": f"{mark} said this"}
        ids["conversation"] = made(member, "/v1/conversations", items=[said], title=mark)["id"]
        items = member.get(f"/v1/conversations/{ids['conversation']}/items").json()["data"]
        ids["item"] = items[0]["id"]
        asked = {"model": "mock", "input": f"{mark} asks", "max_output_tokens": 3}
        ids["response"] = made(member, "/v1/responses", **asked)["id"]
        chat = {"model": "mock", "messages": [{"role": "user", "content": mark}], "max_tokens": 3}
        answer = member.post("/v1/chat/completions", json=chat).raise_for_status()
        ids["request"] = answer.headers["x-request-id"]
        line = {"custom_id": mark, "method": "POST", "url": "/v1/chat/completions", "body": chat}
        lines = _uploaded(member, f"{mark}.jsonl", json.dumps(line).encode(), "batch")
        ids["batch file"] = lines
        batch = {"input_file_id": lines, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        ids["batch"] = made(member, "/v1/batches", **batch)["id"]
        _await(lambda: member.get(f"/v1/batches/{ids['batch']}").json()["status"] in ENDED)
        _await(lambda: member.get(f"/v1/usage/requests/{ids['request']}").status_code == 200)
        made(member, "/v1/feedback", request_id=ids["request"], rating="up", comment=mark)
    ids["delivery"] = _deliver(gate.folder / "stoker.db", ids, mark)
    return Furnished(name, manager, keys[0]["key"], keys[1]["key"], ids, gate.folder)


def _uploaded(client: httpx.Client, name: str, data: bytes, purpose: str) -> str:
    answer = client.post("/v1/files", files={"file": (name, data)}, data={"purpose": purpose})
    assert answer.is_success, answer.text
    return str(answer.json()["id"])


def _deliver(file: Path, ids: dict[str, str], mark: str) -> str:
    """A delivery that was given up, as the deliverer would leave it."""
    row: dict[str, Any] = {
        "id": new_id("msg"),
        "endpoint_id": ids["webhook"],
        "tenant_id": ids["tenant"],
        "event": "job.failed",
    }
    row |= {"body": json.dumps({"mark": mark}), "status": "given_up", "attempts": 1, "fence": 0}
    row |= {"next_at": 0.0, "until": 0.0, "created_at": 0.0}
    with sqlite3.connect(file, timeout=30) as database:
        named = ", ".join(row)
        database.execute(f"INSERT INTO deliveries ({named}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
    return str(row["id"])


def _await(there: Any) -> None:
    limit = time.monotonic() + 60
    while not there():
        assert time.monotonic() < limit
        time.sleep(0.1)
