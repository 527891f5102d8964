"""Bad input gets the right status and a message that names the remedy; parts that are away are said to be away."""

import time

import httpx
import pytest

from monitoring.tally import PERIOD_S
from tests.support.stack import Stack

CHAT = {"model": "absent-model", "messages": [{"role": "user", "content": "hello"}]}


def error_of(answer: httpx.Response, status: int) -> dict[str, str]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    return dict(error)


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/embeddings", "/v1/query", "/v1/search", "/v1/ingest"])
@pytest.mark.parametrize("body", [b"", b"{", b'{"model": ', b"\xff\xfe", b"[]", b"null", b'"text"'])
def test_malformed_json_is_400(plain_stack: Stack, route: str, body: bytes) -> None:
    answer = plain_stack.client.post(route, content=body, headers={"content-type": "application/json"})
    assert error_of(answer, 400)["type"] == "invalid_request_error"


def test_an_unknown_model_is_404_and_the_known_ones_are_named(plain_stack: Stack) -> None:
    error = error_of(plain_stack.client.post("/v1/chat/completions", json={**CHAT, "model": "gpt-9"}), 404)
    assert error["code"] == "model_not_found"
    assert "absent-model" in error["message"]


def test_an_engine_that_is_away_is_503_with_retry_after(plain_stack: Stack) -> None:
    answer = plain_stack.client.post("/v1/chat/completions", json=CHAT)
    error_of(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


def test_a_stream_to_an_engine_that_is_away_fails_before_it_starts(plain_stack: Stack) -> None:
    answer = plain_stack.client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    error_of(answer, 503)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"model": None}, "model"),
        ({"n": 9}, "n"),
        ({"n": "two"}, "n"),
        ({"chat_template": "{{ x }}"}, "chat_template"),
        ({"api_base": "http://other.example"}, "api_base"),
        ({"retrieval": "demo"}, "retrieval"),
        ({"retrieval": {"collection": "demo"}, "n": 2}, "n"),
        ({"cache": "semantic"}, "cache"),
    ],
)
def test_a_wrong_chat_field_is_400_and_named(plain_stack: Stack, change: dict[str, object], param: str) -> None:
    assert error_of(plain_stack.client.post("/v1/chat/completions", json={**CHAT, **change}), 400)["param"] == param


@pytest.mark.parametrize("address", ["/v1/collections/a%00b", "/v1/feedback?model=%00", "/v1/jobs/%00?after=x"])
def test_a_zero_byte_in_an_address_is_400(plain_stack: Stack, address: str) -> None:
    assert "zero byte" in error_of(plain_stack.client.get(address), 400)["message"]


def test_unknown_routes_and_methods_have_the_envelope_too(plain_stack: Stack) -> None:
    assert error_of(plain_stack.client.get("/v1/nowhere"), 404)["code"] == "not_found"
    assert error_of(plain_stack.client.put("/v1/models"), 405)["code"] == "method_not_allowed"


@pytest.mark.parametrize("route", ["/v1/query", "/v1/search"])
def test_an_unknown_collection_is_404(plain_stack: Stack, route: str) -> None:
    error = error_of(plain_stack.client.post(route, json={"query": "x", "collection": "nowhere"}), 404)
    assert "nowhere" in error["message"]


def test_ingesting_into_an_unknown_collection_is_404_and_keeps_nothing(plain_stack: Stack) -> None:
    body = {"collection": "never-made", "documents": [{"content": "x"}]}
    error_of(plain_stack.client.post("/v1/ingest", json=body), 404)
    assert plain_stack.client.get("/v1/collections/never-made").status_code == 404


@pytest.mark.parametrize("field", [{"placement": "elsewhere"}, {"chunking": {"characters": 7}}, {"name": "a b"}])
def test_a_collection_that_cannot_be_made_is_400_and_is_not_made(plain_stack: Stack, field: dict[str, object]) -> None:
    answer = plain_stack.client.post("/v1/collections", json={"name": "not-made", **field})
    assert error_of(answer, 400)["param"] == next(iter(field))
    assert plain_stack.client.get("/v1/collections/not-made").status_code == 404


@pytest.mark.parametrize("field", [{"use_cache": "often"}, {"grounding": "some"}, {"unheard_of": 1}])
def test_a_field_that_a_query_cannot_honour_is_refused(plain_stack: Stack, field: dict[str, object]) -> None:
    plain_stack.client.post("/v1/collections", json={"name": "fields"})
    answer = plain_stack.client.post("/v1/query", json={"query": "x", "collection": "fields", **field})
    assert error_of(answer, 400)["param"] == next(iter(field))


def test_a_body_above_the_limit_is_413(plain_stack: Stack) -> None:
    with httpx.Client(base_url=plain_stack.url, headers=plain_stack.client.headers) as client:
        answer = client.post("/v1/chat/completions", content=b"x" * (65 * 1024 * 1024))
    error_of(answer, 413)


def test_a_clients_own_request_id_comes_back_and_a_hostile_one_does_not(plain_stack: Stack) -> None:
    kept = plain_stack.client.get("/v1/models", headers={"x-request-id": "trace-1"})
    assert kept.headers["x-request-id"] == "trace-1"
    replaced = plain_stack.client.get("/v1/models", headers={"x-request-id": 'a" onload="x'})
    assert replaced.headers["x-request-id"].startswith("req_")


def test_only_an_allowed_origin_gets_cors_headers_on_errors_too(plain_stack: Stack) -> None:
    for path in ("/v1/models", "/v1/nowhere"):
        allowed = httpx.get(plain_stack.url + path, headers={"origin": "https://allowed.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://allowed.example"
        other = httpx.get(plain_stack.url + path, headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


def test_readiness_names_every_part(plain_stack: Stack) -> None:
    answer = plain_stack.client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json()["parts"] == dict.fromkeys(("sql", "redis", "milvus", "embeddings"), "ok")


def test_the_openapi_description_holds_the_forwarded_routes(plain_stack: Stack) -> None:
    described = plain_stack.client.get("/openapi.json").json()
    chat = described["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert chat["required"] == ["messages", "model"]


def test_metrics_add_up_over_both_workers_and_name_routes_by_template(plain_stack: Stack) -> None:
    def count() -> float:
        time.sleep(2 * PERIOD_S)  # until both workers have passed on what they hold
        lines = httpx.get(f"{plain_stack.url}/metrics").text.splitlines()
        wanted = 'stoker_requests_total{method="GET",route="/v1/collections/{name}",status="404"}'
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(wanted))

    before = count()
    for turn in range(30):
        with httpx.Client(base_url=plain_stack.url, headers=plain_stack.client.headers) as client:
            client.get(f"/v1/collections/none-{turn}")  # a connection each, so that both workers get some
    assert count() - before == 30
    assert "none-3" not in httpx.get(f"{plain_stack.url}/metrics").text
