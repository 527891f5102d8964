"""The client against a transport that answers in memory."""

from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from cli.client import Client, Event, open_client, parse_events, server_of
from cli.errors import ApiRefused, ApiUnreachable, CliError
from cli.settings import ROOT, CliSettings


def _client(answer: httpx.Response | Exception) -> Client:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Client("http://stoker.test", "sk-stoker-x", httpx.MockTransport(handle))


def test_events_are_read_with_names_joined_data_and_without_comments() -> None:
    lines = [
        "event: token",
        'data: {"text": "a"}',
        "",
        ": keep alive",
        "",
        "data: [1,",
        "data: 2]",
        "",
        "event: cut",
        "data: 1",
    ]
    assert list(parse_events(lines)) == [Event("token", {"text": "a"}), Event("message", [1, 2])]


@given(st.lists(st.text(), max_size=40))
def test_no_stream_of_lines_breaks_the_parser(lines: list[str]) -> None:
    list(parse_events(lines))


def test_an_error_envelope_becomes_its_message_code_and_a_remedy() -> None:
    body = {
        "error": {"message": "no such key", "type": "authentication_error", "param": None, "code": "invalid_api_key"}
    }
    with pytest.raises(ApiRefused) as caught:
        _client(httpx.Response(401, json=body)).get("/v1/models")
    assert (caught.value.status, caught.value.code, caught.value.message) == (401, "invalid_api_key", "no such key")
    assert "STOKER_API_KEY" in caught.value.remedy


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 413, 415, 422, 429, 500, 502, 503, 504])
def test_every_refusal_has_a_remedy(status: int) -> None:
    with pytest.raises(ApiRefused) as caught:
        _client(httpx.Response(status, json={"error": {"message": "no", "code": None}})).get("/v1/models")
    assert len(caught.value.remedy) > 10


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("collection_not_found", "`./stoker collections list` shows them"),
        ("key_not_found", "give the id, from `./stoker keys list`"),
        ("model_not_found", "`./stoker status` shows the models"),
    ],
)
def test_what_is_not_found_is_looked_up_where_it_is_listed(code: str, remedy: str) -> None:
    with pytest.raises(ApiRefused) as caught:
        _client(httpx.Response(404, json={"error": {"message": "no", "code": code}})).get("/v1/models")
    assert caught.value.remedy == remedy
    assert f'"{code}"' in (ROOT / "api" / "errors.py").read_text()


def test_an_error_without_envelope_is_still_told() -> None:
    with pytest.raises(ApiRefused, match="HTTP 502: bad gateway"):
        _client(httpx.Response(502, text="bad gateway")).get("/v1/models")


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")]
)
def test_transport_failures_name_the_address(error: Exception) -> None:
    with pytest.raises(ApiUnreachable, match=r"http://stoker\.test"):
        _client(error).post("/v1/query", {})


def test_something_else_on_the_port_is_not_taken_for_stoker() -> None:
    with pytest.raises(ApiUnreachable, match="no Stoker"):
        _client(httpx.Response(200, text="<html>")).get("/health")


def test_pages_are_followed_by_cursor() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        after = request.url.params.get("after")
        pages = {
            None: {"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "last_id": "b"},
            "b": {"data": [{"id": "c"}], "has_more": False, "last_id": "c"},
        }
        return httpx.Response(200, json=pages[after])

    client = Client("http://stoker.test", "k", httpx.MockTransport(handle))
    assert [item["id"] for item in client.pages("/v1/things")] == ["a", "b", "c"]


_SECRET = "sk-stoker-0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (f"{_SECRET}\nid key_1, role member; the key is shown this once", "a line break or a space"),
        (f"{_SECRET} {_SECRET}", "a line break or a space"),
        (f"Bearer\t{_SECRET}", "a line break or a space"),
        (f"{_SECRET}ä", "signs that no key has"),
        (f"{_SECRET}\x00", "signs that no key has"),
    ],
)
def test_a_key_that_is_more_than_a_key_is_refused_where_it_is_read_and_never_shown(text: str, wrong: str) -> None:
    """`KEY=$(./stoker keys create NAME)` caught two lines, and the error of the HTTP library told the whole key."""
    settings = CliSettings(url="http://stoker.test", api_key=SecretStr(text))
    with pytest.raises(CliError, match=f"STOKER_API_KEY holds {wrong}") as caught:
        open_client(settings)
    assert "one line" in caught.value.remedy
    assert _SECRET not in caught.value.message + caught.value.remedy


def test_white_space_around_a_key_is_none_of_it(tmp_path: Path) -> None:
    assert server_of(CliSettings(url="http://stoker.test", api_key=SecretStr(f" {_SECRET}\n")))[1] == _SECRET
    (tmp_path / "admin.key").write_text(f"{_SECRET}\n")
    assert server_of(CliSettings(url="http://stoker.test", api_key=None, data_dir=tmp_path))[1] == _SECRET
    (tmp_path / "admin.key").write_text("")
    with pytest.raises(CliError, match=r"admin\.key is empty"):
        server_of(CliSettings(url="http://stoker.test", api_key=None, data_dir=tmp_path))


def test_what_a_library_says_of_a_header_reaches_nobody() -> None:
    told = httpx.LocalProtocolError(f"Illegal header value b'Bearer {_SECRET}'")
    with pytest.raises(ApiUnreachable) as caught:
        _client(told).get("/v1/models")
    assert _SECRET not in caught.value.message + caught.value.remedy
    assert "STOKER_API_KEY" in caught.value.remedy


@pytest.mark.parametrize(
    "url", ["http://me:hush@stoker.test:8080", "http://me:hu/sh@stoker.test", "http://me:hush@x:y"]
)
def test_a_password_in_the_address_is_not_shown(url: str) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(CliError) as caught:
        Client(url, "k", httpx.MockTransport(refuse)).get("/v1/models")
    assert "hu" not in caught.value.message + caught.value.remedy
