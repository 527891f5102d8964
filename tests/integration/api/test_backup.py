"""A collection in one file, and back: with the commands, on a running stack."""

import gzip
import io
import json
import secrets
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack

_ABOUT = {
    "description": "Of the harbour.",
    "metadata": {"a": 1},
    "chunking": {"characters": 400},
    "placement": "pooled",
}
_COMPARED = ("filename", "media_type", "status", "sha256", "metadata", "acl")


@pytest.fixture
def name(plain_stack: Stack) -> str:
    """A collection with documents of several kinds, one of which could not be taken in."""
    name = f"b-{secrets.token_hex(4)}"
    plain_stack.client.post("/v1/collections", json={"name": name, **_ABOUT}).raise_for_status()
    documents = [
        {"title": "tide", "content": "The tide rises by four metres.", "metadata": {"year": 2024, "lang": "en"}},
        {"title": "moon", "content": "The moon is seen twice.", "acl": {"users": ["ann"], "groups": ["sales"]}},
        {"title": "short", "content": "Here for an hour.", "expires_after": {"anchor": "created_at", "seconds": 3600}},
    ]
    plain_stack.ingest(name, documents)
    files = [("file", ("fees.csv", b"Pier;Fee\nK;14 crowns\n")), ("file", ("bad.pdf", b"%PDF-1.4 nothing"))]
    job = plain_stack.client.post("/v1/ingest", data={"collection": name}, files=files).json()["job_id"]
    plain_stack.await_job(job)
    return name


def listed(stack: Stack, name: str) -> dict[str, dict[str, Any]]:
    found = stack.client.get(f"/v1/collections/{name}/documents", params={"limit": 100}).json()["data"]
    return {one["filename"]: one for one in found}


def compared(documents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {key: one[key] for key in _COMPARED} for name, one in documents.items()}


def export(stack: Stack, name: str, folder: Path) -> Path:
    file = folder / "backup.tar.gz"
    done = stack.cli("collections", "export", name, "--to", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 documents of")
    return file


def test_a_collection_comes_back_as_it_was(plain_stack: Stack, name: str, tmp_path: Path) -> None:
    file = export(plain_stack, name, tmp_path)
    back = f"{name}-back"
    done = plain_stack.cli("collections", "import", str(file), "--as", back)
    assert done.returncode == 1, done.stderr  # the one that could not be taken in still can't
    assert "4 of 5 documents are ready" in done.stdout
    assert "bad.pdf" in done.stderr
    before, after = listed(plain_stack, name), listed(plain_stack, back)
    assert compared(after) == compared(before)
    assert abs(after["short.txt"]["expires_at"] - before["short.txt"]["expires_at"]) <= 2
    about = [plain_stack.client.get(f"/v1/collections/{each}").json() for each in (name, back)]
    for key in (*_ABOUT, "documents", "chunks"):
        assert about[0][key] == about[1][key]
    found = plain_stack.client.post("/v1/search", json={"collection": back, "query": "fee of pier K"}).json()["data"]
    assert found[0]["text"] == "Pier: K\nFee: 14 crowns"
    shown = json.loads(plain_stack.cli("collections", "list", "--json").stdout)
    assert {name, back} <= {one["name"] for one in shown}


def test_an_import_that_is_run_again_goes_on(plain_stack: Stack, name: str, tmp_path: Path) -> None:
    file = export(plain_stack, name, tmp_path)
    back = f"{name}-again"
    plain_stack.client.post("/v1/collections", json={"name": back, **_ABOUT}).raise_for_status()
    plain_stack.ingest(back, [{"title": "tide", "content": "The tide rises by four metres."}])
    assert "4 of 5" in plain_stack.cli("collections", "import", str(file), "--as", back).stdout
    limit_s = time.monotonic() + 30
    while (once := listed(plain_stack, back))["tide.txt"]["version"] == 1:  # its metadata makes new rows
        assert time.monotonic() < limit_s
        time.sleep(0.2)
    assert "4 of 5" in plain_stack.cli("collections", "import", str(file), "--as", back).stdout
    twice = listed(plain_stack, back)
    assert compared(once) == compared(twice) == compared(listed(plain_stack, name))
    assert {filename: one["version"] for filename, one in once.items()} == {
        filename: one["version"] for filename, one in twice.items()
    }


def test_documents_that_are_copies_of_files_come_back_under_one_name_each_cut_as_it_asked(
    plain_stack: Stack, tmp_path: Path
) -> None:
    who, name = plain_stack.client, f"f-{secrets.token_hex(4)}"
    store = who.post("/v1/vector_stores", json={"name": name}).json()["id"]
    static = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}
    attached = []
    for text, acl in (("The first harbour.", None), ("The second harbour.", {"users": ["ann"], "groups": []})):
        said = {"purpose": "assistants", **({"acl": json.dumps(acl)} if acl else {})}
        file = who.post("/v1/files", files={"file": ("a.md", text.encode())}, data=said).json()
        attached.append({"file_id": file["id"], "attributes": {"says": text}})
    attached[0]["chunking_strategy"] = {"type": "static", "static": static}
    batch = who.post(f"/v1/vector_stores/{store}/file_batches", json={"files": attached}).json()["id"]
    plain_stack.await_job(batch)
    plain_stack.ingest(name, [{"title": "a.md", "content": "The third harbour."}])
    large = {f"key {n}": "v" * 600 for n in range(20)}
    second = next(one for one in documents(plain_stack, name) if one["acl"] is not None)
    who.patch(f"/v1/collections/{name}/documents/{second['id']}", json={"metadata": large}).raise_for_status()
    file_name = tmp_path / "backup.tar.gz"
    done = plain_stack.cli("collections", "export", name, "--to", str(file_name))
    assert done.stdout.startswith("3 documents of"), done.stderr
    for _ in range(2):  # run again, it finds what is there
        done = plain_stack.cli("collections", "import", str(file_name), "--as", f"{name}-back")
        assert "3 of 3 documents are ready" in done.stdout, done.stderr
        told = ("filename", "sha256", "metadata", "acl", "chunking")
        before = {one["sha256"]: {key: one[key] for key in told} for one in documents(plain_stack, name)}
        after = {one["sha256"]: {key: one[key] for key in told} for one in documents(plain_stack, f"{name}-back")}
        assert after == before
        assert {one["filename"] for one in after.values()} == {"a.md"}
        assert [one["chunking"] for one in after.values() if one["chunking"]] == [static]
        assert [one["metadata"] for one in after.values() if one["acl"]] == [large]
        assert sum(one["file_id"] is None for one in documents(plain_stack, f"{name}-back")) == 1


def documents(stack: Stack, name: str) -> list[dict[str, Any]]:
    return list(stack.client.get(f"/v1/collections/{name}/documents", params={"limit": 100}).json()["data"])


def test_what_is_no_whole_export_changes_nothing(plain_stack: Stack, name: str, tmp_path: Path) -> None:
    whole = export(plain_stack, name, tmp_path)
    back = f"{name}-never"
    inside = gzip.decompress(whole.read_bytes())
    spoilt = inside.replace(b"four metres", b"five metres")
    assert spoilt != inside
    cases = {
        "cut.tar.gz": whole.read_bytes()[:-200],
        "spoilt.tar.gz": gzip.compress(spoilt),
        "other.tar.gz": gzip.compress(_archive({"readme.txt": b"hello"})),
        "unended.tar.gz": gzip.compress(_archive({"collection.json": b'{"format": 1, "name": "x"}'})),
        "future.tar.gz": gzip.compress(_archive({"collection.json": b'{"format": 2}', "end.json": b"{}"})),
        "notes.txt": b"no archive",
        "empty": b"",
    }
    for filename, data in cases.items():
        file = tmp_path / filename
        file.write_bytes(data)
        done = plain_stack.cli("collections", "import", str(file), "--as", back)
        assert done.returncode == 1, filename
        assert "what to do" in done.stderr, filename
        assert "Traceback" not in done.stderr, done.stderr
        assert plain_stack.client.get(f"/v1/collections/{back}").status_code == 404, filename
    done = plain_stack.cli("collections", "import", str(tmp_path / "missing"))
    assert (done.returncode, "can't be read" in done.stderr) == (1, True)
    plain_stack.client.post("/v1/collections", json={"name": back}).raise_for_status()
    done = plain_stack.cli("collections", "import", str(whole), "--as", back)
    assert done.returncode == 1
    assert "there is another collection" in done.stderr


def test_an_export_that_can_not_be_made_leaves_nothing(plain_stack: Stack, name: str, tmp_path: Path) -> None:
    there = tmp_path / "there.tar.gz"
    there.write_bytes(b"mine")
    for words, said in (
        ((name, "--to", str(there)), "exists"),
        ((name, "--to", str(tmp_path / "no" / "folder.tar.gz")), "can't be written"),
        (("no-such-collection", "--to", str(tmp_path / "new.tar.gz")), "no-such-collection"),
    ):
        done = plain_stack.cli("collections", "export", *words)
        assert done.returncode == 1, done.stdout
        assert said in done.stderr
    assert there.read_bytes() == b"mine"
    assert [each.name for each in tmp_path.iterdir()] == ["there.tar.gz"]


def test_a_documents_bytes_are_its_readers_alone(plain_stack: Stack, name: str) -> None:
    ids = {filename: one["id"] for filename, one in listed(plain_stack, name).items()}
    where = f"/v1/collections/{name}/documents"
    answer = plain_stack.client.get(f"{where}/{ids['fees.csv']}/source")
    assert answer.content == b"Pier;Fee\nK;14 crowns\n"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment"
    made = plain_stack.client.post("/v1/admin/keys", json={"name": "bob", "role": "member"}).json()
    as_bob = {"authorization": f"Bearer {made['key']}"}
    assert plain_stack.client.get(f"{where}/{ids['moon.txt']}/source", headers=as_bob).status_code == 404
    assert plain_stack.client.get(f"{where}/{ids['tide.txt']}/source", headers=as_bob).status_code == 200


def _archive(members: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return written.getvalue()
