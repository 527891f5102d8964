"""Exports that end early, and the list of collections."""

from pathlib import Path

import httpx
import pytest

from cli import backup
from cli.client import Client
from cli.errors import ApiUnreachable


def test_an_export_whose_gateway_goes_away_leaves_nothing(tmp_path: Path) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path.endswith("/source"):
            raise httpx.ConnectError("gone", request=request)
        if request.url.path.endswith("/documents"):
            return httpx.Response(200, json={"data": [{"id": "doc_1", "filename": "tide.md"}], "has_more": False})
        return httpx.Response(200, json={"name": "harbour"})

    with (
        Client("http://127.0.0.1:1", "sk", transport=httpx.MockTransport(answer)) as client,
        pytest.raises(ApiUnreachable),
    ):
        backup.export(client, "harbour", tmp_path / "harbour.tar.gz")
    assert asked[-1] == "/v1/collections/harbour/documents/doc_1/source"  # by then the file had been begun
    assert list(tmp_path.iterdir()) == []


def test_the_list_tells_documents_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """Five documents were listed where three had failed."""
    asked: list[str] = []
    found = [
        {"name": name, "documents": count, "chunks": 7, "description": ""}
        for name, count in (("papers", 5), ("sound", 2), ("many", 500), ("empty", 0), ("closed", 3))
    ]
    failed = {"papers": 3, "sound": 0, "many": 100}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/collections":
            return httpx.Response(200, json={"data": found, "has_more": False})
        asked.append(request.url.raw_path.decode())
        name = request.url.path.split("/")[3]
        if name == "closed":
            return httpx.Response(403, json={"error": {"message": "no"}})
        return httpx.Response(200, json={"data": [{}] * failed[name], "has_more": name == "many"})

    client = Client("http://127.0.0.1:1", "sk", transport=httpx.MockTransport(answer))
    backup.listed(client, as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["name", "documents", "failed", "chunks", "description"],
        ["papers", "5", "3", "7"],
        ["sound", "2", "7"],
        ["many", "500", "100", "or", "more", "7"],
        ["empty", "0", "7"],
        ["closed", "3", "7"],
    ]
    assert asked[0] == "/v1/collections/papers/documents?status=failed&limit=100"
    assert not [path for path in asked if "empty" in path]
