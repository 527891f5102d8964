"""Embedding models of collections and reindexes over HTTP and by command, on a running stack."""

import json
import secrets

import pytest

from tests.support.stack import Stack

MODEL = "all-minilm-l6-v2"


@pytest.fixture
def name(plain_stack: Stack) -> str:
    name = f"r-{secrets.token_hex(4)}"
    made = plain_stack.client.post("/v1/collections", json={"name": name, "embedding_model": MODEL})
    assert made.status_code == 201, made.text
    assert (made.json()["embedding_model"], made.json()["local_only"]) == (MODEL, False)
    text = "\n\n".join(f"The tide is high at gauge {gauge}, they say on the quay." for gauge in range(8))
    plain_stack.ingest(name, [{"title": "tides", "content": text}])
    return name


def test_a_collection_is_cut_anew_by_command_and_the_answers_go_on(plain_stack: Stack, name: str) -> None:
    before = plain_stack.client.get(f"/v1/collections/{name}").json()
    assert "reindex" not in before
    fine = {"characters": 100, "tokens": 32}
    done = plain_stack.cli("collections", "reindex", name, "--model", MODEL, "--chunking", json.dumps(fine), "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{name} answers from {MODEL}\n"
    shown = json.loads(plain_stack.cli("collections", "show", name).stdout)
    assert shown["chunking"] == fine
    assert shown["chunks"] > before["chunks"]
    assert shown["version"] == before["version"] + 1
    found = plain_stack.client.post("/v1/search", json={"query": "gauge 7", "collection": name}).json()
    assert "gauge 7," in found["data"][0]["text"]


def test_what_is_wrong_with_a_reindex_is_said(plain_stack: Stack, name: str) -> None:
    client, where = plain_stack.client, f"/v1/collections/{name}/reindex"
    for body, param in (
        ({"embedding_model": "nobody"}, "embedding_model"),
        ({"embedding_model": f"{MODEL}-late-interaction"}, "embedding_model"),
        ({"embedding_model": MODEL, "chunking": {"characters": 1}}, "chunking"),
        ({"chunking": {}}, "embedding_model"),
    ):
        refused = client.post(where, json=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text
    assert f"there is: {MODEL}" in client.post(where, json={"embedding_model": "nobody"}).json()["error"]["message"]
    for method, path in (("DELETE", where), ("POST", f"{where}/retry")):
        refused = client.request(method, path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "reindex_not_found")
    assert client.post("/v1/collections/absent/reindex", json={"embedding_model": MODEL}).status_code == 404
    for words in ((), ("--model", MODEL, "--cancel")):
        assert plain_stack.cli("collections", "reindex", name, *words).returncode == 1
    reader = client.post("/v1/admin/keys", json={"name": "r", "role": "reader"}).json()["key"]
    refused = client.post(where, json={"embedding_model": MODEL}, headers={"authorization": f"Bearer {reader}"})
    assert refused.status_code == 403


def test_a_local_only_collection_stays_so_in_a_backup(plain_stack: Stack, name: str, tmp_path: object) -> None:
    local = f"{name}-local"
    made = plain_stack.client.post("/v1/collections", json={"name": local, "local_only": True})
    assert made.json()["local_only"] is True
    file = f"{tmp_path}/local.tar.gz"
    assert plain_stack.cli("collections", "export", local, "--to", file).returncode == 0
    done = plain_stack.cli("collections", "import", file, "--as", f"{local}-2", "--model", MODEL)
    assert done.returncode == 0, done.stderr
    there = plain_stack.client.get(f"/v1/collections/{local}-2").json()
    assert (there["local_only"], there["embedding_model"]) == (True, MODEL)
