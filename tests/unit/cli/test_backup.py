"""Exports that end early."""

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
