"""Documents over HTTP without an engine: in, found, cited, changed, deleted; and what is bad stays out."""

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack


@pytest.fixture
def name(plain_stack: Stack) -> str:
    made = f"c-{secrets.token_hex(4)}"
    plain_stack.client.post("/v1/collections", json={"name": made}).raise_for_status()
    return made


def search(stack: Stack, collection: str, query: str, **fields: Any) -> list[dict[str, Any]]:
    answer = stack.client.post("/v1/search", json={"query": query, "collection": collection, **fields})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


def upload(stack: Stack, collection: str, *files: Path) -> dict[str, Any]:
    parts = [("file", (file.name, file.read_bytes())) for file in files]
    accepted = stack.client.post("/v1/ingest", files=parts, data={"collection": collection})
    assert accepted.status_code == 202, accepted.text
    return stack.await_job(accepted.json()["job_id"])


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_a_planted_fact_is_found_and_its_span_is_exact(plain_stack: Stack, name: str, mode: str) -> None:
    word = f"zylo{secrets.token_hex(4)}"
    noise = [{"title": f"note {i}", "content": f"Note {i} tells of gardening and soup."} for i in range(8)]
    fact = {"title": "depot", "content": f"# The depot\n\nThe depot's gate code is {word}. It opens at seven."}
    plain_stack.ingest(name, [*noise, fact])
    best = search(plain_stack, name, f"What is the gate code of the depot {word}?", mode=mode)[0]
    assert word in best["text"]
    content = plain_stack.content(name, best["document_id"], best["document_version"])
    assert content[best["start"] : best["end"]] == best["text"]


def test_a_question_without_an_engine_gets_a_cited_degraded_answer(plain_stack: Stack, name: str) -> None:
    word = f"zylo{secrets.token_hex(4)}"
    plain_stack.ingest(name, [{"title": "depot", "content": f"The gate code of the depot is {word}. Tea is at four."}])
    answer = plain_stack.client.post("/v1/query", json={"query": "What is the gate code?", "collection": name})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["degraded"] is True
    assert "no model answered" in said["degraded_reason"]
    assert word in said["answer"]
    (citation,) = said["citations"]
    content = plain_stack.content(name, citation["document_id"], citation["document_version"])
    assert content[citation["start"] : citation["end"]] == citation["quote"] == said["answer"]


def test_an_empty_collection_says_that_it_knows_nothing(plain_stack: Stack, name: str) -> None:
    said = plain_stack.client.post("/v1/query", json={"query": "Anything?", "collection": name}).json()
    assert said["citations"] == []
    assert said["degraded"] is True
    assert said["degraded_reason"] == "no passage matches the question"


def test_a_pdf_is_found_with_its_page(plain_stack: Stack, name: str, documents: Path) -> None:
    job = upload(plain_stack, name, documents / "multi_page.pdf")
    assert job["status"] == "succeeded", job
    best = search(plain_stack, name, "Who patented the typewriter in 1868?")[0]
    assert "Christopher Latham Sholes" in best["text"]
    assert best["page"] == 1
    content = plain_stack.content(name, best["document_id"], 1)
    assert content[best["start"] : best["end"]] == best["text"]


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("empty.txt", "empty"),
        ("libreoffice-writer-password.pdf", "password"),
        ("ocr_test.pdf", "text"),
        ("testWORD_truncated.docx", "damaged"),
    ],
)
def test_a_document_that_cannot_be_read_fails_with_a_reason_and_leaves_nothing(
    plain_stack: Stack, name: str, documents: Path, file: str, reason: str
) -> None:
    job = upload(plain_stack, name, documents / file)
    assert job["status"] == "failed"
    (document,) = job["documents"]
    assert reason in document["error"].lower()
    assert plain_stack.client.get(f"/v1/collections/{name}").json()["chunks"] == 0
    assert search(plain_stack, name, "document text") == []
    plain_stack.client.delete(f"/v1/collections/{name}/documents/{document['id']}").raise_for_status()


def test_a_corrupt_pdf_fails_and_the_good_file_beside_it_is_ready(
    plain_stack: Stack, name: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.pdf").write_bytes(b"%PDF-1.7\n" + secrets.token_bytes(4000))
    (tmp_path / "good.md").write_text("# Good\n\nThe marble fountain stands in the north court.")
    job = upload(plain_stack, name, tmp_path / "bad.pdf", tmp_path / "good.md")
    assert job["status"] == "failed"
    outcome = {document["filename"]: document["status"] for document in job["documents"]}
    assert outcome == {"bad.pdf": "failed", "good.md": "ready"}
    assert search(plain_stack, name, "Where is the fountain?")[0]["filename"] == "good.md"


def test_a_new_version_replaces_the_old_one_whole(plain_stack: Stack, name: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.md"
    file.write_text("# Policy\n\nThe fee for parking is forty crowns.")
    first = upload(plain_stack, name, file)
    version = plain_stack.client.get(f"/v1/collections/{name}").json()["version"]
    file.write_text("# Policy\n\nThe fee for parking is ninety crowns.")
    second = upload(plain_stack, name, file)
    assert first["documents"][0]["id"] == second["documents"][0]["id"]
    texts = [passage["text"] for passage in search(plain_stack, name, "What is the parking fee?")]
    assert any("ninety" in text for text in texts)
    assert not any("forty" in text for text in texts)
    assert plain_stack.client.get(f"/v1/collections/{name}").json()["version"] == version + 1
    assert "forty" in plain_stack.content(name, first["documents"][0]["id"], 1)


def test_a_deleted_document_is_gone_at_once(plain_stack: Stack, name: str) -> None:
    (doc,) = plain_stack.ingest(name, [{"title": "secret", "content": "The owl sleeps in the bell tower."}])
    assert search(plain_stack, name, "Where does the owl sleep?")
    plain_stack.client.delete(f"/v1/collections/{name}/documents/{doc}").raise_for_status()
    assert search(plain_stack, name, "Where does the owl sleep?") == []
    assert plain_stack.client.get(f"/v1/collections/{name}/documents/{doc}").status_code == 404


def test_a_deleted_collections_name_is_free_and_empty_again(plain_stack: Stack, name: str) -> None:
    plain_stack.ingest(name, [{"title": "old", "content": "The owl sleeps in the bell tower."}])
    plain_stack.client.delete(f"/v1/collections/{name}").raise_for_status()
    assert plain_stack.client.get(f"/v1/collections/{name}").status_code == 404
    plain_stack.client.post("/v1/collections", json={"name": name}).raise_for_status()
    assert search(plain_stack, name, "Where does the owl sleep?") == []


def test_two_collections_of_one_name_are_a_conflict(plain_stack: Stack, name: str) -> None:
    again = plain_stack.client.post("/v1/collections", json={"name": name})
    assert again.status_code == 409
    assert name in again.json()["error"]["message"]


def test_a_filter_narrows_by_metadata_and_a_bad_one_is_400(plain_stack: Stack, name: str) -> None:
    plain_stack.ingest(
        name,
        [
            {
                "title": f"report {year}",
                "content": f"The report of {year} counts the boats.",
                "metadata": {"year": year},
            }
            for year in (2022, 2023, 2024)
        ],
    )
    recent = {"type": "gte", "key": "year", "value": 2023}
    found = search(plain_stack, name, "How many boats?", filter=recent)
    assert {passage["metadata"]["year"] for passage in found} == {2023, 2024}
    bad = plain_stack.client.post(
        "/v1/search", json={"query": "x", "collection": name, "filter": {"type": "like", "key": "a", "value": "b"}}
    )
    assert bad.status_code == 400
    assert bad.json()["error"]["param"] == "filter"


def test_documents_come_in_pages(plain_stack: Stack, name: str) -> None:
    plain_stack.ingest(name, [{"title": f"n{i}", "content": f"Note number {i}."} for i in range(5)])
    seen: list[str] = []
    after = None
    for _ in range(10):
        params = {"limit": 2, **({"after": after} if after else {})}
        page = plain_stack.client.get(f"/v1/collections/{name}/documents", params=params).json()
        seen += [document["id"] for document in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert len(seen) == len(set(seen)) == 5


def test_an_access_list_holds_for_keys_of_users_and_groups(plain_stack: Stack, name: str) -> None:
    admin = plain_stack.client
    people = {}
    for person, groups in (("ann", ["sales"]), ("bob", [])):
        body = {"name": person, "groups": groups}
        user = admin.post("/v1/admin/users", json=body).raise_for_status().json()
        key = admin.post("/v1/admin/keys", json={"name": person, "role": "member", "user": user["id"]})
        people[person] = user["id"], {"authorization": f"Bearer {key.raise_for_status().json()['key']}"}
    documents = [
        {"title": "open", "content": "Wellhaven is a town."},
        {"title": "closed", "content": "Wellhaven will be sold.", "acl": {"groups": ["sales"]}},
    ]
    plain_stack.ingest(name, documents)

    def sees(person: str) -> set[str]:
        found = admin.post("/v1/search", json={"query": "Wellhaven", "collection": name}, headers=people[person][1])
        return {one["filename"] for one in found.raise_for_status().json()["data"]}

    assert sees("ann") == {"open.txt", "closed.txt"}
    assert sees("bob") == {"open.txt"}
    (closed,) = (
        one for one in admin.get(f"/v1/collections/{name}/documents").json()["data"] if one["filename"] == "closed.txt"
    )
    place = f"/v1/collections/{name}/documents/{closed['id']}"
    assert admin.get(place, headers=people["bob"][1]).status_code == 404
    changed = admin.patch(place, json={"acl": {"users": [people["bob"][0]]}, "metadata": {"year": 3}})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["acl"], changed.json()["metadata"]) == (
        {"users": [people["bob"][0]], "groups": []},
        {"year": 3},
    )
    assert sees("ann") == {"open.txt"}
    assert sees("bob") == {"open.txt", "closed.txt"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("acl", {"users": "ann"}), ("acl", {"roles": []}), ("acl", []), ("expires_after", {"seconds": 0}),
        ("expires_after", {"days": 1}), ("expires_after", {"seconds": "1"}), ("expires_after", 5),
    ],
)  # fmt: skip
def test_a_bad_list_or_life_is_400_and_nothing_is_taken(
    plain_stack: Stack, name: str, field: str, value: object
) -> None:
    documents = [{"content": "x"}, {"title": "y", "content": "y", field: value}]
    answer = plain_stack.client.post("/v1/ingest", json={"collection": name, "documents": documents})
    assert answer.status_code == 400, answer.text
    assert field in answer.json()["error"]["message"]
    assert plain_stack.client.get(f"/v1/collections/{name}/documents").json()["data"] == []


def test_a_jobs_events_tell_each_document_and_then_the_job(plain_stack: Stack, name: str) -> None:
    documents = [{"title": f"n{number}", "content": f"Note {number}."} for number in range(3)] + [{"content": " "}]
    accepted = plain_stack.client.post("/v1/ingest", json={"collection": name, "documents": documents}).json()
    with plain_stack.client.stream("GET", f"/v1/jobs/{accepted['job_id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [event.splitlines() for event in answer.read().decode().split("\n\n") if event]
    told = [(kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for kind, data in events]
    assert [kind for kind, _ in told[-1:]] == ["job"]
    last = {data["id"]: data["status"] for kind, data in told if kind == "document"}
    assert sorted(last.values()) == ["failed", "ready", "ready", "ready"]
    assert told[-1][1]["status"] == "failed"
    assert plain_stack.client.get("/v1/jobs/job_none/events").status_code == 404


def test_what_failed_can_be_tried_again_and_deleted(plain_stack: Stack, name: str) -> None:
    accepted = plain_stack.client.post("/v1/ingest", json={"collection": name, "documents": [{"content": " "}]}).json()
    job = plain_stack.await_job(accepted["job_id"])
    assert job["documents"][0]["error"]
    again = plain_stack.client.post(f"/v1/jobs/{job['id']}/retry")
    assert again.status_code == 200, again.text
    assert plain_stack.await_job(job["id"])["status"] == "failed"
    place = f"/v1/collections/{name}/documents/{job['documents'][0]['id']}"
    assert plain_stack.client.delete(place).status_code == 200
    assert plain_stack.client.get(place).status_code == 404
    assert plain_stack.client.post(f"/v1/jobs/{job['id']}/retry").json()["status"] == "failed", "it is gone"
