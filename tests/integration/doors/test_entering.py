"""Who gets into a socket, and what closes it: before a gateway without documents, where who is let in is told so."""

import json
import socket
import time
from contextlib import suppress

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.integration.doors.conftest import ASKED, OWN_ORIGIN
from tests.integration.doors.lines import Line, Said, known, line
from tests.integration.hot.conftest import new_key
from tests.integration.querywork.test_gateway import House

pytestmark = pytest.mark.slow  # a gateway is started


def let_in(one: Line) -> bool:
    """Whether the next word is that a question was read: there is no collection."""
    return one.refusal() == (404, "collection_not_found")


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"type": "query", "query": ASKED, "collection": "fares"}, "invalid_api_key"),
        ({"type": "cancel"}, "invalid_api_key"),
        ({"type": "auth", "key": "sk-stoker-wrong"}, "invalid_api_key"),
        ({"type": "auth"}, "invalid_request"),
        ({"type": "auth", "key": "x" * 20_000}, "body_too_large"),
    ],
)
def test_who_has_not_said_who_is_there_reads_nothing_and_is_closed(bare: House, said: Said, code: str) -> None:
    seen = bare.server.requests
    with line(bare) as one:
        one.connection.send(json.dumps(said))
        with suppress(ConnectionClosed):
            one.connection.send(json.dumps({"type": "query", "query": ASKED, "collection": "fares"}))
        heard = one.hear()
        assert (heard["event"], heard["data"]["error"]["code"]) == ("error", code)
        assert "sk-stoker-wrong" not in json.dumps(heard)
        with pytest.raises(ConnectionClosed) as closed:
            one.hear()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    assert bare.server.requests == seen


def test_who_says_nothing_is_closed_in_time(bare: House) -> None:
    with line(bare) as one:
        began_s = time.monotonic()
        assert "5 s" in one.hear()["data"]["error"]["message"]
        assert one.closed() == 1008
        assert 4.5 < time.monotonic() - began_s < 30


def test_a_role_that_may_not_ask_does_not_get_in(bare: House) -> None:
    key = new_key(bare.client, role="ingest")["key"]
    with line(bare) as one:
        one.say("auth", key=key)
        assert one.refusal() == (403, "role_not_allowed")
        assert one.closed() == 1008


def test_a_cancel_of_nothing_and_what_is_no_message_are_errors_of_their_own(bare: House) -> None:
    with known(bare) as one:
        for said in ('{"type": "cancel"}', "no json", "[]", '{"type": "dance"}', '{"type": "auth", "key": "k"}'):
            one.connection.send(said)
            heard = one.hear()
            assert (heard["event"], heard["data"]["status"]) == ("error", 400), said
        one.connection.send(b"bytes")
        assert one.hear()["event"] == "error"
        one.ask()
        assert let_in(one)


def test_a_key_that_is_revoked_asks_nothing_more(bare: House) -> None:
    made = new_key(bare.client)
    with known(bare, made["key"]) as one:
        one.ask()
        assert let_in(one)
        assert bare.client.delete(f"/v1/admin/keys/{made['id']}").status_code == 200
        one.ask()
        assert one.refusal() == (401, "invalid_api_key")
        assert one.closed() == 1008


def test_the_session_of_the_consoles_own_page_counts_and_no_other_page_may_use_it(bare: House) -> None:
    with httpx.Client(base_url=bare.gate.url, timeout=30) as page:
        page.post("/v1/session", json={"key": new_key(bare.client)["key"]}).raise_for_status()
        cookie = {"cookie": f"stoker_session={page.cookies['stoker_session']}"}
        for origin in (bare.gate.url, OWN_ORIGIN):
            with line(bare, additional_headers=cookie, origin=origin) as one:
                assert one.hear() == {"event": "ready", "data": {}}
                one.ask()
                assert let_in(one)
        for foreign in ({"origin": "https://evil.example"}, {"origin": "null"}, {}):
            with line(bare, additional_headers=cookie, **foreign) as one:
                one.ask()
                assert one.refusal() == (403, "csrf_failed")
                assert one.closed() == 1008
        with line(bare, additional_headers=cookie, origin="https://evil.example") as one:
            one.say("auth", key=bare.gate.key)
            assert one.hear()["event"] == "ready", "a key that a page shows itself is its own"
        token = {"x-csrf-token": page.get("/v1/session").json()["csrf_token"]}
        with line(bare, additional_headers=cookie, origin=bare.gate.url) as one:
            assert one.hear()["event"] == "ready"
            assert page.delete("/v1/session", headers=token).status_code == 204
            one.ask()
            assert one.refusal() == (401, "session_ended")
            assert one.closed() == 1008


def test_a_message_that_is_too_large_and_a_silence_that_is_too_long_close_it(bare: House) -> None:
    with known(bare) as one:
        one.connection.send("x" * 100_000)
        assert one.closed() == 1009
    with known(bare) as one:
        one.ask()
        assert let_in(one)
        began_s = time.monotonic()
        assert one.closed() == 1000
        assert 2.5 < time.monotonic() - began_s < 8


def test_there_is_no_socket_anywhere_else_and_no_page_where_it_is(bare: House) -> None:
    for path in ("/v1/chat/completions", "/v1/query", "/", "/metrics"):
        with pytest.raises(InvalidStatus) as refused, line(bare, path):
            pass
        response = refused.value.response
        assert response.status_code == 404
        error = json.loads(response.body or b"")["error"]
        assert (error["code"], "/v1/query/ws" in error["message"]) == ("not_found", True)
        assert response.headers["x-request-id"].startswith("req_")
    answer = bare.client.get("/v1/query/ws")
    assert (answer.status_code, answer.json()["error"]["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /v1/query/ws HTTP/1.1\r\n", b"400"),
        (b"GET /v1/query/ws?" + b"a" * 20_000 + b" HTTP/1.1\r\n", b"414"),
        (b"GET /v1/query/ws HTTP/1.1\r\ncontent-length: 5\r\n", b"401"),
        (b"POST /v1/query/ws HTTP/1.1\r\n", b"401"),
    ],
    ids=["without its key", "too long", "with a body", "no GET"],
)
def test_what_is_no_handshake_is_answered_and_holds_no_connection(bare: House, head: bytes, status: bytes) -> None:
    rest = b"host: gate\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
    with socket.create_connection(("127.0.0.1", bare.gate.port), timeout=12) as raw:
        raw.sendall(head + rest)
        heard = raw.recv(65536) if status == b"401" else ended(raw)  # a request that is none of a socket's may go on
        assert heard.startswith(b"HTTP/1.1 " + status)


def ended(raw: socket.socket) -> bytes:
    """All that comes until the gateway closes the connection; nothing where it does not."""
    said = b""
    try:
        while part := raw.recv(65536):
            said += part
    except TimeoutError:
        return b""
    return said
