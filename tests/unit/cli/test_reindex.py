"""`./stoker collections reindex --wait`: it says when it is done, and what could not be done."""

import httpx
import pytest

from cli import reindex
from cli.client import Client
from cli.errors import CliError


def client_of(answers: list[dict[str, object]]) -> tuple[Client, list[str]]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        return httpx.Response(200, json=answers.pop(0))

    return Client("http://127.0.0.1:1", "sk", transport=httpx.MockTransport(answer)), asked


def running(done: int, failed: int = 0) -> dict[str, object]:
    errors = [{"document_id": "doc_1", "filename": "a[b].md", "error": "Its text is gone."}] * failed
    state = {"embedding_model": "m", "documents": 3, "documents_done": done, "failed": failed, "errors": errors}
    return {"name": "harbour", "embedding_model": "old", "reindex": state}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reindex, "_LOOK_S", 0)


def test_it_waits_until_the_new_index_answers(capsys: pytest.CaptureFixture[str]) -> None:
    client, asked = client_of([running(0), running(2), {"name": "harbour", "embedding_model": "m"}])
    with client:
        reindex.reindex(client, "harbour", "m", '{"characters": 400}', wait=True)
    assert asked == ["POST /v1/collections/harbour/reindex", *["GET /v1/collections/harbour"] * 2]
    assert capsys.readouterr().out == "harbour answers from m\n"


def test_it_ends_with_the_reasons_where_only_failed_documents_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    client, _ = client_of([running(1), running(1, failed=1), running(2, failed=1)])
    with client, pytest.raises(CliError, match="1 of 3 documents of harbour"):
        reindex.reindex(client, "harbour", "m", None, wait=True)
    assert "a[b].md: Its text is gone." in capsys.readouterr().err


def test_without_waiting_it_says_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    client, _ = client_of([running(0)])
    with client:
        reindex.reindex(client, "harbour", "m", None, wait=False)
    assert "./stoker collections show harbour" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["no JSON", "[1]"])
def test_chunking_that_is_no_object_is_refused(text: str) -> None:
    client, asked = client_of([])
    with client, pytest.raises(CliError, match="--chunking"):
        reindex.reindex(client, "harbour", "m", text, wait=False)
    assert asked == []
