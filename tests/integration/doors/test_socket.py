"""`WS /v1/query/ws`: questions over one connection, through real sockets."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.integration.doors.conftest import (
    ASKED,
    CLOSED,
    OF_2024,
    OF_2025,
    OF_ANY,
    OWN_ORIGIN,
    SOURCED,
    begin,
    name,
    talk,
)
from tests.integration.hot.conftest import await_lines, new_key
from tests.integration.querywork.test_gateway import House

pytestmark = pytest.mark.slow  # a gateway, an ingestion worker and an index are started

Said = dict[str, Any]
UNCHECKED = {"grounding": "off", "max_tokens": 60}


class Line:
    """A client's end of a socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, kind: str, **fields: Any) -> None:
        self.connection.send(json.dumps({"type": kind, **fields}))

    def ask(self, **fields: Any) -> str:
        """Ask; the model says `house.says["said"]`. Returns: the question's id."""
        body = {"id": name(), "query": ASKED, "collection": "fares", "filter": OF_2024, "max_tokens": 64, **fields}
        self.say("query", **body)
        return str(body["id"])

    def hear(self) -> Said:
        said: Said = json.loads(self.connection.recv(timeout=20))
        return said

    def until(self, *events: str) -> list[Said]:
        """All that is heard up to one of these events."""
        heard = [self.hear()]
        while heard[-1]["event"] not in events:
            heard.append(self.hear())
        return heard

    def closed(self) -> int:
        """The code with which the gateway closes it, whatever it says before."""
        try:
            while True:
                self.connection.recv(timeout=20)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0


@contextmanager
def line(house: House, path: str = "/v1/query/ws", **how: Any) -> Iterator[Line]:
    address = house.gate.url.replace("http://", "ws://") + path
    with connect(address, proxy=None, open_timeout=20, **how) as connection:
        yield Line(connection)


@contextmanager
def known(house: House, key: str | None = None) -> Iterator[Line]:
    """A line on which somebody has said who is there."""
    with line(house) as one:
        one.say("auth", key=key or house.gate.key)
        assert one.hear() == {"event": "ready", "data": {}}
        yield one


def awaited(holds: Callable[[], bool], what: str, limit_s: float = 10) -> None:
    end_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def test_a_question_is_answered_with_the_events_of_its_stream(house: House) -> None:
    body = {"query": ASKED, "collection": "fares", "filter": OF_2024, "max_tokens": 64}
    whole = house.client.post("/v1/query", json=body, headers={"x-request-id": name()}).json()
    with known(house) as one:
        for _ in range(2):
            asked = one.ask()
            heard = one.until("done", "error")
            assert [said["event"] for said in heard] == ["retrieval", "token", "citation", "usage", "done"]
            assert {said["id"] for said in heard} == {asked}
            done = heard[-1]["data"]
            assert (done["answer"], done["citations"]) == (whole["answer"], whole["citations"])
            assert heard[1]["data"] == {"text": SOURCED}
            assert heard[3]["data"] == done["usage"] == whole["usage"]


def test_a_question_without_a_name_gets_one(house: House) -> None:
    with known(house) as one:
        one.say("query", query=ASKED, collection="fares")
        heard = one.until("done", "error")
        assert heard[-1]["event"] == "done"
        assert heard[0]["id"].startswith("req_")


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
def test_who_has_not_said_who_is_there_reads_nothing_and_is_closed(house: House, said: Said, code: str) -> None:
    seen = house.server.requests
    with line(house) as one:
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
    assert house.server.requests == seen


def test_who_says_nothing_is_closed_in_time(house: House) -> None:
    with line(house) as one:
        began_s = time.monotonic()
        assert "2 s" in one.hear()["data"]["error"]["message"]
        assert one.closed() == 1008
        assert 1.5 < time.monotonic() - began_s < 6


def test_a_role_that_may_not_ask_does_not_get_in(house: House) -> None:
    key = new_key(house.client, role="ingest")["key"]
    with line(house) as one:
        one.say("auth", key=key)
        assert one.hear()["data"]["error"]["code"] == "role_not_allowed"
        assert one.closed() == 1008


def test_a_question_that_is_cancelled_stops_its_model_and_frees_its_place(house: House) -> None:
    made = new_key(house.client, limits={"parallel": 1})
    house.says["said"] = "word " * 60
    house.server.pause_s, cancelled = 0.1, house.server.cancelled
    with known(house, made["key"]) as one:
        asked = one.ask(**UNCHECKED)
        one.until("token")
        began_s = time.monotonic()
        one.say("cancel", id=asked)
        heard = one.until("cancelled", "done", "error")
        assert heard[-1] == {"event": "cancelled", "id": asked, "data": {}}
        assert time.monotonic() - began_s < 1
        awaited(lambda: house.server.cancelled > cancelled, "the upstream goes on")
        (billed,) = await_lines(house.gate, 1, key_id=made["id"])
        assert 0 < billed["tokens_out"] < 30, "what was made is paid, and no more"
        house.server.pause_s, house.says["said"] = 0.0, SOURCED
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done", "its place is free"


def test_a_client_that_leaves_stops_its_model(house: House) -> None:
    house.says["said"] = "word " * 60
    house.server.pause_s, cancelled = 0.1, house.server.cancelled
    with known(house) as one:
        one.ask(**UNCHECKED)
        one.until("token")
    awaited(lambda: house.server.cancelled > cancelled, "the upstream goes on")


def test_one_question_is_answered_at_a_time(house: House) -> None:
    house.says["said"] = "word " * 10
    house.server.pause_s = 0.05
    with known(house) as one:
        first = one.ask(**UNCHECKED)
        one.until("token")
        second = one.ask()
        heard = one.until("done")
        (refused,) = [said for said in heard if said["event"] == "error"]
        assert (refused["id"], refused["data"]["error"]["code"]) == (second, "question_running")
        assert heard[-1]["id"] == first


def test_a_cancel_of_nothing_and_what_is_no_message_are_errors_of_their_own(house: House) -> None:
    with known(house) as one:
        for said in ('{"type": "cancel"}', "no json", "[]", '{"type": "dance"}', '{"type": "auth", "key": "k"}'):
            one.connection.send(said)
            heard = one.hear()
            assert (heard["event"], heard["data"]["status"]) == ("error", 400), said
        one.connection.send(b"bytes")
        assert one.hear()["event"] == "error"
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"collection": "nowhere"}, 404, "collection_not_found"),
        ({"top_k": 0}, 400, "invalid_request"),
        ({"model": "nobody"}, 404, "model_not_found"),
        ({"filter": {"type": "like"}}, 400, "filter_invalid"),
        ({"use_cache": True}, 400, "not_supported_yet"),
    ],
)
def test_a_question_that_goes_wrong_is_no_matter_of_the_next_one(
    house: House, fields: Said, status: int, code: str
) -> None:
    with known(house) as one:
        asked = one.ask(**fields)
        heard = one.hear()
        assert (heard["event"], heard["id"], heard["data"]["request_id"]) == ("error", asked, asked)
        assert (heard["data"]["status"], heard["data"]["error"]["code"]) == (status, code)
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done"


def test_a_key_that_is_revoked_asks_nothing_more(house: House) -> None:
    made = new_key(house.client)
    with known(house, made["key"]) as one:
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done"
        assert house.client.delete(f"/v1/admin/keys/{made['id']}").status_code == 200
        one.ask()
        heard = one.hear()
        assert (heard["data"]["status"], heard["data"]["error"]["code"]) == (401, "invalid_api_key")
        assert one.closed() == 1008


def test_limits_hold_for_each_question(house: House) -> None:
    made = new_key(house.client, limits={"rpm": 1, "burst": 1})
    with known(house, made["key"]) as one:
        one.ask()
        assert one.until("done", "error")[-1]["event"] == "done"
        one.ask()
        (refused,) = [said for said in one.until("done", "error") if said["event"] == "error"]
        assert (refused["data"]["status"], refused["data"]["error"]["code"]) == (429, "rate_limit_exceeded")
        assert refused["data"]["retry_after_s"] >= 1
    (billed,) = await_lines(house.gate, 1, key_id=made["id"])
    assert (billed["route"], billed["outcome"]) == ("/v1/query", "ok")


def test_nobody_reads_another_tenants_documents_or_what_he_may_not_read(house: House, stranger: str) -> None:
    with known(house, stranger) as one:
        one.ask()
        assert one.hear()["data"]["error"]["code"] == "collection_not_found"
    house.says["said"] = CLOSED
    only = {"query": "What will the winter fare of the ferry be?", "filter": OF_2025}
    with known(house, house.members["ann"]) as one:
        one.ask(**only)
        assert "twenty" in json.dumps(one.until("done", "error"))
    with known(house, house.members["bob"]) as one:
        for wanted in (only, {**only, "filter": OF_ANY}):
            asked = one.ask(**wanted)
            heard = one.until("done", "error")
            assert heard[-1]["event"] == "done"
            assert "twenty" not in json.dumps(heard)
            assert "twenty" not in json.dumps(house.chats(asked))


def test_a_question_belongs_to_its_conversation(house: House) -> None:
    ann = house.members["ann"]
    conversation = begin(house, ann)
    with known(house, ann) as one:
        one.ask(conversation_id=conversation)
        assert one.until("done", "error")[-1]["data"]["conversation_id"] == conversation
    assert talk(house, conversation, ann) == [("user", ASKED), ("assistant", SOURCED)]


def test_the_session_of_the_consoles_own_page_counts_and_no_other_page_may_use_it(house: House) -> None:
    with httpx.Client(base_url=house.gate.url, timeout=30) as page:
        page.post("/v1/session", json={"key": new_key(house.client)["key"]}).raise_for_status()
        cookie = {"cookie": f"stoker_session={page.cookies['stoker_session']}"}
        for origin in (house.gate.url, OWN_ORIGIN):
            with line(house, additional_headers=cookie, origin=origin) as one:
                assert one.hear() == {"event": "ready", "data": {}}
                one.ask()
                assert one.until("done", "error")[-1]["event"] == "done"
        for foreign in ({"origin": "https://evil.example"}, {"origin": "null"}, {}):
            with line(house, additional_headers=cookie, **foreign) as one:
                one.ask()
                assert one.hear()["data"]["error"]["code"] == "csrf_failed"
                assert one.closed() == 1008
        with line(house, additional_headers=cookie, origin="https://evil.example") as one:
            one.say("auth", key=house.gate.key)
            assert one.hear()["event"] == "ready", "a key that a page shows itself is its own"
        token = {"x-csrf-token": page.get("/v1/session").json()["csrf_token"]}
        with line(house, additional_headers=cookie, origin=house.gate.url) as one:
            assert one.hear()["event"] == "ready"
            assert page.delete("/v1/session", headers=token).status_code == 204
            one.ask()
            assert one.hear()["data"]["error"]["code"] == "session_ended"
            assert one.closed() == 1008


def test_a_message_that_is_too_large_and_a_silence_that_is_too_long_close_it(house: House) -> None:
    with known(house) as one:
        one.connection.send("x" * 100_000)
        assert one.closed() == 1009
    with known(house) as one:
        one.ask()
        one.until("done")
        began_s = time.monotonic()
        assert one.closed() == 1000
        assert 2.5 < time.monotonic() - began_s < 8


def test_a_long_answer_is_no_silence(house: House) -> None:
    house.says["said"] = "word " * 20
    house.server.pause_s = 0.25
    with known(house) as one:
        one.ask(**UNCHECKED)
        assert one.until("done", "error")[-1]["event"] == "done"


def test_there_is_no_socket_anywhere_else_and_no_page_where_it_is(house: House) -> None:
    for path in ("/v1/chat/completions", "/v1/query", "/", "/metrics"):
        with pytest.raises(InvalidStatus) as refused, line(house, path):
            pass
        response = refused.value.response
        assert response.status_code == 404
        error = json.loads(response.body or b"")["error"]
        assert (error["code"], "/v1/query/ws" in error["message"]) == ("not_found", True)
        assert response.headers["x-request-id"].startswith("req_")
    answer = house.client.get("/v1/query/ws")
    assert (answer.status_code, answer.json()["error"]["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"


def test_each_question_is_counted_and_logged_as_a_request_is(house: House) -> None:
    with known(house) as one:
        asked = one.ask()
        one.until("done")
    awaited(lambda: asked in house.gate.log, "no line in the log")
    (logged,) = [json.loads(text) for text in house.gate.log.splitlines() if asked in text]
    assert (logged["route"], logged["method"], logged["status"]) == ("/v1/query/ws", "WS", 200)
    assert (logged["model_group"], logged["degraded"]) == ("words", False)
    assert logged["tokens_out"] > 0
    assert 'method="WS",route="/v1/query/ws"' in house.client.get("/metrics").text
    assert "ws://" not in house.gate.log
    assert "[accepted]" not in house.gate.log


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
def test_what_is_no_handshake_is_answered_and_holds_no_connection(house: House, head: bytes, status: bytes) -> None:
    rest = b"host: gate\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.gate.port), timeout=20) as raw:
        raw.sendall(head + rest)
        assert raw.recv(12) == b"HTTP/1.1 " + status
