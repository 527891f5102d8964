"""Who is let in to an edge."""

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError
from starlette.middleware import Middleware

from api.middleware import RecordMiddleware
from core.clock import SystemClock
from edge.app import HostMiddleware, KeyMiddleware
from edge.settings import EdgeSettings, answering


def _client(key: str | None) -> httpx.AsyncClient:
    secret = None if key is None else SecretStr(key)
    app = FastAPI(
        middleware=[
            Middleware(RecordMiddleware, clock=SystemClock()),
            Middleware(HostMiddleware, open_to_all=key is None),
            Middleware(KeyMiddleware, key=secret),
        ]
    )

    @app.get("/health")
    @app.get("/v1/collections")
    async def answer() -> str:
        return "told"

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8090")


async def test_only_who_shows_the_key_is_let_in() -> None:
    async with _client("open sesame") as client:
        for shown in ({"authorization": "Bearer open sesame"}, {"x-api-key": "open sesame"}):
            assert (await client.get("/v1/collections", headers=shown)).status_code == 200
        wrong = ({}, {"authorization": "Bearer open"}, {"authorization": "open sesame"}, {"x-api-key": "é"})
        for shown in wrong:
            headers = {name: value.encode() for name, value in shown.items()}
            refused = await client.get("/v1/collections", headers=headers)
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8090", 200),
        ("localhost", 200),
        ("[::1]:8090", 200),
        ("[::1]", 200),
        ("evil.example:8090", 401),
        ("127.evil.example", 401),
        ("[", 401),
    ],
)
async def test_without_a_key_only_this_machines_own_names_are_answered(host: str, status: int) -> None:
    async with _client(None) as client:
        assert (await client.get("/v1/collections", headers={"host": host})).status_code == status


def test_settings_that_would_open_a_house_are_refused() -> None:
    with pytest.raises(ValidationError, match="--key"):
        EdgeSettings(folder="x", host="0.0.0.0")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="STOKER_API_KEY"):
        EdgeSettings(folder="x", central="http://central")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="no address"):
        EdgeSettings(folder="x", central="file:///etc/passwd", central_key="k")  # type: ignore[arg-type]


def test_answers_are_made_as_the_origin_has_it_whatever_stands_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STOKER_ANSWER_PASSAGES", "7")
    said = answering({"answer_generate": "quote", "data_dir": "/elsewhere", "host": "0.0.0.0"})
    assert said.answer_generate == "quote"
    assert said.answer_passages == 1
    assert said.host == "127.0.0.1"
