"""Files and vector stores by the unmodified OpenAI SDK, on a whole stack; its types, field by field; hostile input."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.conformance import Observed, measure
from tests.support.sdk import Sdk, sdk
from tests.support.stack import Stack

WANTED = 0.95


@pytest.fixture(scope="module")
def client() -> Iterator[Sdk]:
    with sdk("documents-python") as one:
        yield one


@pytest.fixture(scope="module")
def other(plain_stack: Stack) -> Iterator[httpx.Client]:
    """Somebody of another tenant."""
    made = plain_stack.client.post("/v1/admin/tenants", json={"name": secrets.token_hex(6)}).json()
    asked = {"name": "k", "tenant": made["id"], "role": "manager", "limits": {"rpm": None}}
    key = plain_stack.client.post("/v1/admin/keys", json=asked).json()["key"]
    with httpx.Client(base_url=plain_stack.url, headers={"authorization": f"Bearer {key}"}, timeout=60) as one:
        yield one


def keep(who: httpx.Client, text: str = "The harbour.", name: str = "a.md") -> str:
    answer = who.post("/v1/files", files={"file": (name, text.encode())}, data={"purpose": "assistants"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def made(who: httpx.Client, **fields: Any) -> str:
    answer = who.post("/v1/vector_stores", json=fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def ended(who: httpx.Client, path: str, limit_s: float = 60) -> dict[str, Any]:
    end_s = time.monotonic() + limit_s
    while (said := who.get(path).json())["status"] == "in_progress":
        assert time.monotonic() < end_s, said
        time.sleep(0.1)
    return dict(said)


def test_the_sdk_goes_the_whole_way_unmodified(client: Sdk, plain_stack: Stack) -> None:
    name = f"harbour-{secrets.token_hex(3)}"
    seen = client.ask("whole_way", url=plain_stack.url, key=plain_stack.admin_key, name=name)
    assert "error" not in seen, seen["error"]
    light, ferry = "The lighthouse of Wellhaven was built in 1872.", "The ferry to Wellhaven sails at seven."
    assert seen["content"] == light
    assert (seen["listed"], seen["waited"]) == (True, "processed")
    assert (seen["store"]["name"], seen["store"]["description"]) == (name, "What a harbour has.")
    assert (seen["first"]["status"], seen["single"]["status"]) == ("completed", "completed")
    assert seen["single"]["chunking_strategy"]["static"] == {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 50}
    counts = {"in_progress": 0, "completed": 5, "failed": 0, "cancelled": 0, "total": 5}
    assert (seen["batch"]["status"], seen["batch"]["file_counts"]) == ("completed", counts)
    assert (seen["batch_files"], seen["again"]["file_counts"]["completed"]) == (5, 1)
    assert len(set(seen["files"])) == seen["completed"] == 8
    assert seen["ferry"] == seen["years"] == [ferry]
    assert seen["built"] == [light]
    assert {light, "Pier 1 has 1 cranes."} <= set(seen["several"])
    assert seen["text"] == ferry
    assert seen["changed"] == {"kind": "boat"}
    assert (seen["no_ferry"], seen["boat"]) == ([], [ferry])
    assert (seen["renamed"]["name"], seen["renamed"]["metadata"]) == ("Another name!", {"a": "b"})
    assert seen["retrieved"]["file_counts"]["completed"] == 8
    assert seen["detached"]["deleted"]
    assert seen["still_a_file"]
    assert seen["file_deleted"]["deleted"]
    assert light not in seen["gone_with_it"]
    assert seen["stores"]
    assert seen["deleted"]["object"] == "vector_store.deleted"


def test_answers_fulfil_the_types_of_the_installed_sdk(plain_stack: Stack, figure: Callable[[str], None]) -> None:
    who = plain_stack.client
    expires = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    sent = who.post(
        "/v1/files", files={"file": ("a.md", b"The harbour.")}, data={"purpose": "assistants", **expires}
    ).json()
    bad = keep(who, "%PDF-1.4 nothing", "bad.pdf")
    store_id = made(
        who,
        name=secrets.token_hex(4),
        metadata={"a": "b"},
        expires_after={"anchor": "last_active_at", "days": 1},
    )
    at = f"/v1/vector_stores/{store_id}"
    static = {"type": "static", "static": {"max_chunk_size_tokens": 300, "chunk_overlap_tokens": 20}}
    attached = who.post(
        f"{at}/files", json={"file_id": sent["id"], "attributes": {"k": 1}, "chunking_strategy": static}
    ).json()
    batch = who.post(f"{at}/file_batches", json={"file_ids": [bad], "attributes": {"k": 2}}).json()
    done, failed = ended(who, f"{at}/files/{sent['id']}"), ended(who, f"{at}/files/{bad}")
    ended_batch = ended(who, f"{at}/file_batches/{batch['id']}")
    found = who.post(f"{at}/search", json={"query": "harbour"}).json()
    content = who.get(f"{at}/files/{sent['id']}/content").json()
    file, store = "openai.types.FileObject", "openai.types.VectorStore"
    of_store, of_batch = "openai.types.vector_stores.VectorStoreFile", "openai.types.vector_stores.VectorStoreFileBatch"
    cursor, page = "openai.pagination.SyncCursorPage", "openai.pagination.SyncPage"
    fine = frozenset({"last_error"})
    told = frozenset({"status_details"})  # deprecated, and only of files for fine-tuning
    listed, stores = who.get("/v1/files").json(), who.get("/v1/vector_stores").json()
    files, of = who.get(f"{at}/files").json(), who.get(f"{at}/file_batches/{batch['id']}/files").json()
    observed = [
        Observed("POST /v1/files", file, sent, told),
        Observed("GET /v1/files", cursor, listed),
        Observed("GET /v1/files", file, next(one for one in listed["data"] if one["id"] == sent["id"]), told),
        Observed("GET /v1/files/{id}", file, who.get(f"/v1/files/{sent['id']}").json(), told),
        Observed("POST /v1/vector_stores", store, who.post(at, json={"metadata": {"c": "d"}}).json()),
        Observed("GET /v1/vector_stores", cursor, stores),
        Observed("GET /v1/vector_stores", store, next(one for one in stores["data"] if one["id"] == store_id)),
        Observed("GET /v1/vector_stores/{id}", store, who.get(at).json()),
        Observed("POST .../files", of_store, attached, fine),
        Observed("GET .../files", cursor, files),
        Observed("GET .../files", of_store, next(one for one in files["data"] if one["id"] == bad)),
        Observed("GET .../files/{id}", of_store, done, fine),
        Observed("GET .../files/{id}", of_store, failed),
        Observed("GET .../files/{id}/content", page, content),
        Observed("GET .../files/{id}/content", "openai.types.vector_stores.FileContentResponse", content["data"][0]),
        Observed("POST .../file_batches", of_batch, batch),
        Observed("GET .../file_batches/{id}", of_batch, ended_batch),
        Observed("GET .../file_batches/{id}/files", cursor, of),
        Observed("GET .../file_batches/{id}/files", of_store, of["data"][0]),
        Observed("POST .../search", page, found),
        Observed("POST .../search", "openai.types.VectorStoreSearchResponse", found["data"][0]),
        Observed(
            "DELETE .../files/{id}",
            "openai.types.vector_stores.VectorStoreFileDeleted",
            who.delete(f"{at}/files/{bad}").json(),
        ),
        Observed("DELETE /v1/vector_stores/{id}", "openai.types.VectorStoreDeleted", who.delete(at).json()),
        Observed("DELETE /v1/files/{id}", "openai.types.FileDeleted", who.delete(f"/v1/files/{bad}").json()),
    ]
    assert failed["last_error"]["code"] == "invalid_file"
    measured = measure(observed)
    for line in measured.lines():
        figure(line)
    assert measured.share >= WANTED, measured.lines()


def test_the_measure_tells_what_is_missing_wrong_or_null() -> None:
    value = {
        "id": 1, "created_at": 2, "file_counts": {"cancelled": 0, "completed": "no", "failed": 0, "total": 1},
        "metadata": None, "name": "n", "object": "vector", "status": "completed", "usage_bytes": 0,
        "last_active_at": None, "expires_after": {"anchor": "last_active_at", "days": 1},
    }  # fmt: skip
    measured = measure([Observed("r", "openai.types.VectorStore", value, frozenset({"metadata"}))])
    told = {one.path: one.verdict for one in measured.lacking}
    assert told == {
        "id": "wrong",
        "file_counts": "wrong",
        "object": "wrong",
        "last_active_at": "null",
        "expires_at": "missing",
    }
    assert 0 < measured.share < 1


def test_collections_and_vector_stores_are_the_same_things(plain_stack: Stack) -> None:
    who, name = plain_stack.client, f"both-{secrets.token_hex(4)}"
    collection = who.post("/v1/collections", json={"name": name}).json()
    (document,) = plain_stack.ingest(name, [{"title": "tide", "content": "The tide rises.", "metadata": {"a": 1}}])
    at = f"/v1/vector_stores/{collection['id']}"
    assert who.get(at).json()["name"] == name
    assert collection["id"] in [one["id"] for one in who.get("/v1/vector_stores", params={"limit": 100}).json()["data"]]
    (file,) = who.get(f"{at}/files").json()["data"]
    assert (file["id"], file["status"], file["attributes"]) == (document, "completed", {"a": 1})
    assert who.get(f"{at}/files/{document}/content").json()["data"][0]["text"] == "The tide rises."
    found = who.post(f"{at}/search", json={"query": "tide"}).json()["data"]
    assert [(one["file_id"], one["filename"]) for one in found] == [(document, "tide.txt")]
    attached = keep(who, "The moon shines.", "moon.md")
    who.post(f"{at}/files", json={"file_id": attached}).raise_for_status()
    ended(who, f"{at}/files/{attached}")
    documents = who.get(f"/v1/collections/{name}/documents").json()["data"]
    assert {one["file_id"] for one in documents} == {None, attached}
    answer = who.post("/v1/search", json={"query": "moon", "collection": name, "mode": "lexical"}).json()
    assert answer["data"][0]["file_id"] == attached
    # A second store of this name is another collection, and is called so all the same.
    second = who.post("/v1/vector_stores", json={"name": name}).json()
    assert (second["name"], second["id"] != collection["id"]) == (name, True)
    assert who.get(f"/v1/collections/{second['id']}").json()["title"] == name
    free = f"free-{secrets.token_hex(4)}"
    assert who.get(f"/v1/collections/{free}").status_code == 404
    third = who.post("/v1/vector_stores", json={"name": free}).json()
    assert who.get(f"/v1/collections/{free}").json()["id"] == third["id"]
    words = who.post("/v1/vector_stores", json={"name": "Größe & Maß: 100 %"}).json()
    assert words["name"] == "Größe & Maß: 100 %"
    assert who.post("/v1/collections", json={"name": words["id"]}).status_code == 400  # an id is nobody's name


def test_lists_are_paged_both_ways(plain_stack: Stack, other: httpx.Client) -> None:
    stores = [made(other, name=f"n{n}") for n in range(5)][::-1]

    def page(path: str, **params: Any) -> tuple[list[str], bool]:
        said = other.get(path, params=params).json()
        return [one["id"] for one in said["data"]], said["has_more"]

    assert page("/v1/vector_stores") == (stores, False)
    assert page("/v1/vector_stores", order="asc") == (stores[::-1], False)
    assert page("/v1/vector_stores", limit=2) == (stores[:2], True)
    assert page("/v1/vector_stores", limit=2, after=stores[1]) == (stores[2:4], True)
    assert page("/v1/vector_stores", limit=2, before=stores[4]) == (stores[2:4], True)
    assert page("/v1/vector_stores", limit=2, before=stores[2]) == (stores[:2], False)
    assert page("/v1/vector_stores", order="asc", limit=2, before=stores[0]) == ([stores[2], stores[1]], True)
    at, files = f"/v1/vector_stores/{stores[0]}", [keep(other) for _ in range(4)]
    batch = other.post(f"{at}/file_batches", json={"file_ids": files}).json()["id"]
    newest = page(f"{at}/files")[0]
    assert set(newest) == set(files)
    assert page(f"{at}/files", limit=3, after=newest[0]) == (newest[1:], False)
    assert page(f"{at}/files", limit=1, before=newest[2]) == ([newest[1]], True)
    assert page(f"{at}/file_batches/{batch}/files", order="asc", limit=1, after=newest[2]) == ([newest[1]], True)
    for one in files:
        ended(other, f"{at}/files/{one}")
    assert page(f"{at}/files", filter="completed") == (newest, False)
    assert page(f"{at}/files", filter="failed") == ([], False)


def test_a_batch_is_cancelled_and_says_so(plain_stack: Stack, other: httpx.Client) -> None:
    store_id = made(other, name="cancelled")
    files = [keep(other, f"{n} " + "The harbour is long. " * 20_000, f"{n}.md") for n in range(6)]
    at = f"/v1/vector_stores/{store_id}/file_batches"
    batch = other.post(at, json={"file_ids": files}).json()
    assert (batch["status"], batch["file_counts"]["total"]) == ("in_progress", 6)
    cancelled = other.post(f"{at}/{batch['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["file_counts"]["cancelled"] > 0
    assert cancelled["file_counts"]["in_progress"] == 0
    listed = other.get(f"{at}/{batch['id']}/files", params={"filter": "cancelled"}).json()["data"]
    assert {one["status"] for one in listed} == {"cancelled"}
    assert other.delete(f"/v1/vector_stores/{store_id}").status_code == 200


def test_nothing_of_another_tenant_is_there(plain_stack: Stack, other: httpx.Client) -> None:
    who = plain_stack.client
    theirs, their_store = keep(other), made(other, name="theirs")
    other.post(f"/v1/vector_stores/{their_store}/files", json={"file_id": theirs}).raise_for_status()
    batch = other.post(f"/v1/vector_stores/{their_store}/file_batches", json={"file_ids": [theirs]}).json()["id"]
    ours = made(who, name=secrets.token_hex(4))
    at, there = f"/v1/vector_stores/{ours}", f"/v1/vector_stores/{their_store}"
    missing: list[tuple[str, str, Any]] = [
        ("POST", f"{at}/files", {"file_id": theirs}),
        ("POST", f"{at}/file_batches", {"file_ids": [theirs]}),
        ("POST", f"{at}/file_batches", {"files": [{"file_id": theirs}]}),
        ("POST", "/v1/vector_stores", {"file_ids": [theirs]}),
        ("GET", there, None),
        ("POST", there, {"name": "mine"}),
        ("DELETE", there, None),
        ("POST", f"{there}/search", {"query": "harbour"}),
        ("GET", f"{there}/files", None),
        ("POST", f"{there}/files", {"file_id": theirs}),
        ("GET", f"{there}/files/{theirs}", None),
        ("GET", f"{at}/files/{theirs}", None),
        ("POST", f"{there}/files/{theirs}", {"attributes": {}}),
        ("DELETE", f"{there}/files/{theirs}", None),
        ("GET", f"{there}/files/{theirs}/content", None),
        ("GET", f"{there}/file_batches/{batch}", None),
        ("GET", f"{at}/file_batches/{batch}", None),
        ("POST", f"{at}/file_batches/{batch}/cancel", None),
        ("GET", f"{at}/file_batches/{batch}/files", None),
    ]
    for method, path, body in missing:
        answer = who.request(method, path, json=body)
        assert answer.status_code == 404, (method, path, answer.text)
    assert their_store not in [one["id"] for one in who.get("/v1/vector_stores", params={"limit": 100}).json()["data"]]
    assert other.get(there).json()["file_counts"]["total"] == 1
    # A batch is of one store.
    mine = keep(who)
    own = who.post(f"{at}/file_batches", json={"file_ids": [mine]}).json()["id"]
    second = made(who, name=secrets.token_hex(4))
    assert who.get(f"/v1/vector_stores/{second}/file_batches/{own}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"name": "x" * 10_000}, "name"),
        ("", {"name": "a\x00b"}, "name"),
        ("", {"name": "n", "metadata": {str(n): "v" for n in range(17)}}, "metadata"),
        ("", {"name": "n", "metadata": {"k" * 65: "v"}}, "metadata"),
        ("", {"name": "n", "metadata": {"k": 5}}, "metadata"),
        ("", {"name": "n", "expires_after": {"anchor": "created_at", "days": 1}}, "expires_after.anchor"),
        ("", {"name": "n", "expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ("", {"name": "n", "unknown": 1}, "unknown"),
        ("", {"name": "n", "description": "a\ud800b"}, "description"),
        ("/files", {"file_id": "FILE", "attributes": {str(n): 1 for n in range(17)}}, "attributes"),
        ("/files", {"file_id": "FILE", "attributes": {"k": "v" * 513}}, "attributes"),
        ("/files", {"file_id": "FILE", "attributes": {"k": ["v"]}}, "attributes"),
        ("/files", {"file_id": "FILE", "attributes": {"k": "a\x00b"}}, "attributes"),
        ("/files", {"file_id": "FILE", "chunking_strategy": {"type": "clever"}}, "chunking_strategy"),
        (
            "/files",
            {"file_id": "FILE", "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 99}}},
            "chunking_strategy.static",
        ),
        (
            "/files",
            {
                "file_id": "FILE",
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 101},
                },
            },
            "chunking_strategy.static",
        ),
        ("/files", {}, "file_id"),
        ("/file_batches", {"file_ids": ["FILE"] * 2001}, "file_ids"),
        ("/file_batches", {"file_ids": ["FILE", "FILE"]}, "file_ids"),
        ("/file_batches", {"file_ids": []}, "file_ids"),
        ("/file_batches", {}, "file_ids"),
        ("/file_batches", {"file_ids": ["FILE"], "files": [{"file_id": "FILE"}]}, "file_ids"),
        ("/file_batches", {"files": [{"file_id": "FILE", "attributes": {"k": None}}]}, "files.0.attributes"),
        ("/search", {"query": ""}, "query"),
        ("/search", {"query": []}, "query"),
        ("/search", {"query": ["a"] * 6}, "query"),
        ("/search", {"query": "x" * 20_001}, "query"),
        ("/search", {"query": "a\ud800b"}, "query"),
        ("/search", {"query": "a", "max_num_results": 0}, "max_num_results"),
        ("/search", {"query": "a", "max_num_results": 51}, "max_num_results"),
        ("/search", {"query": "a", "rewrite_query": True}, "rewrite_query"),
        ("/search", {"query": "a", "filters": {"type": "eq"}}, "filter"),
        ("/search", {"query": "a", "filters": {"type": "like", "key": "k", "value": "v"}}, "filter"),
        ("/search", {"query": "a", "ranking_options": {"ranker": "best"}}, "ranking_options.ranker"),
        ("/search", {"query": "a", "ranking_options": {"score_threshold": 2}}, "ranking_options.score_threshold"),
    ],
)
def test_what_is_bad_is_refused_and_the_field_named(
    plain_stack: Stack, other: httpx.Client, path: str, body: dict[str, Any], param: str
) -> None:
    at = "/v1/vector_stores" + (f"/{made(other)}" if path else "")
    file_id = keep(other)

    def placed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: placed(each) for key, each in value.items()}
        if isinstance(value, list):
            return [placed(each) for each in value]
        return file_id if value == "FILE" else value

    answer = other.post(f"{at}{path}", content=json.dumps(placed(body)), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize("odd", ["none", "col_", "col_" + "0" * 26, "col_" + "u" * 26, "'; --", "%F0%9F%9A%A2"])
def test_an_odd_id_is_no_store_and_no_file_of_one(plain_stack: Stack, other: httpx.Client, odd: str) -> None:
    store_id = made(other)
    for method, path in (
        ("GET", f"/v1/vector_stores/{odd}"),
        ("DELETE", f"/v1/vector_stores/{odd}"),
        ("GET", f"/v1/vector_stores/{odd}/files"),
        ("GET", f"/v1/vector_stores/{store_id}/files/{odd}"),
        ("GET", f"/v1/vector_stores/{store_id}/files/{odd}/content"),
        ("DELETE", f"/v1/vector_stores/{store_id}/files/{odd}"),
        ("GET", f"/v1/vector_stores/{store_id}/file_batches/{odd}"),
    ):
        assert other.request(method, path).status_code == 404, (method, path)
    attached = other.post(f"/v1/vector_stores/{store_id}/files", json={"file_id": odd})
    assert (attached.status_code, attached.json()["error"]["code"]) == (404, "file_not_found")
    for cursor in ("after", "before"):
        assert other.get("/v1/vector_stores", params={cursor: odd}).status_code == (200 if "0000" in odd else 400)
        assert other.get(f"/v1/vector_stores/{store_id}/files", params={cursor: odd}).status_code == 400
