"""The client against a transport that answers in memory."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.client import Client, Event, parse_events
from cli.errors import ApiRefused, ApiUnreachable


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
